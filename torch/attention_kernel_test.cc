#include "torch/module/attention_kernel.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>

namespace manta::models {
namespace {

uint16_t bits_of(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return static_cast<uint16_t>((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
}
float value_of(float number) { return number; }
float value_of(uint16_t bits) {
  const uint32_t wide = uint32_t{bits} << 16;
  float value;
  std::memcpy(&value, &wide, sizeof value);
  return value;
}
void set(float& number, float value) { number = value; }
void set(uint16_t& number, float value) { number = bits_of(value); }

/// One head between others in rows of 3 * hidden numbers, against sums in double; what lies beside the result must stay.
template <typename Number>
double largest_error(size_t length, size_t size, float spread, uint32_t seed) {
  const size_t heads = 3, stride = 3 * heads * size;
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, spread);
  std::vector<Number> rows(length * stride), out(length * heads * size);
  for (Number& number : rows) set(number, normal(random));
  for (Number& number : out) set(number, 7);
  const HeadView<Number> head{.query = &rows[size],
                              .key = &rows[(heads + 1) * size],
                              .value = &rows[(2 * heads + 1) * size],
                              .row_stride = stride,
                              .out = &out[size],
                              .out_stride = heads * size,
                              .length = length,
                              .head_size = size};
  AttentionWorkspace workspace;
  attend_head(head, workspace);

  double error = 0;
  for (size_t i = 0; i < length; ++i) {
    std::vector<double> weights(length);
    for (size_t j = 0; j < length; ++j) {
      for (size_t d = 0; d < size; ++d)
        weights[j] += double{value_of(head.query[i * stride + d])} * value_of(head.key[j * stride + d]);
      weights[j] /= std::sqrt(static_cast<double>(size));
    }
    const double top = *std::ranges::max_element(weights);
    double sum = 0;
    for (double& weight : weights) sum += weight = std::exp(weight - top);
    for (size_t d = 0; d < size; ++d) {
      double expected = 0;
      for (size_t j = 0; j < length; ++j) expected += weights[j] / sum * value_of(head.value[j * stride + d]);
      error = std::max(error, std::abs(expected - value_of(head.out[i * head.out_stride + d])));
      if (value_of(out[i * heads * size + d]) != 7 || value_of(out[i * heads * size + 2 * size + d]) != 7) return 1e9;
    }
  }
  return error;
}

TEST(AttentionKernel, EqualsPlainSumsAtEveryLength) {
  for (const size_t size : {size_t{32}, size_t{64}}) {
    if (!has_attention_kernel(size, false)) GTEST_SKIP() << "this CPU has no AVX-512";
    for (size_t length = 1; length <= 200; length += length < 70 ? 1 : 13)
      EXPECT_LT(largest_error<float>(length, size, 1, static_cast<uint32_t>(length)), 2e-6)
          << length << " tokens of " << size;
    EXPECT_LT(largest_error<float>(512, size, 1, 1), 2e-6);
  }
}

TEST(AttentionKernel, EqualsPlainSumsInBFloat16) {
  for (const size_t size : {size_t{32}, size_t{64}}) {
    if (!has_attention_kernel(size, true)) GTEST_SKIP() << "this CPU has no bfloat16 instructions";
    for (size_t length = 1; length <= 200; length += length < 70 ? 1 : 13)
      EXPECT_LT(largest_error<uint16_t>(length, size, 1, static_cast<uint32_t>(length)), 0.02)
          << length << " tokens of " << size;
  }
}

// Scores far apart: weights that vanish, and none that overflows.
TEST(AttentionKernel, StandsLargeScores) {
  if (!has_attention_kernel(32, false)) GTEST_SKIP() << "this CPU has no AVX-512";
  for (uint32_t seed = 0; seed < 20; ++seed) EXPECT_LT(largest_error<float>(33, 32, 8, seed), 1e-3) << "seed " << seed;
}

TEST(AttentionKernel, IsForTheHeadSizesItKnows) {
  EXPECT_FALSE(has_attention_kernel(8, false));
  EXPECT_FALSE(has_attention_kernel(48, false));
  EXPECT_FALSE(has_attention_kernel(128, true));
}

}  // namespace
}  // namespace manta::models

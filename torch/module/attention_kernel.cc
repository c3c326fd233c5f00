#include "torch/module/attention_kernel.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>

// The rest of the module runs on any x86-64; these functions only where has_attention_kernel() says so.
#define MANTA_AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl")))
#define MANTA_AVX512_BF16 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")))
#if defined(__clang__)
#define MANTA_UNROLL _Pragma("unroll")
#else
#define MANTA_UNROLL _Pragma("GCC unroll 32")
#endif

namespace manta::models {
namespace {

// A block is kRows queries by kVectors vectors of 16: 24 accumulators, which leaves registers for the operands.
template <int kVectors>
constexpr int kRowsFor = 24 / kVectors;

constexpr size_t kLanes = 16;

size_t padded(size_t length, int vectors) {
  const size_t step = kLanes * static_cast<size_t>(vectors);
  return (length + step - 1) / step * step;
}

/// 2^x for x <= 0, to about one unit in the last place of float32 over the range that matters.
MANTA_AVX512 inline __m512 exp2_of(__m512 x) {
  x = _mm512_max_ps(x, _mm512_set1_ps(-150.0f));
  const __m512 whole = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __m512 rest = _mm512_sub_ps(x, whole);  // in [-0.5, 0.5]
  __m512 y = _mm512_set1_ps(1.5403530e-4f);
  y = _mm512_fmadd_ps(y, rest, _mm512_set1_ps(1.3333558e-3f));
  y = _mm512_fmadd_ps(y, rest, _mm512_set1_ps(9.6181291e-3f));
  y = _mm512_fmadd_ps(y, rest, _mm512_set1_ps(5.5504109e-2f));
  y = _mm512_fmadd_ps(y, rest, _mm512_set1_ps(2.4022651e-1f));
  y = _mm512_fmadd_ps(y, rest, _mm512_set1_ps(6.9314718e-1f));
  y = _mm512_fmadd_ps(y, rest, _mm512_set1_ps(1.0f));
  return _mm512_scalef_ps(y, whole);
}

/// The row's first `length` scores to 2^(factor * (score - highest)), what follows to 0; returns one over their sum.
MANTA_AVX512 inline float soften(float* row, size_t length, size_t width, float factor) {
  const size_t full = length / kLanes * kLanes;
  const auto tail = static_cast<__mmask16>((1u << (length - full)) - 1);
  const __m512 lowest = _mm512_set1_ps(-INFINITY);
  __m512 highest = _mm512_mask_loadu_ps(lowest, tail, row + full);
  for (size_t j = 0; j < full; j += kLanes) highest = _mm512_max_ps(highest, _mm512_loadu_ps(row + j));
  const __m512 scale = _mm512_set1_ps(factor), top = _mm512_set1_ps(_mm512_reduce_max_ps(highest) * factor);
  __m512 sum = _mm512_setzero_ps();
  for (size_t j = 0; j < full; j += kLanes) {
    const __m512 y = exp2_of(_mm512_fmsub_ps(_mm512_loadu_ps(row + j), scale, top));
    sum = _mm512_add_ps(sum, y);
    _mm512_storeu_ps(row + j, y);
  }
  if (full < width) {
    const __m512 y = _mm512_maskz_mov_ps(tail, exp2_of(_mm512_fmsub_ps(_mm512_loadu_ps(row + full), scale, top)));
    sum = _mm512_add_ps(sum, y);
    _mm512_storeu_ps(row + full, y);
  }
  for (size_t j = full + kLanes; j < width; j += kLanes) _mm512_storeu_ps(row + j, _mm512_setzero_ps());
  return 1.0f / _mm512_reduce_add_ps(sum);
}

/// Columns of 16 rows to rows of 16 columns, 32 bits each: to[i * to_stride + j] = from[j * from_stride + i]. Rows from
/// `rows` on count as zeros.
MANTA_AVX512 inline void transpose_16(const float* from, size_t from_stride, size_t rows, float* to, size_t to_stride) {
  __m512 a[16], b[16];
  MANTA_UNROLL
  for (size_t i = 0; i < 16; ++i) a[i] = i < rows ? _mm512_loadu_ps(from + i * from_stride) : _mm512_setzero_ps();
  MANTA_UNROLL
  for (int i = 0; i < 16; i += 2) {
    b[i] = _mm512_unpacklo_ps(a[i], a[i + 1]);
    b[i + 1] = _mm512_unpackhi_ps(a[i], a[i + 1]);
  }
  MANTA_UNROLL
  for (int i = 0; i < 16; i += 4) {
    a[i] = _mm512_shuffle_ps(b[i], b[i + 2], 0x44);
    a[i + 1] = _mm512_shuffle_ps(b[i], b[i + 2], 0xEE);
    a[i + 2] = _mm512_shuffle_ps(b[i + 1], b[i + 3], 0x44);
    a[i + 3] = _mm512_shuffle_ps(b[i + 1], b[i + 3], 0xEE);
  }
  MANTA_UNROLL
  for (int i = 0; i < 16; i += 8) {
    MANTA_UNROLL
    for (int j = 0; j < 4; ++j) {
      b[i + j] = _mm512_shuffle_f32x4(a[i + j], a[i + j + 4], 0x88);
      b[i + j + 4] = _mm512_shuffle_f32x4(a[i + j], a[i + j + 4], 0xDD);
    }
  }
  MANTA_UNROLL
  for (size_t j = 0; j < 8; ++j) {
    const size_t low = (j / 4) * 4 + j % 4;
    _mm512_storeu_ps(to + low * to_stride, _mm512_shuffle_f32x4(b[j], b[j + 8], 0x88));
    _mm512_storeu_ps(to + (low + 8) * to_stride, _mm512_shuffle_f32x4(b[j], b[j + 8], 0xDD));
  }
}

// --- float32 ---

/// scores[r][j] = query r . key j, keys transposed to [head size][width].
template <int kVectors, int kRows>
MANTA_AVX512 inline void score(const float* query, size_t stride, const float* keys, size_t width, float* scores) {
  for (size_t j = 0; j < width; j += kLanes * kVectors) {
    __m512 sums[kRows][kVectors];
    MANTA_UNROLL
    for (int r = 0; r < kRows; ++r) {
      MANTA_UNROLL
      for (int v = 0; v < kVectors; ++v) sums[r][v] = _mm512_setzero_ps();
    }
    for (size_t d = 0; d < kLanes * kVectors; ++d) {
      __m512 key[kVectors];
      MANTA_UNROLL
      for (size_t v = 0; v < kVectors; ++v) key[v] = _mm512_loadu_ps(keys + d * width + j + v * kLanes);
      MANTA_UNROLL
      for (size_t r = 0; r < kRows; ++r) {
        const __m512 x = _mm512_set1_ps(query[r * stride + d]);
        MANTA_UNROLL
        for (int v = 0; v < kVectors; ++v) sums[r][v] = _mm512_fmadd_ps(x, key[v], sums[r][v]);
      }
    }
    MANTA_UNROLL
    for (size_t r = 0; r < kRows; ++r) {
      MANTA_UNROLL
      for (size_t v = 0; v < kVectors; ++v) _mm512_storeu_ps(scores + r * width + j + v * kLanes, sums[r][v]);
    }
  }
}

/// out[r] = factors[r] * sum over j of weights[r][j] * value j.
template <int kVectors, int kRows>
MANTA_AVX512 inline void weigh(const float* weights, size_t width, const float* factors, const HeadView<float>& head,
                               float* out) {
  __m512 sums[kRows][kVectors];
  MANTA_UNROLL
  for (int r = 0; r < kRows; ++r) {
    MANTA_UNROLL
    for (int v = 0; v < kVectors; ++v) sums[r][v] = _mm512_setzero_ps();
  }
  for (size_t j = 0; j < head.length; ++j) {
    __m512 value[kVectors];
    MANTA_UNROLL
    for (size_t v = 0; v < kVectors; ++v) value[v] = _mm512_loadu_ps(head.value + j * head.row_stride + v * kLanes);
    MANTA_UNROLL
    for (size_t r = 0; r < kRows; ++r) {
      const __m512 x = _mm512_set1_ps(weights[r * width + j]);
      MANTA_UNROLL
      for (int v = 0; v < kVectors; ++v) sums[r][v] = _mm512_fmadd_ps(x, value[v], sums[r][v]);
    }
  }
  MANTA_UNROLL
  for (size_t r = 0; r < kRows; ++r) {
    MANTA_UNROLL
    for (size_t v = 0; v < kVectors; ++v)
      _mm512_storeu_ps(out + r * head.out_stride + v * kLanes, _mm512_mul_ps(sums[r][v], _mm512_set1_ps(factors[r])));
  }
}

template <int kVectors, int kRows>
MANTA_AVX512 void attend_rows(const HeadView<float>& head, size_t first, const float* keys, size_t width, float* scores) {
  float factors[kRows];
  const float factor = 1.44269504f / std::sqrt(static_cast<float>(head.head_size));  // for powers of 2 in place of e
  score<kVectors, kRows>(head.query + first * head.row_stride, head.row_stride, keys, width, scores);
  for (size_t r = 0; r < kRows; ++r) factors[r] = soften(scores + r * width, head.length, width, factor);
  weigh<kVectors, kRows>(scores, width, factors, head, head.out + first * head.out_stride);
}

template <int kVectors>
MANTA_AVX512 void attend(const HeadView<float>& head, AttentionWorkspace& workspace) {
  constexpr size_t kRows = kRowsFor<kVectors>;
  const size_t width = padded(head.length, kVectors), size = kLanes * kVectors;
  workspace.resize(width * (size + kRows));
  float* const keys = workspace.data();
  float* const scores = keys + width * size;
  for (size_t j = 0; j < width; j += kLanes)
    for (size_t d = 0; d < size; d += kLanes)
      transpose_16(head.key + j * head.row_stride + d, head.row_stride, head.length > j ? head.length - j : 0,
                   keys + d * width + j, width);
  size_t row = 0;
  for (; row + kRows <= head.length; row += kRows) attend_rows<kVectors, kRows>(head, row, keys, width, scores);
  if (row < head.length && head.length >= kRows)  // the last rows again with some before them: the same numbers
    return attend_rows<kVectors, kRows>(head, head.length - kRows, keys, width, scores);
  for (; row < head.length; ++row) attend_rows<kVectors, 1>(head, row, keys, width, scores);
}

// --- bfloat16: products of pairs ---

struct Bf16Buffers {
  const uint32_t* keys;    ///< [head size / 2][width]: two numbers of a key in each.
  const uint32_t* values;  ///< [width / 2][head size]: one number of two values in each.
  float* scores;           ///< [rows][width]
  uint16_t* weights;       ///< [rows][width]
  size_t width;
};

MANTA_AVX512_BF16 inline __m512 pair_at(const uint16_t* at) {
  int32_t pair;
  __builtin_memcpy(&pair, at, sizeof pair);
  return _mm512_castsi512_ps(_mm512_set1_epi32(pair));
}

MANTA_AVX512_BF16 inline __m512 multiply_pairs(__m512 sum, __m512 a, __m512 b) {
  return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
}

/// sums[r][v] += over `pairs` of x[r][i] * operand[i][16 v ...], all of them pairs; then to `emit` rows.
template <int kVectors, int kRows>
MANTA_AVX512_BF16 inline void multiply(const uint16_t* x, size_t x_stride, const uint32_t* operand, size_t operand_stride,
                                       size_t pairs, __m512 (&sums)[kRows][kVectors]) {
  MANTA_UNROLL
  for (int r = 0; r < kRows; ++r) {
    MANTA_UNROLL
    for (int v = 0; v < kVectors; ++v) sums[r][v] = _mm512_setzero_ps();
  }
  for (size_t i = 0; i < pairs; ++i) {
    __m512 right[kVectors];
    MANTA_UNROLL
    for (size_t v = 0; v < kVectors; ++v) right[v] = _mm512_loadu_ps(operand + i * operand_stride + v * kLanes);
    MANTA_UNROLL
    for (size_t r = 0; r < kRows; ++r) {
      const __m512 left = pair_at(x + r * x_stride + 2 * i);
      MANTA_UNROLL
      for (int v = 0; v < kVectors; ++v) sums[r][v] = multiply_pairs(sums[r][v], left, right[v]);
    }
  }
}

template <int kVectors, int kRows>
MANTA_AVX512_BF16 void attend_rows(const HeadView<uint16_t>& head, size_t first, const Bf16Buffers& buffers) {
  const size_t width = buffers.width;
  const float factor = 1.44269504f / std::sqrt(static_cast<float>(head.head_size));
  float factors[kRows];
  __m512 sums[kRows][kVectors];
  for (size_t j = 0; j < width; j += kLanes * kVectors) {
    multiply<kVectors, kRows>(head.query + first * head.row_stride, head.row_stride, buffers.keys + j, width,
                              head.head_size / 2, sums);
    MANTA_UNROLL
    for (size_t r = 0; r < kRows; ++r) {
      MANTA_UNROLL
      for (size_t v = 0; v < kVectors; ++v) _mm512_storeu_ps(buffers.scores + r * width + j + v * kLanes, sums[r][v]);
    }
  }
  for (size_t r = 0; r < kRows; ++r) {
    float* const row = buffers.scores + r * width;
    factors[r] = soften(row, head.length, width, factor);
    for (size_t j = 0; j < width; j += kLanes)
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(buffers.weights + r * width + j),
                          reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(_mm512_loadu_ps(row + j))));
  }
  multiply<kVectors, kRows>(buffers.weights, width, buffers.values, head.head_size, (head.length + 1) / 2, sums);
  MANTA_UNROLL
  for (size_t r = 0; r < kRows; ++r) {
    MANTA_UNROLL
    for (size_t v = 0; v < kVectors; ++v) {
      const __m512 made = _mm512_mul_ps(sums[r][v], _mm512_set1_ps(factors[r]));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(head.out + (first + r) * head.out_stride + v * kLanes),
                          reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(made)));
    }
  }
}

/// Two rows of numbers to one of pairs, 16 at a time. Without a second row its numbers are 0.
MANTA_AVX512_BF16 inline void interleave(const uint16_t* even, const uint16_t* odd, size_t size, uint32_t* pairs) {
  for (size_t d = 0; d < size; d += kLanes) {
    const __m512i low = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(even + d)));
    __m512i high = _mm512_setzero_si512();
    if (odd != nullptr) high = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(odd + d)));
    _mm512_storeu_si512(pairs + d, _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
  }
}

template <int kVectors>
MANTA_AVX512_BF16 void attend(const HeadView<uint16_t>& head, AttentionWorkspace& workspace) {
  constexpr size_t kRows = kRowsFor<kVectors>;
  const size_t width = padded(head.length, kVectors), size = kLanes * kVectors;
  workspace.resize(width * (size / 2 + size / 2 + kRows + kRows / 2));
  float* const keys = workspace.data();
  auto* const values = reinterpret_cast<uint32_t*>(keys + width * size / 2);
  float* const scores = keys + width * size;
  auto* const weights = reinterpret_cast<uint16_t*>(scores + width * kRows);

  // A key's pairs are the 32-bit words it already lies in: the transposition moves them whole. A row's stride is even.
  for (size_t j = 0; j < width; j += kLanes)
    for (size_t d = 0; d < size / 2; d += kLanes)
      transpose_16(reinterpret_cast<const float*>(head.key + j * head.row_stride) + d, head.row_stride / 2,
                   head.length > j ? head.length - j : 0, keys + d * width + j, width);
  for (size_t j = 0; j < head.length; j += 2)
    interleave(head.value + j * head.row_stride, j + 1 < head.length ? head.value + (j + 1) * head.row_stride : nullptr,
               size, values + j / 2 * size);

  const Bf16Buffers buffers{reinterpret_cast<const uint32_t*>(keys), values, scores, weights, width};
  size_t row = 0;
  for (; row + kRows <= head.length; row += kRows) attend_rows<kVectors, kRows>(head, row, buffers);
  if (row < head.length && head.length >= kRows) return attend_rows<kVectors, kRows>(head, head.length - kRows, buffers);
  for (; row < head.length; ++row) attend_rows<kVectors, 1>(head, row, buffers);
}

}  // namespace

bool has_attention_kernel(size_t head_size, bool bfloat16) {
  if (head_size != 32 && head_size != 64) return false;
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl") && (!bfloat16 || __builtin_cpu_supports("avx512bf16"));
}

void attend_head(const HeadView<float>& head, AttentionWorkspace& workspace) {
  head.head_size == 32 ? attend<2>(head, workspace) : attend<4>(head, workspace);
}

void attend_head(const HeadView<uint16_t>& head, AttentionWorkspace& workspace) {
  head.head_size == 32 ? attend<2>(head, workspace) : attend<4>(head, workspace);
}

}  // namespace manta::models

#else

namespace manta::models {
bool has_attention_kernel(size_t, bool) { return false; }
void attend_head(const HeadView<float>&, AttentionWorkspace&) {}
void attend_head(const HeadView<uint16_t>&, AttentionWorkspace&) {}
}  // namespace manta::models

#endif

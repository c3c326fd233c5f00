// A store smaller than what the program holds: values go to disk and come back, through the public API.
#include "tests/runtime/program.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

namespace program {
namespace {

constexpr size_t kDoubles = (size_t{4} << 20) / sizeof(double);

manta::Array<double> numbered(int i) {
  std::vector<double> values(kDoubles);
  std::iota(values.begin(), values.end(), i * 1e6);
  return manta::Array<double>(values);
}
bool is_numbered(const manta::Array<double>& values, int i) {
  if (values.size() != kDoubles) return false;
  for (size_t k = 0; k < kDoubles; ++k) {
    if (values[k] != i * 1e6 + static_cast<double>(k)) return false;
  }
  return true;
}

TEST(Spilling, ValuesOfFiveTimesTheStoreComeBackWhole) {
  std::vector<manta::Ref<manta::Array<double>>> refs;
  for (int i = 0; i < 40; ++i) refs.push_back(manta::put(numbered(i)));
  for (int i = 0; i < 40; ++i) EXPECT_TRUE(is_numbered(refs[static_cast<size_t>(i)].get(), i)) << i;
  // As arguments in other processes, and back.
  for (int i = 0; i < 40; i += 7) {
    const double first = i * 1e6, last = first + kDoubles - 1;
    EXPECT_DOUBLE_EQ(manta::remote<&sum_array>(refs[static_cast<size_t>(i)]).get(), (first + last) / 2 * kDoubles);
  }
}

}  // namespace
}  // namespace program

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  ::setenv("MANTA_STORE_BYTES", "33554432", 1);
  return manta::run(argc, argv, [] { return RUN_ALL_TESTS(); });
}

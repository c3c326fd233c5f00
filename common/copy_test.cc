#include "common/copy.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

namespace manta {
namespace {

TEST(CopyBytes, CopiesAllAndNothingElse) {
  constexpr size_t kMiB = size_t{1} << 20;
  std::vector<unsigned char> from(9 * kMiB);
  for (size_t i = 0; i < from.size(); ++i) from[i] = static_cast<unsigned char>(i * 31 + (i >> 12));
  for (const size_t size : {size_t{0}, size_t{1}, size_t{100'000}, 4 * kMiB - 1, 4 * kMiB, 4 * kMiB + 77, 8 * kMiB + 63}) {
    for (const size_t shift : {size_t{0}, size_t{1}, size_t{16}, size_t{63}}) {
      std::vector<unsigned char> to(size + 256, 0xee);
      copy_bytes(to.data() + 64 + shift, from.data() + 7, size);
      ASSERT_TRUE(std::equal(from.begin() + 7, from.begin() + 7 + static_cast<ptrdiff_t>(size),
                             to.begin() + 64 + static_cast<ptrdiff_t>(shift)))
          << size << " at " << shift;
      for (size_t i = 0; i < 64 + shift; ++i) ASSERT_EQ(to[i], 0xee);
      for (size_t i = 64 + shift + size; i < to.size(); ++i) ASSERT_EQ(to[i], 0xee);
    }
  }
}

}  // namespace
}  // namespace manta

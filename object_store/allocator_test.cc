#include "object_store/allocator.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace manta::object_store {
namespace {

TEST(Allocator, FirstFitAlignedAndMerging) {
  Allocator allocator(1024);
  uint64_t a = *allocator.allocate(1), b = *allocator.allocate(65), c = *allocator.allocate(64);
  EXPECT_EQ(a, 0u);
  EXPECT_EQ(b, 64u);
  EXPECT_EQ(c, 192u);
  EXPECT_EQ(allocator.used_bytes(), 256u);
  EXPECT_TRUE(allocator.give_back(b, 65));
  EXPECT_EQ(*allocator.allocate(128), 64u);  // the hole is found again
  EXPECT_FALSE(allocator.allocate(1024));
  EXPECT_TRUE(allocator.give_back(a, 1));
  EXPECT_TRUE(allocator.give_back(c, 64));
  EXPECT_TRUE(allocator.give_back(64, 128));
  EXPECT_TRUE(allocator.is_empty());
  EXPECT_EQ(*allocator.allocate(1024), 0u);  // all merged
}

TEST(Allocator, RefusesWhatItDidNotGive) {
  Allocator allocator(1024);
  EXPECT_FALSE(allocator.give_back(0, 64));
  uint64_t at = *allocator.allocate(200);
  EXPECT_FALSE(allocator.give_back(at + 1, 64));
  EXPECT_FALSE(allocator.give_back(at, 300));
  EXPECT_FALSE(allocator.give_back(960, 128));
  EXPECT_FALSE(allocator.give_back(at, ~uint64_t{0}));
  EXPECT_TRUE(allocator.give_back(at, 200));
  EXPECT_FALSE(allocator.give_back(at, 200));
  EXPECT_FALSE(allocator.allocate(~uint64_t{0}));
  EXPECT_TRUE(allocator.allocate(0));
}

TEST(Allocator, GivesUpItsFreeEnd) {
  Allocator allocator(16'384);
  EXPECT_EQ(allocator.cut_tail(4096), 0u);
  EXPECT_FALSE(allocator.allocate(1));
  Allocator other(16'384);
  uint64_t first = *other.allocate(5'000), second = *other.allocate(100);
  EXPECT_EQ(other.cut_tail(4096), 8'192u);
  EXPECT_EQ(other.cut_tail(4096), 8'192u);
  EXPECT_FALSE(other.allocate(8'000));
  EXPECT_TRUE(other.give_back(first, 5'000));
  EXPECT_EQ(other.cut_tail(4096), 8'192u);  // an object lies near its end
  EXPECT_TRUE(other.give_back(second, 100));
  EXPECT_EQ(other.cut_tail(4096), 0u);
  EXPECT_TRUE(other.is_empty());
}

TEST(Allocator, RandomExtentsNeverOverlap) {
  unsigned seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  constexpr uint64_t kBytes = 1 << 16;
  Allocator allocator(kBytes);
  std::vector<int> owner(kBytes, 0);
  std::vector<std::pair<uint64_t, uint64_t>> out;
  for (int round = 1; round < 20'000; ++round) {
    if (random() % 2 == 0 || out.empty()) {
      uint64_t size = random() % (random() % 10 == 0 ? 20'000 : 600) + 1;
      std::optional<uint64_t> at = allocator.allocate(size);
      if (!at) continue;
      ASSERT_EQ(*at % 64, 0u);
      ASSERT_LE(*at + size, kBytes);
      for (uint64_t i = *at; i < *at + size; ++i) ASSERT_EQ(std::exchange(owner[i], round), 0);
      out.emplace_back(*at, size);
    } else {
      size_t victim = random() % out.size();
      auto [at, size] = out[victim];
      for (uint64_t i = at; i < at + size; ++i) owner[i] = 0;
      ASSERT_TRUE(allocator.give_back(at, size));
      out.erase(out.begin() + static_cast<ptrdiff_t>(victim));
    }
  }
  for (auto [at, size] : out) ASSERT_TRUE(allocator.give_back(at, size));
  EXPECT_TRUE(allocator.is_empty());
  EXPECT_TRUE(allocator.allocate(kBytes));
}

}  // namespace
}  // namespace manta::object_store

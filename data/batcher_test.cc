#include "data/batcher.h"

#include <gtest/gtest.h>

#include <random>

namespace manta::data {
namespace {

/// (block, row) of each row of the slices.
std::vector<std::pair<BlockId, int64_t>> rows_of(const std::vector<Slice>& slices) {
  std::vector<std::pair<BlockId, int64_t>> out;
  for (const Slice& slice : slices) {
    for (int64_t i = 0; i < slice.length; ++i) out.emplace_back(slice.block, slice.offset + i);
  }
  return out;
}

TEST(Batcher, CutsRandomBlocksAsANaiveModelDoes) {
  for (unsigned seed = 0; seed < 200; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937 random(seed);
    const int64_t size = 1 + static_cast<int64_t>(random() % 17);
    Batcher batcher({.rows = size});
    std::vector<std::pair<BlockId, int64_t>> all, got;
    const unsigned blocks = random() % 20;
    const auto drain = [&](bool closed) {
      while (batcher.is_ready()) {
        const auto batch = rows_of(batcher.take());
        ASSERT_TRUE(static_cast<int64_t>(batch.size()) == size || (closed && batcher.rows() == 0)) << batch.size();
        got.insert(got.end(), batch.begin(), batch.end());
      }
    };
    for (BlockId id = 1; id <= blocks; ++id) {
      const Slice slice{id, static_cast<int64_t>(random() % 5), static_cast<int64_t>(random() % 40), 1000};
      const auto rows = rows_of({slice});
      all.insert(all.end(), rows.begin(), rows.end());
      batcher.add(slice);
      if (random() % 2) drain(false);
    }
    batcher.close();
    const int64_t left = batcher.rows();
    EXPECT_EQ(batcher.ready_count(), (left + size - 1) / size);
    drain(true);
    EXPECT_EQ(got, all);
    EXPECT_EQ(batcher.rows(), 0);
    EXPECT_EQ(batcher.bytes(), 0);
  }
}

TEST(Batcher, GathersWholeSlicesByBytes) {
  Batcher batcher({.bytes = 100});
  batcher.add({1, 0, 10, 60});
  EXPECT_FALSE(batcher.is_ready());
  batcher.add({2, 0, 10, 60});
  ASSERT_TRUE(batcher.is_ready());
  EXPECT_EQ(batcher.take().size(), 2u);
  batcher.add({3, 0, 1, 1});
  EXPECT_FALSE(batcher.is_ready());
  batcher.close();
  ASSERT_TRUE(batcher.is_ready());
  EXPECT_EQ(batcher.take().front().block, 3u);
}

TEST(Batcher, TakesBlocksAsTheyComeWithoutARule) {
  Batcher batcher({});
  batcher.add({1, 3, 4, 8});
  batcher.add({2, 0, 0, 0});
  EXPECT_EQ(batcher.ready_count(), 1);
  EXPECT_EQ(batcher.take().front().offset, 3);
  EXPECT_FALSE(batcher.is_ready());
}

}  // namespace
}  // namespace manta::data

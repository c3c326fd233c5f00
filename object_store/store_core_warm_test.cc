#include "object_store/core_model.h"

#include <gtest/gtest.h>

namespace manta::object_store {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::kMiB;
using Node = testing::ModelNode;

constexpr uint64_t kCapacity = 256 * kMiB;
constexpr uint64_t kPrepared = 32 * kMiB;  // 4 MiB for small objects, 28 MiB for a large one

class PreparedMemory : public ::testing::Test {
 protected:
  [[nodiscard]] uint64_t warm() const { return node_.core.counts().warm_bytes; }
  /// Ticks at the core's own deadlines, up to a time from now.
  void pass(milliseconds by) {
    const Time end = node_.now + by;
    for (auto due = node_.core.next_deadline(); due && *due <= end; due = node_.core.next_deadline()) {
      node_.now = std::max(node_.now, *due);
      node_.step(event::Tick{});
      node_.core.check_invariants();
      ASSERT_FALSE(node_.core.next_deadline() == due) << "a deadline that stays";
    }
    node_.now = end;
  }
  Node node_{kCapacity, 0, kPrepared};
};

TEST_F(PreparedMemory, IsMadeSomeTimeAfterTheFirstClientAndNotForMore) {
  node_.join(1);
  pass(milliseconds(199));
  EXPECT_EQ(warm(), 0u);
  pass(milliseconds(1));
  EXPECT_EQ(warm(), kPrepared);
  EXPECT_EQ(node_.prepared.size(), 2u);
  node_.join(2);
  pass(seconds(10));
  EXPECT_EQ(warm(), kPrepared);
}

TEST_F(PreparedMemory, IsGrantedToWhoeverItFitsAndMadeAgain) {
  node_.join(1);
  pass(seconds(1));
  node_.put({1, 27 * kMiB, 1, true});
  EXPECT_EQ(node_.objects.at(0).at.segment, node_.prepared.at(1).value);
  EXPECT_EQ(warm(), 4 * kMiB);
  node_.put({1, 1'000, 1});
  EXPECT_EQ(node_.objects.at(1).at.segment, node_.prepared.at(0).value);
  EXPECT_EQ(warm(), 0u);
  pass(milliseconds(999));
  EXPECT_EQ(warm(), 0u);
  pass(milliseconds(1));
  EXPECT_EQ(warm(), kPrepared);
}

TEST_F(PreparedMemory, GoesWhenNobodyNeedsIt) {
  node_.join(1);
  pass(milliseconds(60'000 - 1));
  EXPECT_EQ(warm(), kPrepared);
  pass(milliseconds(1));
  EXPECT_EQ(warm(), 0u);
  pass(seconds(600));
  EXPECT_EQ(warm(), 0u);
  node_.put({1, 100 * kMiB, 1, true});  // none is ready: there is need for it again
  pass(seconds(1));
  EXPECT_EQ(warm(), kPrepared);
}

TEST_F(PreparedMemory, IsTheFirstToGoWhenMemoryIsShort) {
  node_.join(1);
  pass(seconds(1));
  node_.put({1, 255 * kMiB, 1, true});
  EXPECT_EQ(node_.objects.size(), 1u);
  pass(seconds(10));
  EXPECT_EQ(warm(), 0u) << "there is no plenty to prepare from";
}

TEST_F(PreparedMemory, OfWhichTheMachineHasNoneIsForgotten) {
  node_.join(1);
  pass(seconds(1));
  for (const SegmentId id : node_.prepared) node_.step(event::Failed{{}, id});
  node_.core.check_invariants();
  EXPECT_EQ(node_.core.counts().held_bytes, 0u);
}

TEST_F(PreparedMemory, IsAnEighthOfASmallStoreAtMost) {
  Node small(64 * kMiB, 0, kPrepared);
  small.join(1);
  small.advance(seconds(1));
  EXPECT_EQ(small.core.counts().warm_bytes, 1 * kMiB) << "too little for a large object: for small ones only";
}

TEST_F(PreparedMemory, IsNotMadeForNobody) {
  node_.join(1);
  node_.kill(1);
  pass(seconds(10));
  EXPECT_EQ(warm(), 0u);
}

}  // namespace
}  // namespace manta::object_store

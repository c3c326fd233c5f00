// StoreCore's copies of other nodes' objects, and what it tells of its own.
#include "object_store/core_model.h"

#include <gtest/gtest.h>

namespace manta::object_store {
namespace {

using Node = testing::ModelNode;
using testing::kMiB;
using testing::milliseconds;

class StoreCoreCopies : public ::testing::Test {
 protected:
  StoreCoreCopies() {
    node.join(1);
    node.join(2);
  }
  ~StoreCoreCopies() override { node.core.check_invariants(); }

  Node node{64 * kMiB, 0};
};

TEST_F(StoreCoreCopies, ManyReadersShareOnePull) {
  Node::Object& object = node.add_remote(9, kMiB);
  const uint64_t first = node.read(1, object), second = node.read(2, object);
  ASSERT_EQ(node.pulls.size(), 1u);
  EXPECT_EQ(node.pulls[0].from.segment, object.at.segment);
  EXPECT_EQ(node.pulls[0].deadline, node.now + milliseconds(1'000));
  EXPECT_FALSE(node.answers.contains(first));
  node.finish_pull(0);
  EXPECT_TRUE(node.answers.at(first).ok() && node.answers.at(second).ok());
  EXPECT_EQ(node.pins.size(), 2u);
  const StoreCore::Counts counts = node.core.counts();
  EXPECT_EQ(counts.copies, 1u);
  EXPECT_EQ(counts.copy_bytes, kMiB);
  EXPECT_EQ(counts.objects, 0u) << "it is another node's";
  EXPECT_TRUE(node.answers.at(node.read(1, object)).ok()) << "it is here";
  EXPECT_TRUE(node.pulls.empty());
}

TEST_F(StoreCoreCopies, MemoryIsMadeByDroppingThemWithoutADisk) {
  for (int i = 0; i < 8; ++i) {
    node.read(1, node.add_remote(9, 20 * kMiB));
    ASSERT_EQ(node.pulls.size(), 1u) << i;
    node.finish_pull(0);
    node.unpin(0);
    node.advance(milliseconds(200));  // no longer about to be pinned
  }
  EXPECT_EQ(node.core.counts().copies, 3u);
  node.put({2, 40 * kMiB, 2, true});  // an object of this node's has the same right to the memory
  EXPECT_FALSE(node.objects.back().is_remote());
  EXPECT_EQ(node.core.counts().copies, 1u);
  node.read(1, node.objects[0]);  // pulled again
  ASSERT_EQ(node.pulls.size(), 1u);
}

TEST_F(StoreCoreCopies, APinnedOneStaysAndWhoNeedsItsMemoryIsRefusedInTime) {
  node.read(1, node.add_remote(9, 50 * kMiB));
  node.finish_pull(0);
  Node::Object& second = node.add_remote(9, 40 * kMiB);
  const uint64_t request = node.read(2, second, 500);
  EXPECT_TRUE(node.pulls.empty());
  node.advance(milliseconds(400));
  EXPECT_FALSE(node.answers.contains(request));
  node.advance(milliseconds(200));
  EXPECT_EQ(node.answers.at(request).code(), Code::kFull);
  EXPECT_EQ(node.core.counts().waiting_restores, 0u);
}

TEST_F(StoreCoreCopies, FreedWhileItIsPulledIsLostAtOnceAndItsMemoryComesBackAfterwards) {
  Node::Object& object = node.add_remote(9, 20 * kMiB);
  const uint64_t request = node.read(1, object);
  node.free(object);
  EXPECT_EQ(node.answers.at(request).code(), Code::kLost);
  EXPECT_EQ(node.answers.at(node.read(2, object)).code(), Code::kLost);
  node.finish_pull(0);
  node.advance(milliseconds(30));
  EXPECT_EQ(node.core.counts().copies + node.core.counts().pulls, 0u);
  EXPECT_EQ(node.core.counts().held_bytes, node.core.counts().warm_bytes);
}

TEST_F(StoreCoreCopies, WhoHasMoreTimeThanThePullHadIsPulledForAgain) {
  Node::Object& object = node.add_remote(9, kMiB);
  const uint64_t hasty = node.read(1, object, 500);
  const uint64_t patient = node.read(2, object, 5'000);
  node.advance(milliseconds(600));
  EXPECT_EQ(node.answers.at(hasty).code(), Code::kTimeout) << "whatever becomes of the pull";
  node.finish_pull(0, Status(Code::kUnavailable, "no route"));
  EXPECT_FALSE(node.answers.contains(patient));
  ASSERT_EQ(node.pulls.size(), 1u);
  EXPECT_GT(node.pulls[0].deadline, node.now + milliseconds(4'000));
  node.finish_pull(0);
  EXPECT_TRUE(node.answers.at(patient).ok());
}

TEST_F(StoreCoreCopies, WhoIsPatientWaitsWhileItComes) {
  Node::Object& object = node.add_remote(9, kMiB);
  const uint64_t patient = node.read(1, object, 500, true);
  EXPECT_EQ(node.pulls[0].patience, milliseconds(500));
  for (int i = 0; i < 20; ++i) node.advance(milliseconds(300));
  EXPECT_FALSE(node.answers.contains(patient));
  ASSERT_EQ(node.pulls.size(), 1u);
  node.finish_pull(0);
  EXPECT_TRUE(node.answers.at(patient).ok());
}

TEST_F(StoreCoreCopies, WhoIsPatientIsToldWhenNothingComesAnyMore) {
  Node::Object& object = node.add_remote(9, kMiB);
  const uint64_t patient = node.read(1, object, 500, true);
  for (int i = 0; i < 5; ++i) node.advance(milliseconds(300));
  const uint64_t late = node.read(2, object, 500, true);
  node.finish_pull(0, Status(Code::kTimeout, "node 9: too slow"));
  EXPECT_EQ(node.answers.at(patient).code(), Code::kTimeout);
  EXPECT_NE(node.answers.at(patient).message().find("nothing came of an object of 1048576 bytes for 500 ms: node 9"),
            std::string::npos);
  EXPECT_FALSE(node.answers.contains(late)) << "it has not waited that long";
  ASSERT_EQ(node.pulls.size(), 1u);
  node.advance(milliseconds(600));
  node.finish_pull(0, Status(Code::kTimeout, "node 9: too slow"));
  EXPECT_EQ(node.answers.at(late).code(), Code::kTimeout);
  EXPECT_TRUE(node.pulls.empty());
}

TEST_F(StoreCoreCopies, WhoIsPatientOutlastsThePullOfSomebodyWhoIsNot) {
  Node::Object& object = node.add_remote(9, kMiB);
  node.read(1, object, 2'000);
  const uint64_t patient = node.read(2, object, 500, true);
  node.advance(milliseconds(2'100));
  node.finish_pull(0, Status(Code::kTimeout, "node 9: no time"));
  EXPECT_FALSE(node.answers.contains(patient));
  ASSERT_EQ(node.pulls.size(), 1u);
  EXPECT_EQ(node.pulls[0].patience, milliseconds(500));
  node.finish_pull(0);
  EXPECT_TRUE(node.answers.at(patient).ok());
}

TEST_F(StoreCoreCopies, WhoIsPatientKeepsHisPlaceInLineWhileOthersCome) {
  Node::Object& first = node.add_remote(9, 30 * kMiB);
  node.read(1, first, 500, true);  // more than half of the store: nothing else is pulled beside it
  const uint64_t second = node.read(1, node.add_remote(9, 20 * kMiB), 500, true);
  const uint64_t hasty = node.read(2, node.add_remote(9, 20 * kMiB), 500);
  for (int i = 0; i < 10; ++i) node.advance(milliseconds(300));
  EXPECT_FALSE(node.answers.contains(second));
  EXPECT_EQ(node.answers.at(hasty).code(), Code::kTimeout);
  node.finish_pull(0);
  ASSERT_EQ(node.pulls.size(), 1u) << "its turn has come";
  node.finish_pull(0);
  EXPECT_TRUE(node.answers.at(second).ok());
}

TEST_F(StoreCoreCopies, WhoIsPatientIsRefusedWhenMemoryDoesNotGetFree) {
  node.read(1, node.add_remote(9, 50 * kMiB));
  node.finish_pull(0);  // and stays pinned
  const uint64_t request = node.read(2, node.add_remote(9, 40 * kMiB), 500, true);
  node.advance(milliseconds(600));
  EXPECT_EQ(node.answers.at(request).code(), Code::kFull);
}

TEST_F(StoreCoreCopies, AFailureBeforeTheDeadlineIsFinal) {
  const uint64_t request = node.read(1, node.add_remote(9, kMiB));
  node.finish_pull(0, Status(Code::kUnavailable, "this node is in no cluster"));
  EXPECT_EQ(node.answers.at(request).code(), Code::kUnavailable);
  EXPECT_TRUE(node.pulls.empty());
}

TEST_F(StoreCoreCopies, ALostNodeLosesItsCopiesAndWhoeverWaits) {
  Node::Object& here = node.add_remote(9, kMiB);
  node.read(1, here);
  node.finish_pull(0);
  node.add_remote(9, kMiB);
  const uint64_t request = node.read(1, node.objects[1]);
  node.lose(9);
  EXPECT_EQ(node.answers.at(request).code(), Code::kLost);
  EXPECT_NE(node.answers.at(request).message().find("node 9 was lost: power"), std::string::npos);
  EXPECT_EQ(node.answers.at(node.read(2, node.objects[0])).code(), Code::kLost);
  node.finish_pull(0, Status(Code::kLost, "node 9 was lost"));
  EXPECT_EQ(node.core.counts().copies, 0u);
  node.unpin(0);  // which checks that its bytes were not touched
}

TEST_F(StoreCoreCopies, TheMoreUrgentGoesFirst) {
  node.read(1, node.add_remote(9, 30 * kMiB));  // more than half of the store: nothing else is pulled beside it
  node.step(event::Prefetch{{node.add_remote(9, 10 * kMiB).at}, wire::TransferPriority::kArgument});
  node.step(event::Prefetch{{node.add_remote(9, 11 * kMiB).at}, wire::TransferPriority::kWait});
  node.read(2, node.add_remote(9, 12 * kMiB));
  ASSERT_EQ(node.pulls.size(), 1u);
  node.finish_pull(0);
  ASSERT_EQ(node.pulls.size(), 2u);
  EXPECT_EQ(node.pulls[0].from.size_bytes, 12 * kMiB);
  EXPECT_EQ(node.pulls[1].from.size_bytes, 11 * kMiB);
}

TEST_F(StoreCoreCopies, APrefetchIsForgottenWhenItHadNoTurnFor30Seconds) {
  node.read(1, node.add_remote(9, 60 * kMiB));
  node.finish_pull(0);  // and stays pinned
  node.step(event::Prefetch{{node.add_remote(9, 20 * kMiB).at}, wire::TransferPriority::kGet});
  EXPECT_EQ(node.core.counts().waiting_restores, 1u);
  node.advance(std::chrono::seconds(31));
  EXPECT_EQ(node.core.counts().waiting_restores, 0u);
}

TEST_F(StoreCoreCopies, HoldersAreToldOnceWhenTheOwnerFrees) {
  node.put({1, 1'000, 1});
  node.put({1, 1'000, 1});
  node.copy_to(8, node.objects[0]);
  node.copy_to(9, node.objects[0]);
  node.step(event::Copied{9, {node.objects[0].at}});  // a second stream of the same pull
  node.copy_to(9, node.objects[1]);
  EXPECT_EQ(node.holders.size(), 3u);
  node.free(node.objects[0]);
  EXPECT_EQ(node.holders.size(), 1u);
  node.copy_to(8, node.objects[0]);  // it was read just before it was freed
  EXPECT_EQ(node.holders.size(), 1u);
  node.lose(9);
  node.free(node.objects[1]);
}

TEST_F(StoreCoreCopies, AFreeGoesToTheNodeOfTheObject) {
  node.put({1, 1'000, 1});
  const wire::ObjectLocation remote = node.add_remote(9, kMiB).at;
  node.objects[0].freed = true;
  node.step(event::Freed{{1}, {remote, node.objects[0].at}});
  ASSERT_EQ(node.forwarded.size(), 1u);
  EXPECT_EQ(node.forwarded[0].node, 9u);
  EXPECT_EQ(node.forwarded[0].process.value, 1u);
  EXPECT_EQ(node.forwarded[0].objects.size(), 1u);
  EXPECT_EQ(node.core.counts().objects, 0u);
  EXPECT_EQ(node.core.counts().ignored_frees, 0u);
}

TEST_F(StoreCoreCopies, WhatAnotherNodesProcessOwnsGoesWithItAndWithItsNode) {
  const uint64_t remote_owner = wire::first_id_of(9) + 5;
  node.put({1, 1'000, remote_owner});
  node.put({1, 1'000, remote_owner + 1});
  EXPECT_EQ(node.core.counts().objects, 2u);
  node.step(event::OwnerGone{{remote_owner}});
  EXPECT_EQ(node.core.counts().objects, 1u);
  node.lose(9);
  EXPECT_EQ(node.core.counts().objects, 0u);
  node.put({1, 1'000, remote_owner + 2});  // the producer had not heard of it
  EXPECT_EQ(node.core.counts().objects, 0u);
}

TEST_F(StoreCoreCopies, MemoryIsAskedForWhenItsTurnComes) {
  for (int i = 0; i < 2; ++i) node.read(1, node.add_remote(9, 15 * kMiB)), node.finish_pull(0), node.unpin(0);
  node.advance(milliseconds(200));
  node.read(1, node.add_remote(9, 20 * kMiB));
  const uint64_t request = node.read(2, node.add_remote(9, 30 * kMiB));  // waits for the one before it, not for memory yet
  ASSERT_EQ(node.pulls.size(), 1u);
  node.finish_pull(0);
  for (int i = 0; i < 10 && node.pulls.empty(); ++i) node.advance(milliseconds(30));
  ASSERT_EQ(node.pulls.size(), 1u);
  node.finish_pull(0);
  EXPECT_TRUE(node.answers.at(request).ok());
}

TEST_F(StoreCoreCopies, AnObjectLargerThanTheStoreIsRefused) {
  const uint64_t request = node.read(1, node.add_remote(9, 65 * kMiB));
  EXPECT_EQ(node.answers.at(request).code(), Code::kFull);
  EXPECT_EQ(node.answers.at(node.read(1, node.add_remote(9, ~uint64_t{0}))).code(), Code::kFull);
}

// The head's node keeps its number when it is started again: names of objects come again, ids of segments do not.
TEST_F(StoreCoreCopies, ANodeThatIsBackHasNothingOfItsEarlierLife) {
  node.add_remote(9, kMiB);
  node.read(1, node.objects[0]);
  node.finish_pull(0);  // pinned, and stays so
  node.lose(9);
  const uint64_t ids_from = wire::first_id_of(9) + 100;
  node.step(event::NodeBack{9, ids_from});
  EXPECT_EQ(node.answers.at(node.read(1, node.objects[0])).code(), Code::kLost);
  EXPECT_TRUE(node.pulls.empty());
  node.add_remote(9, kMiB);
  node.objects[1].at = node.objects[0].at;
  node.objects[1].at.segment = ids_from + 1;
  const uint64_t asked = node.read(1, node.objects[1]);
  ASSERT_EQ(node.pulls.size(), 1u);
  node.finish_pull(0);
  EXPECT_TRUE(node.answers.at(asked).ok());
  node.unpin(0);
  EXPECT_TRUE(node.answers.at(node.read(1, node.objects[1])).ok()) << "the old one's end does not take it along";
  EXPECT_TRUE(node.pulls.empty());
}

}  // namespace
}  // namespace manta::object_store

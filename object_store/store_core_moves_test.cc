// StoreCore's objects on their way from a node that is drained to others, at both ends.
#include "object_store/core_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace manta::object_store {
namespace {

using Node = testing::ModelNode;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using testing::kMiB;
using testing::kSelf;
using testing::milliseconds;
using ::testing::SizeIs;

constexpr wire::NodeNumber kOwners = 3;  // whose processes own what moves
constexpr uint64_t kOwner = wire::first_id_of(kOwners) + 5;
constexpr auto kLater = milliseconds(12'000);
constexpr auto kKnownAfter = milliseconds(600);  // to the owner: that there is an object

class StoreCoreMoves : public ::testing::Test {
 protected:
  explicit StoreCoreMoves(uint64_t spill_bytes = 256 * kMiB) : node(64 * kMiB, spill_bytes) { node.join(1); }
  ~StoreCoreMoves() override { node.core.check_invariants(); }

  void move_to(std::vector<wire::NodeNumber> nodes) {
    node.step(event::MoveAway{std::move(nodes)});
    node.advance(kKnownAfter);
  }
  /// What was asked of a node since the last time, by name.
  std::multimap<wire::NodeNumber, Name> asked() {
    std::multimap<wire::NodeNumber, Name> out;
    for (const effect::AskToAdopt& ask : std::exchange(node.asked_to_adopt, {}))
      for (const auto& object : ask.message.objects) out.emplace(ask.node, hazard_key(object.at.slot, object.at.generation));
    return out;
  }
  Node::Object& put(uint64_t size = 100'000, uint64_t owner = kOwner) {
    node.put({1, size, owner});
    return node.objects.back();
  }
  void adopt(const Node::Object& object, wire::NodeNumber from = 9, uint64_t owner = kOwner) {
    node.step(event::Adopt{from, {{{owner, object.sequence, object.at}}}});
  }
  /// The owner's answer to a move: it needs the other place no more.
  void free_at(const wire::ObjectLocation& at, uint64_t owner = kOwner) { node.step(event::Freed{{owner}, {at}}); }

  Node node;
};

class StoreCoreMovesNoDisk : public StoreCoreMoves {
 protected:
  StoreCoreMovesNoDisk() : StoreCoreMoves(0) {}
};

// ---------------------------------------------------------------------------------------------------- from here

TEST_F(StoreCoreMoves, WhatOthersOwnIsGivenToThoseThatStayInTurnAndIsGoneWhenItsOwnersFreeIt) {
  for (int i = 0; i < 4; ++i) put();
  put(1'000, wire::first_id_of(kSelf) + 1);  // ends with its owner, here
  move_to({8, 9});
  auto first = asked();
  EXPECT_EQ(first.count(8), 2u);
  EXPECT_EQ(first.count(9), 2u);
  put();  // of a task that was still running
  EXPECT_THAT(asked(), IsEmpty()) << "its owner may not know it yet";
  node.advance(kKnownAfter);
  EXPECT_THAT(asked(), SizeIs(1));
  for (const Node::Object& object : node.objects)
    if (object.owner == kOwner) free_at(object.at);
  EXPECT_EQ(node.core.counts().objects, 1u);
  node.advance(kLater);
  EXPECT_THAT(asked(), IsEmpty());
}

TEST_F(StoreCoreMoves, WhatWasMadeJustBeforeWaitsUntilItsOwnerMayKnowOfIt) {
  put();
  node.step(event::MoveAway{{8}});
  EXPECT_THAT(asked(), IsEmpty());
  node.advance(kKnownAfter);
  EXPECT_THAT(asked(), SizeIs(1));
}

TEST_F(StoreCoreMoves, SoManyAtOnceAndTheRestAsTheyGo) {
  for (int i = 0; i < 1'500; ++i) put(1'000);
  move_to({8});
  EXPECT_THAT(asked(), SizeIs(1'024));
  for (int i = 0; i < 100; ++i) free_at(node.objects[static_cast<size_t>(i)].at);
  EXPECT_THAT(asked(), SizeIs(100));
}

TEST_F(StoreCoreMoves, WhoHasACopyIsAskedFirst) {
  put(), put(), put();
  node.copy_to(9, node.objects[1]);
  node.copy_to(kOwners, node.objects[2]);  // with which the object goes anyway
  move_to({8, 10});
  const auto given = asked();
  EXPECT_EQ(given.count(kOwners), 1u);
  EXPECT_EQ(given.count(9), 0u) << "it does not stay";
  EXPECT_EQ(given.count(8) + given.count(10), 2u);
}

TEST_F(StoreCoreMoves, OneThatHasNoRoomIsLeftInPeaceForAWhile) {
  const Name name = put().name();
  move_to({8, 9});
  ASSERT_THAT(asked(), ElementsAre(std::pair(8u, name)));
  node.step(event::AdoptionRefused{9, {name}});  // was not asked
  EXPECT_THAT(asked(), IsEmpty());
  node.step(event::AdoptionRefused{8, {name}});
  EXPECT_THAT(asked(), ElementsAre(std::pair(9u, name)));
  node.step(event::AdoptionRefused{9, {name}});
  EXPECT_THAT(asked(), ElementsAre(std::pair(kOwners, name))) << "the last that may have room";
  node.step(event::AdoptionRefused{kOwners, {name}});
  EXPECT_THAT(asked(), IsEmpty());
  node.advance(milliseconds(1'100));
  EXPECT_THAT(asked(), SizeIs(1));
}

TEST_F(StoreCoreMoves, OneThatIsLostOrSilentIsReplaced) {
  const Name name = put().name();
  move_to({8, 9});
  ASSERT_THAT(asked(), ElementsAre(std::pair(8u, name)));
  node.lose(8);
  EXPECT_THAT(asked(), ElementsAre(std::pair(9u, name)));
  node.advance(kLater);
  EXPECT_THAT(asked(), ElementsAre(std::pair(9u, name))) << "its word to the owner may be lost";
  node.objects[0].freed = true;
  node.lose(kOwners);  // nobody needs it any more
  node.advance(kLater);
  EXPECT_THAT(asked(), IsEmpty());
  EXPECT_EQ(node.core.counts().objects, 0u);
}

TEST_F(StoreCoreMoves, WhatIsOnDiskOrOnItsWayThereMovesToo) {
  node.join(2);
  for (int i = 0; i < 4; ++i) node.put({1, 15 * kMiB, kOwner, true});
  node.put({2, 30 * kMiB, 2, true}, 60'000);
  ASSERT_FALSE(node.writes.empty());
  std::set<Name> names;
  for (size_t i = 0; i < 4; ++i) names.insert(node.objects[i].name());
  move_to({8});
  auto given = asked();
  EXPECT_EQ(given.size(), 4u) << "each once";
  for (const auto& [to, name] : given) EXPECT_TRUE(names.erase(name));
  node.finish_all();
  node.advance(milliseconds(30));
  ASSERT_GT(node.core.counts().spilled_objects, 0u);
  node.advance(kLater);
  EXPECT_EQ(asked().count(8), 4u);
  for (size_t i = 0; i < 4; ++i) node.objects[i].freed = true, free_at(node.objects[i].at);
  EXPECT_EQ(node.core.counts().spilled_objects, 0u);
}

// ---------------------------------------------------------------------------------------------------- to here

TEST_F(StoreCoreMoves, AnAdoptedObjectIsThisNodesOwn) {
  Node::Object& object = node.add_remote(9, kMiB);
  adopt(object);
  adopt(object);  // said twice
  ASSERT_THAT(node.pulls, SizeIs(1));
  EXPECT_EQ(node.pulls[0].priority, wire::TransferPriority::kArgument);
  EXPECT_THAT(node.told_moved, IsEmpty());
  node.finish_pull(0);
  ASSERT_THAT(node.told_moved, SizeIs(1));
  EXPECT_EQ(node.told_moved[0].owner.value, kOwner);
  EXPECT_EQ(node.told_moved[0].move.from.slot, object.at.slot);
  const wire::ObjectLocation here = node.told_moved[0].move.to;
  EXPECT_EQ(node.core.counts().copies, 0u);
  EXPECT_EQ(node.core.counts().objects, 1u);
  EXPECT_TRUE(node.answers.at(node.read(1, object)).ok()) << "who still asks for the old place";
  EXPECT_THAT(node.pulls, IsEmpty());
  adopt(object);
  EXPECT_THAT(node.told_moved, SizeIs(2)) << "the first may have been lost";
  node.step(event::CopiesFreed{9, {object.name()}});  // the owner has heard
  node.lose(9);
  EXPECT_EQ(node.core.counts().objects, 1u);
  EXPECT_TRUE(node.is_at(here));
  free_at(here);
  EXPECT_EQ(node.core.counts().objects, 0u);
  EXPECT_THAT(node.refusals, IsEmpty());
}

TEST_F(StoreCoreMoves, WhatItsOwnerDidNotTakeIsReadFromTheOldPlaceAndMayComeAgain) {
  Node::Object& object = node.add_remote(9, kMiB);
  adopt(object);
  node.finish_pull(0);
  const wire::ObjectLocation refused = node.told_moved.at(0).move.to;
  free_at(refused);  // the owner was not told yet that there is an object, and will hear of the old place
  const uint64_t request = node.read(1, object);
  EXPECT_FALSE(node.answers.contains(request)) << "it is not lost: it is pulled";
  ASSERT_THAT(node.pulls, SizeIs(1));
  node.finish_pull(0);
  EXPECT_TRUE(node.answers.at(request).ok());
  EXPECT_THAT(node.told_moved, SizeIs(1));
  adopt(object);
  ASSERT_THAT(node.told_moved, SizeIs(2));
  EXPECT_NE(hazard_key(refused.slot, refused.generation),
            hazard_key(node.told_moved[1].move.to.slot, node.told_moved[1].move.to.generation));
  EXPECT_TRUE(node.is_at(node.told_moved[1].move.to));
}

TEST_F(StoreCoreMoves, ACopyThatIsHereIsAdoptedWhereItLies) {
  Node::Object& object = node.add_remote(9, kMiB);
  node.read(1, object);
  node.finish_pull(0);  // and is pinned
  adopt(object);
  EXPECT_THAT(node.pulls, IsEmpty());
  ASSERT_THAT(node.told_moved, SizeIs(1));
  const wire::ObjectLocation here = node.told_moved[0].move.to;
  EXPECT_EQ(node.pins[0].at.slot, here.slot);
  free_at(here);
  node.advance(milliseconds(30));
  EXPECT_EQ(node.core.counts().limbo_objects, 1u);
  node.unpin(0);
}

TEST_F(StoreCoreMoves, AnAdoptedObjectIsWrittenToDiskWhenMemoryIsShort) {
  Node::Object& object = node.add_remote(9, 20 * kMiB);
  adopt(object);
  node.finish_pull(0);
  const wire::ObjectLocation here = node.told_moved.at(0).move.to;
  node.objects[0].at = here;
  node.put({1, 60 * kMiB, 1, true}, 10'000);
  node.finish_all();
  node.advance(milliseconds(30));
  EXPECT_EQ(node.core.counts().spilled_objects, 1u);
  node.free(node.objects[1]);
  node.advance(milliseconds(30));
  const uint64_t request = node.read(1, node.objects[0]);
  node.finish_all();
  EXPECT_TRUE(node.answers.at(request).ok());
}

TEST_F(StoreCoreMoves, FreedWhileItComesItIsNotAdopted) {
  Node::Object& object = node.add_remote(9, kMiB);
  adopt(object);
  node.step(event::CopiesFreed{9, {object.name()}});
  object.freed = true;
  node.finish_pull(0);
  node.advance(milliseconds(30));
  EXPECT_THAT(node.told_moved, IsEmpty());
  EXPECT_EQ(node.core.counts().objects + node.core.counts().copies, 0u);
  adopt(node.add_remote(9, 20 * kMiB));
  EXPECT_THAT(node.pulls, SizeIs(1)) << "nothing is counted as on its way";
}

TEST_F(StoreCoreMoves, AnOwnerThatIsGoneNeedsNothing) {
  adopt(node.add_remote(9, kMiB));
  node.step(event::OwnerGone{{kOwner}});
  node.finish_pull(0);
  EXPECT_THAT(node.told_moved, IsEmpty());
  EXPECT_EQ(node.core.counts().objects, 0u);
  adopt(node.add_remote(9, kMiB), 9, kOwner + 1);
  node.finish_pull(0);
  EXPECT_EQ(node.core.counts().objects, 1u);
  node.step(event::OwnerGone{{kOwner + 1}});  // in answer to the word that it moved, say
  EXPECT_EQ(node.core.counts().objects, 0u);
  adopt(node.add_remote(9, kMiB), 9, wire::first_id_of(kSelf) + 77);  // no client of this node
  node.finish_pull(0);
  EXPECT_EQ(node.core.counts().objects, 0u);
}

TEST_F(StoreCoreMoves, WhatCannotComeIsRefused) {
  const Node::Object object = node.add_remote(9, kMiB);
  adopt(object);
  node.finish_pull(0, Status(Code::kUnavailable, "no route"));
  ASSERT_THAT(node.refusals, SizeIs(1));
  EXPECT_EQ(node.refusals[0].node, 9u);
  EXPECT_THAT(node.refusals[0].names, ElementsAre(object.name()));
  adopt(node.add_remote(9, 65 * kMiB));
  EXPECT_THAT(node.refusals, SizeIs(2));
  adopt(node.add_remote(9, kMiB), 8);  // not that node's to give away
  EXPECT_THAT(node.refusals, SizeIs(2));
  EXPECT_THAT(node.pulls, IsEmpty());
}

TEST_F(StoreCoreMovesNoDisk, AFullStoreRefuses) {
  node.put({1, 50 * kMiB, 1, true});
  adopt(node.add_remote(9, 20 * kMiB));
  EXPECT_THAT(node.refusals, SizeIs(1));
  adopt(node.add_remote(9, 8 * kMiB));
  adopt(node.add_remote(9, 8 * kMiB));  // the first has that room
  EXPECT_THAT(node.refusals, SizeIs(2));
  EXPECT_THAT(node.pulls, SizeIs(1));
}

TEST_F(StoreCoreMoves, ANodeThatIsDrainedAdoptsNothingMoreAndHandsOnWhatItAdopted) {
  adopt(node.add_remote(9, kMiB));
  adopt(node.add_remote(9, 2 * kMiB));
  node.finish_pull(0);
  move_to({8});
  EXPECT_THAT(asked(), SizeIs(1));
  adopt(node.add_remote(9, kMiB));
  EXPECT_THAT(node.refusals, SizeIs(1));
  node.finish_pull(0);
  EXPECT_THAT(asked(), SizeIs(1)) << "what was on its way when it began";
  node.lose(9);
  EXPECT_EQ(node.core.counts().objects, 2u);
}

TEST_F(StoreCoreMoves, WhatHadNotComeWhenTheOtherNodeEndedIsLost) {
  adopt(node.add_remote(9, kMiB));
  node.lose(9);
  node.finish_pull(0, Status(Code::kLost, "node 9 was lost"));
  EXPECT_THAT(node.told_moved, IsEmpty());
  EXPECT_THAT(node.refusals, IsEmpty());
  EXPECT_EQ(node.core.counts().objects, 0u);
}

}  // namespace
}  // namespace manta::object_store

// Placement groups on one raylet, the head and other nodes invented.
#include "raylet/testing/group_session.h"
#include "wire/node_resources.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace manta::raylet {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

using Session = GroupSession;

TEST(Groups, ARequestWaitsForItsGroupAndRunsInIt) {
  Session world(2);
  world.start_all();
  world.ask(1, in_group());
  EXPECT_FALSE(world.grant_of(FakeWorld::kDriver, 1));
  ASSERT_THAT(world.asked_of_head(), SizeIs(1));
  world.notice(wire::PlacementGroupState::kPending);
  world.prepare({needs(1)});
  EXPECT_THAT(world.told<wire::BundlesPrepared>(), SizeIs(1));
  EXPECT_TRUE(world.grant_of(FakeWorld::kDriver, 1));
  EXPECT_EQ(world.core.available().cpus, wire::kWhole);  // the bundle's are taken once
  world.ask(2, in_group());
  EXPECT_FALSE(world.grant_of(FakeWorld::kDriver, 2));  // though a CPU outside is free
  world.say(FakeWorld::kDriver, wire::ReturnLease{world.grant_of(FakeWorld::kDriver, 1)->lease});
  EXPECT_TRUE(world.grant_of(FakeWorld::kDriver, 2));
}

TEST(Groups, WorkOutsideDoesNotUseABundle) {
  Session world(2);
  world.start_all();
  world.prepare({needs(2)});
  world.ask(1, one_cpu());
  EXPECT_FALSE(world.grant_of(FakeWorld::kDriver, 1));
  world.release();
  EXPECT_TRUE(world.grant_of(FakeWorld::kDriver, 1));
}

TEST(Groups, WhatDoesNotFitIsRefusedAndHoldsNothing) {
  Session world(2);
  world.start_all();
  world.ask(1, one_cpu());
  world.prepare({needs(1), needs(1)});
  ASSERT_THAT(world.told<wire::BundlesPrepared>(), SizeIs(1));
  EXPECT_EQ(world.told<wire::BundlesPrepared>()[0].status.code, static_cast<uint8_t>(Code::kUnavailable));
  EXPECT_EQ(world.core.available().cpus, wire::kWhole);
}

TEST(Groups, RoomThatIsLackingIsAskedBackAndKeptFromTasks) {
  Session world(2);
  world.start_all();
  world.ask(1, one_cpu());
  world.ask(2, one_cpu());
  ASSERT_TRUE(world.grant_of(FakeWorld::kDriver, 2));
  world.prepare({needs(1), needs(1)}, 1);
  EXPECT_THAT(world.sent<wire::ReclaimLease>(FakeWorld::kDriver), SizeIs(2));
  world.ask(3, one_cpu());
  for (const uint64_t number : {1u, 2u})
    world.say(FakeWorld::kDriver, wire::ReturnLease{world.grant_of(FakeWorld::kDriver, number)->lease});
  EXPECT_FALSE(world.grant_of(FakeWorld::kDriver, 3));
  EXPECT_EQ(world.reports_wanted, 2);  // that there is more, and that there is enough
  world.prepare({needs(1), needs(1)}, 2);
  EXPECT_THAT(world.core.held_bundles(), SizeIs(1));
  world.release(2);
  EXPECT_TRUE(world.grant_of(FakeWorld::kDriver, 3));
}

TEST(Groups, ARefusalIsFollowedByReportsOfWhatThereIsAndOfMore) {
  Session world(4, 0, kSelf);
  world.start_all();
  world.prepare({needs(3)}, 1);
  wire::PrepareBundles other{.group = kGroup + 1, .attempt = 1, .bundles = {{0, needs(2)}}, .number = 50, .is_commit = true};
  world.feed(HeadSays{other});
  EXPECT_EQ(world.reports_wanted, 1);
  world.ask(1, one_cpu());
  world.ask(2, one_cpu());
  EXPECT_EQ(world.reports_wanted, 1);
  world.say(FakeWorld::kDriver, wire::ReturnLease{world.grant_of(FakeWorld::kDriver, 1)->lease});
  EXPECT_EQ(world.reports_wanted, 1);  // as much as there was
  world.release();
  EXPECT_GT(world.reports_wanted, 1);
}

TEST(Groups, RoomIsKeptOnWhileTheGroupWaitsForOtherNodes) {
  Session world(1, 0, kSelf);
  world.start_all();
  world.ask(1, one_cpu());
  world.prepare({needs(1)}, 1, false);
  world.say(FakeWorld::kDriver, wire::ReturnLease{world.grant_of(FakeWorld::kDriver, 1)->lease});
  world.now_us += RayletCore::kKeptForGroupUs - 1;
  world.prepare({needs(1)}, 2, false);
  world.release(2);  // another node had no room
  world.now_us += RayletCore::kKeptForGroupUs - 1;
  world.feed(Tick{});
  world.ask(2, one_cpu());
  EXPECT_FALSE(world.grant_of(FakeWorld::kDriver, 2));
  world.prepare({needs(1)}, 3, false);
  world.feed(HeadSays{wire::CommitBundles{kGroup, 3}});
  world.release(3);
  EXPECT_TRUE(world.grant_of(FakeWorld::kDriver, 2));
}

TEST(Groups, RoomIsNotKeptOnceTheGroupIsElsewhere) {
  Session world(1, 0, kSelf);
  world.start_all();
  world.ask(1, one_cpu());
  world.prepare({needs(1)}, 1);
  world.ask(2, one_cpu());
  world.say(FakeWorld::kDriver, wire::ReturnLease{world.grant_of(FakeWorld::kDriver, 1)->lease});
  world.release(1);  // of the attempt that was refused
  EXPECT_FALSE(world.grant_of(FakeWorld::kDriver, 2));
  world.release(~uint64_t{0});
  EXPECT_TRUE(world.grant_of(FakeWorld::kDriver, 2));
}

TEST(Groups, RoomThatIsKeptIsNotForOtherNodesTasks) {
  Session world(1, 0, kSelf);
  world.start_all();
  world.join(kOther, 4);
  world.ask(1, one_cpu());
  world.prepare({needs(1)}, 1);
  world.say(FakeWorld::kDriver, wire::ReturnLease{world.grant_of(FakeWorld::kDriver, 1)->lease});
  constexpr uint64_t kTheirs = wire::first_id_of(kOther) + 1;
  wire::RemoteLease question{.owner = kTheirs, .job = kTheirs, .request = {.request = 1, .scheduling_class = one_cpu()}};
  world.feed(LeaseAsked{kOther, question});
  ASSERT_THAT(world.spilled, SizeIs(1));
  EXPECT_EQ(world.core.refusals(), 1u);
  world.prepare({needs(1)}, 2);
  EXPECT_THAT(world.core.held_bundles(), SizeIs(1));
}

TEST(Groups, WhatTasksHaveIsKnownByDevice) {
  Session world(2, 2, kSelf);
  world.start_all();
  wire::SchedulingClass what = one_cpu();
  what.resources = needs(1, 0.5);
  world.ask(1, what);
  world.prepare({needs(1, 1)});
  const wire::NodeResources leased = world.core.leased();
  EXPECT_EQ(leased.cpus, wire::kWhole);
  ASSERT_THAT(leased.devices, SizeIs(2));
  EXPECT_EQ(leased.devices[0].share + leased.devices[1].share, wire::kWhole / 2);
  wire::NodeResources sum = world.core.available();
  wire::add(sum, leased);
  EXPECT_EQ(sum.cpus, wire::kWhole);
}

TEST(Groups, RoomIsKeptForAWhileOnly) {
  Session world(1);
  world.start_all();
  world.ask(1, one_cpu());
  world.prepare({needs(1)}, 1);
  world.ask(2, one_cpu());
  world.say(FakeWorld::kDriver, wire::ReturnLease{world.grant_of(FakeWorld::kDriver, 1)->lease});
  EXPECT_FALSE(world.grant_of(FakeWorld::kDriver, 2));
  ASSERT_TRUE(world.core.next_deadline_us());
  world.now_us += RayletCore::kKeptForGroupUs;
  world.feed(Tick{});
  EXPECT_TRUE(world.grant_of(FakeWorld::kDriver, 2));
}

TEST(Groups, ARemovalEndsWhatRunsAndRefusesWhatWaits) {
  Session world(2);
  world.start_all();
  world.prepare({needs(1)});
  world.ask(1, in_group());
  world.ask(2, in_group());
  ASSERT_TRUE(world.grant_of(FakeWorld::kDriver, 1));
  world.release();
  EXPECT_THAT(world.killed, SizeIs(1));
  world.notice(wire::PlacementGroupState::kRemoved, {}, {}, Status(Code::kDied, "it was removed"));
  const auto refused = world.sent<wire::LeaseRefused>(FakeWorld::kDriver);
  ASSERT_THAT(refused, SizeIs(1));
  EXPECT_EQ(refused[0].request, 2u);
  EXPECT_THAT(refused[0].status.message, HasSubstr("placement group"));
  EXPECT_FALSE(world.core.is_at_rest());  // its process has not ended yet
  world.bury_killed();
  EXPECT_TRUE(world.core.is_at_rest());
}

TEST(Groups, AnOlderReleaseLeavesANewerAttempt) {
  Session world(2);
  world.start_all();
  world.prepare({needs(1)}, 5);
  world.release(4);
  EXPECT_THAT(world.core.held_bundles(), SizeIs(1));
  world.prepare({needs(2)}, 6);  // gives back the older one first
  ASSERT_THAT(world.core.held_bundles(), SizeIs(1));
  EXPECT_EQ(world.core.held_bundles()[0].attempt, 6u);
  EXPECT_EQ(world.core.available().cpus, 0);
}

TEST(Groups, LeasesInABundleGetItsDevice) {
  Session world(2, 2);
  world.start_all();
  world.prepare({needs(1, 0.5), needs(1, 1)});
  world.ask(1, in_group(0, needs(0, 0.25)));
  world.ask(2, in_group(0, needs(0, 0.25)));
  world.ask(3, in_group(1, needs(0, 1)));
  world.ask(4, in_group(0, needs(0, 0.25)));
  world.start_all();
  std::vector<std::string> visible;
  for (const Spawn& spawn : world.spawns)
    if (const auto it = spawn.env.find("CUDA_VISIBLE_DEVICES"); it != spawn.env.end()) visible.push_back(it->second);
  ASSERT_THAT(visible, SizeIs(3));
  EXPECT_EQ(visible[0], visible[1]);
  EXPECT_NE(visible[0], visible[2]);
  EXPECT_FALSE(world.grant_of(FakeWorld::kDriver, 4));
}

TEST(Groups, AnActorInAGroupIsInItsBundle) {
  Session world(2);
  world.start_all();
  world.prepare({needs(1)});
  wire::PlaceActor place{.owner = FakeWorld::kDriver.value, .scheduling_class = in_group(0), .start = {}, .job = 1};
  place.start.actor = {FakeWorld::kDriver.value, 1};
  place.start.incarnation = 1;
  world.feed(HeadSays{place});
  EXPECT_EQ(world.core.available().cpus, wire::kWhole);
  EXPECT_EQ(world.core.state().actors, 1u);
  place.start.actor.sequence = 2;
  world.feed(HeadSays{place});
  const auto events = world.told<wire::HeadActorEvent>();
  ASSERT_THAT(events, SizeIs(1));
  EXPECT_THAT(events[0].cause.message, HasSubstr("in bundle 0 of its placement group"));
  world.release();
  world.bury_killed();
  EXPECT_TRUE(world.core.is_at_rest());
}

// ---------------------------------------------------------------------------------------------------- between nodes

TEST(GroupsElsewhere, ARequestGoesToANodeOfTheGroup) {
  Session world(1, 0, kSelf);
  world.join(kOther, 4);
  world.join(kThird, 4);
  world.ask(1, in_group());
  EXPECT_THAT(world.asked, IsEmpty());  // though there is room everywhere
  ASSERT_THAT(world.asked_of_head(), SizeIs(1));
  world.notice(wire::PlacementGroupState::kReady, {kOther, kThird}, {needs(1), needs(1)});
  ASSERT_THAT(world.asked, SizeIs(1));
  EXPECT_FALSE(world.asked[0].message.may_wait);
  const wire::NodeNumber first = world.asked[0].node;
  world.spill_back(first, 1, Code::kFull);
  ASSERT_THAT(world.asked, SizeIs(2));
  EXPECT_NE(world.asked[1].node, first);
  EXPECT_FALSE(world.asked[1].message.may_wait);
  world.spill_back(world.asked[1].node, 1, Code::kFull);
  ASSERT_THAT(world.asked, SizeIs(3));
  EXPECT_TRUE(world.asked[2].message.may_wait);
}

/// Asked of both nodes in vain, it waits at one.
struct WaitsElsewhere : Session {
  WaitsElsewhere() : Session(1, 0, kSelf) {
    join(kOther, 4);
    join(kThird, 4);
    notice(wire::PlacementGroupState::kReady, {kOther, kThird}, {needs(1), needs(1)});
    ask(1, in_group());
    for (const size_t i : {0u, 1u}) spill_back(asked.at(i).node, 1, Code::kFull);
    waits_at = asked.at(2).node;
    other = waits_at == kOther ? kThird : kOther;
  }
  void look_again() {
    now_us = core.next_deadline_us().value_or(now_us) + 1;
    feed(Tick{});
  }
  /// What other nodes were told to forget, as far as it is a request.
  std::vector<wire::NodeNumber> forgotten() const {
    std::vector<wire::NodeNumber> nodes;
    for (const HandOn& one : handed_on)
      if (std::holds_alternative<wire::CancelLeaseRequest>(one.message)) nodes.push_back(one.node);
    return nodes;
  }
  wire::NodeNumber waits_at = 0, other = 0;
};

TEST(GroupsElsewhere, WhatWaitsAtOneNodeIsOfferedToAnotherAndKeepsItsPlace) {
  WaitsElsewhere world;
  for (size_t looks = 1; looks <= 3; ++looks) {
    world.look_again();
    ASSERT_THAT(world.asked, SizeIs(3 + looks));
    EXPECT_EQ(world.asked.back().node, world.other);
    EXPECT_FALSE(world.asked.back().message.may_wait);
    world.look_again();  // no answer yet
    EXPECT_THAT(world.asked, SizeIs(3 + looks));
    world.spill_back(world.other, 1, Code::kFull);
    EXPECT_THAT(world.forgotten(), IsEmpty());
  }
  world.look_again();
  const uint64_t lease = wire::first_id_of(world.other) + 9;
  world.feed(PeerMet{.client = FakeWorld::kDriver, .remote = ProcessId{lease}, .pid = 1, .request = 1, .lease = lease});
  EXPECT_THAT(world.forgotten(), ::testing::ElementsAre(world.waits_at));
  for (int i = 0; i < 5 && world.core.next_deadline_us(); ++i) world.look_again();
  EXPECT_THAT(world.asked, SizeIs(7)) << "it has what it wanted";
}

TEST(GroupsElsewhere, WhatIsAskedAsWellIsAskedAloneWhenItsPlaceIsLost) {
  WaitsElsewhere world;
  world.look_again();
  world.spill_back(world.waits_at, 1, Code::kFull);  // it is drained, perhaps
  world.spill_back(world.other, 1, Code::kFull);
  ASSERT_THAT(world.asked, SizeIs(5));
  EXPECT_TRUE(world.asked.back().message.may_wait);
}

TEST(GroupsElsewhere, OfALineTheFirstIsOffered) {
  WaitsElsewhere world;
  world.ask(2, in_group());
  while (!world.asked.back().message.may_wait) world.spill_back(world.asked.back().node, 2, Code::kFull);
  const size_t before = world.asked.size();
  world.look_again();
  ASSERT_THAT(world.asked, SizeIs(before + 1));
  EXPECT_EQ(world.asked.back().message.request.request, 1u);
}

TEST(GroupsElsewhere, WhatWaitsHereIsOfferedToOthersAndOtherwise) {
  Session world(1, 0, kSelf);
  world.start_all();
  world.join(kOther, 4);
  world.prepare({needs(1)});
  world.notice(wire::PlacementGroupState::kReady, {kSelf, kOther}, {needs(1), needs(1)});
  world.ask(2, in_group());
  ASSERT_TRUE(world.grant_of(FakeWorld::kDriver, 2));
  const auto look_again = [&] {
    world.now_us = world.core.next_deadline_us().value_or(world.now_us) + 1;
    world.feed(Tick{});
  };
  world.ask(4, in_group());  // both are busy: request 4 waits here, 5 there
  world.spill_back(kOther, 4, Code::kFull);
  world.ask(5, in_group(-1, needs(0.5)));
  world.spill_back(kOther, 5, Code::kFull);
  ASSERT_TRUE(world.asked.back().message.may_wait);
  EXPECT_EQ(world.core.waiting(), 1u);
  size_t offered = 0;
  for (int looks = 0; looks < 4; ++looks) {
    const size_t before = world.asked.size();
    look_again();
    for (size_t i = before; i < world.asked.size(); ++i) {
      EXPECT_EQ(world.asked[i].message.request.request, 4u);
      EXPECT_EQ(world.asked[i].node, kOther);
      world.spill_back(kOther, 4, Code::kFull);
      ++offered;
    }
    EXPECT_EQ(world.core.waiting(), 1u) << "it waits here on";
  }
  EXPECT_GT(offered, 0u);
  // The bundle here becomes free: who waits here has it, and then who waits there.
  world.say(FakeWorld::kDriver, wire::ReturnLease{world.grant_of(FakeWorld::kDriver, 2)->lease});
  ASSERT_TRUE(world.grant_of(FakeWorld::kDriver, 4));
  world.say(FakeWorld::kDriver, wire::ReturnLease{world.grant_of(FakeWorld::kDriver, 4)->lease});
  EXPECT_FALSE(world.grant_of(FakeWorld::kDriver, 5));
  for (int looks = 0; looks < 3; ++looks) look_again();  // the first may be for something else
  EXPECT_EQ(world.handed_on.back().node, kOther) << "to forget it";
  world.start_all();
  EXPECT_TRUE(world.grant_of(FakeWorld::kDriver, 5));
}

TEST(GroupsElsewhere, ANamedBundleIsWhereItIs) {
  Session world(1, 0, kSelf);
  world.join(kOther, 4);
  world.join(kThird, 4);
  world.notice(wire::PlacementGroupState::kReady, {kOther, kThird}, {needs(1), needs(2)});
  world.ask(1, in_group(1));
  world.ask(2, in_group(-1, needs(2)));
  ASSERT_THAT(world.asked, SizeIs(2));
  EXPECT_EQ(world.asked[0].node, kThird);
  EXPECT_EQ(world.asked[1].node, kThird);  // the other is too small
  world.ask(3, in_group(-1, needs(3)));
  world.ask(4, in_group(9));
  const auto refused = world.sent<wire::LeaseRefused>(FakeWorld::kDriver);
  ASSERT_THAT(refused, SizeIs(2));
  EXPECT_THAT(refused[0].status.message, HasSubstr("no bundle of its placement group"));
  EXPECT_THAT(refused[1].status.message, HasSubstr("no bundle 9"));
}

TEST(GroupsElsewhere, ANodeThatDoesNotHoldItMakesTheHeadBeAsked) {
  Session world(1, 0, kSelf);
  world.join(kOther, 4);
  world.notice(wire::PlacementGroupState::kReady, {kOther}, {needs(1)});
  world.ask(1, in_group());
  ASSERT_THAT(world.asked, SizeIs(1));
  world.spill_back(kOther, 1, Code::kNotFound);
  EXPECT_THAT(world.asked, SizeIs(1));
  EXPECT_THAT(world.asked_of_head(), SizeIs(1));
  world.notice(wire::PlacementGroupState::kRemoved, {}, {}, Status(Code::kNotFound, "it was removed"));
  EXPECT_THAT(world.sent<wire::LeaseRefused>(FakeWorld::kDriver), SizeIs(1));
}

TEST(GroupsElsewhere, OthersAreServedFromTheBundleHere) {
  Session world(2, 0, kSelf);
  world.join(kOther, 4);
  constexpr uint64_t kTheirs = wire::first_id_of(kOther) + 1;
  const auto ask = [&](uint64_t number, bool may_wait) {
    world.feed(LeaseAsked{kOther,
                          {.owner = kTheirs,
                           .job = kTheirs,
                           .request = {.request = number, .scheduling_class = in_group(), .backlog = 0},
                           .may_wait = may_wait}});
  };
  const auto code = [&](size_t i) { return static_cast<Code>(world.spilled.at(i).message.why.code); };
  ask(1, false);
  EXPECT_EQ(code(0), Code::kNotFound);
  world.prepare({needs(1)}, 1, false);
  ask(2, false);  // set aside, and not committed yet: it waits
  EXPECT_THAT(world.spilled, SizeIs(1));
  world.feed(HeadSays{wire::CommitBundles{kGroup, 1}});
  EXPECT_EQ(world.core.waiting(), 0u);
  ask(3, false);
  EXPECT_EQ(code(1), Code::kFull);
  ask(4, true);
  world.release();
  EXPECT_EQ(code(2), Code::kNotFound);  // the one that waited, and the one that had no worker yet
  EXPECT_THAT(world.spilled, SizeIs(4));
  EXPECT_EQ(world.core.waiting(), 0u);
}

}  // namespace
}  // namespace manta::raylet

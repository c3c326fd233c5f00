// One raylet of a cluster, the others invented.
#include "raylet/testing/fake_world.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace manta::raylet {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr wire::NodeNumber kOther = 7;
constexpr ProcessId kThere{wire::first_id_of(kOther) + 5};  // a worker of the other node
constexpr ProcessId kOwner{wire::first_id_of(kOther) + 1};  // its driver
constexpr JobId kJob{kOwner.value};

wire::NodeInfo node(wire::NodeNumber number, int64_t cpus) {
  wire::NodeInfo info;
  info.number = number;
  info.capacity.cpus = cpus * wire::kWhole;
  info.capacity.memory_bytes = 1 << 30;
  return info;
}

wire::View view(wire::NodeNumber number, int64_t free_cpus) {
  const wire::NodeView seen{.number = number, .available = node(number, free_cpus).capacity};
  return {.version = 1, .changed = {seen}};
}

/// A node without CPUs of its own: that of a driver.
struct DriversNode : FakeWorld {
  explicit DriversNode(int64_t cpus_there) : FakeWorld(0, 0, 3) {
    feed(MembersChanged{{.joined = {node(kOther, cpus_there)}, .gone = {}}});
  }
  void granted(uint64_t request, uint64_t lease) {
    feed(PeerMet{kDriver, kThere, 99, request, wire::first_id_of(kOther) + lease});
  }
  void full(uint64_t request) {
    const Status status(Code::kFull, "no room");
    feed(LeaseSpilledBack{kOther, {kDriver.value, request, wire::to_wire(status)}});
  }
};

TEST(DriversNode, AsksWhereThereIsRoomAndNoMore) {
  DriversNode world(2);
  for (uint64_t number = 1; number <= 5; ++number) world.request(FakeWorld::kDriver, number, 1);
  // Two fit; of the rest one waits there and the others here.
  ASSERT_THAT(world.asked, SizeIs(3));
  EXPECT_FALSE(world.asked[0].message.may_wait);
  EXPECT_FALSE(world.asked[1].message.may_wait);
  EXPECT_TRUE(world.asked[2].message.may_wait);
  EXPECT_EQ(world.asked[0].message.job, FakeWorld::kDriver.value);
  EXPECT_THAT(world.spawns, IsEmpty());
}

TEST(DriversNode, AsksAgainOnceTheViewShowsRoom) {
  DriversNode world(1);
  world.request(FakeWorld::kDriver, 1, 1);
  ASSERT_THAT(world.asked, SizeIs(1));
  world.full(1);
  ASSERT_THAT(world.asked, SizeIs(2));  // nothing has room: it waits there
  EXPECT_TRUE(world.asked[1].message.may_wait);
  world.full(1);
  world.feed(ViewChanged{view(kOther, 1)});
  EXPECT_FALSE(world.asked.back().message.may_wait);
  world.granted(1, 50);
  EXPECT_TRUE(world.sent<wire::LeaseRefused>(FakeWorld::kDriver).empty());
}

/// One request, which waits at kOther: nothing had room.
struct Parked : DriversNode {
  static constexpr wire::NodeNumber kThird = 8;
  Parked() : DriversNode(1) {
    feed(MembersChanged{{.joined = {node(kThird, 1)}, .gone = {}}});
    feed(ViewChanged{view(kOther, 0)});
    feed(ViewChanged{view(kThird, 0)});
    request(kDriver, 1, 1);
    EXPECT_TRUE(asked.back().message.may_wait);
    EXPECT_EQ(asked.back().node, kOther);
    asked.clear();
  }
  void spill_back(wire::NodeNumber from) {
    feed(LeaseSpilledBack{from, {kDriver.value, 1, wire::to_wire(Status(Code::kFull, "no room"))}});
  }
  void granted_by(wire::NodeNumber from) {
    feed(PeerMet{kDriver, ProcessId{wire::first_id_of(from) + 5}, 99, 1, wire::first_id_of(from) + 50});
  }
  std::vector<wire::NodeNumber> taken_back() const {
    std::vector<wire::NodeNumber> nodes;
    for (const HandOn& one : handed_on)
      if (std::holds_alternative<wire::CancelLeaseRequest>(one.message)) nodes.push_back(one.node);
    return nodes;
  }
};

TEST(DriversNode, WhatWaitsAtOneNodeGoesToAnotherThatHasRoom) {
  Parked world;
  world.feed(ViewChanged{view(Parked::kThird, 1)});
  ASSERT_THAT(world.asked, SizeIs(1));
  EXPECT_EQ(world.asked[0].node, Parked::kThird);
  EXPECT_FALSE(world.asked[0].message.may_wait);
  EXPECT_THAT(world.taken_back(), IsEmpty());  // it keeps its place until it is granted
  world.granted_by(Parked::kThird);
  EXPECT_THAT(world.taken_back(), ElementsAre(kOther));
  EXPECT_EQ(world.core.waiting(), 0u);
}

TEST(DriversNode, WhatWaitsKeepsItsPlaceWhenTheOtherIsFullAfterAll) {
  Parked world;
  world.feed(ViewChanged{view(Parked::kThird, 1)});
  world.spill_back(Parked::kThird);
  EXPECT_THAT(world.asked, SizeIs(1));
  world.feed(ViewChanged{view(Parked::kThird, 1)});
  EXPECT_THAT(world.asked, SizeIs(2));
  world.granted_by(kOther);
  EXPECT_THAT(world.taken_back(), ElementsAre(Parked::kThird));
}

TEST(DriversNode, WhatWaitsIsAskedOfTheOtherWhenItsPlaceIsLost) {
  for (const bool is_node_lost : {false, true}) {
    Parked world;
    world.feed(ViewChanged{view(Parked::kThird, 1)});
    if (is_node_lost) {
      world.feed(MembersChanged{{.joined = {}, .gone = {{kOther, wire::to_wire(Status(Code::kDied, "lost"))}}}});
    } else {
      world.spill_back(kOther);
    }
    EXPECT_THAT(world.asked, SizeIs(1));
    world.spill_back(Parked::kThird);
    ASSERT_THAT(world.asked, SizeIs(2));
    EXPECT_EQ(world.asked[1].node, Parked::kThird);
    EXPECT_TRUE(world.asked[1].message.may_wait);
  }
}

TEST(DriversNode, WhatIsAskedOfTwoIsCancelledAtBoth) {
  Parked world;
  world.feed(ViewChanged{view(Parked::kThird, 1)});
  world.say(FakeWorld::kDriver, wire::CancelLeaseRequest{1});
  EXPECT_THAT(world.taken_back(), ElementsAre(kOther, Parked::kThird));
}

TEST(DriversNode, ReturnedRoomIsUsedBeforeTheHeadTells) {
  DriversNode world(1);
  world.request(FakeWorld::kDriver, 1, 1);
  world.granted(1, 50);
  world.request(FakeWorld::kDriver, 2, 1);
  ASSERT_THAT(world.asked, SizeIs(2));
  EXPECT_TRUE(world.asked[1].message.may_wait);
  world.request(FakeWorld::kDriver, 3, 1);
  world.say(FakeWorld::kDriver, wire::ReturnLease{wire::first_id_of(kOther) + 50});
  ASSERT_THAT(world.handed_on, SizeIs(1));
  EXPECT_EQ(world.handed_on[0].node, kOther);
  ASSERT_THAT(world.asked, SizeIs(3));
  EXPECT_FALSE(world.asked[2].message.may_wait);
}

TEST(DriversNode, WhatCannotBeServedThereIsRefused) {
  DriversNode world(2);
  world.request(FakeWorld::kDriver, 1, 1);
  const Status status(Code::kInvalid, "this node can never serve it");
  world.feed(LeaseSpilledBack{kOther, {FakeWorld::kDriver.value, 1, wire::to_wire(status)}});
  EXPECT_THAT(world.sent<wire::LeaseRefused>(FakeWorld::kDriver), SizeIs(1));
}

TEST(DriversNode, ALostNodeGivesItsRequestsBackAndItsProcessesAreDead) {
  DriversNode world(2);
  world.request(FakeWorld::kDriver, 1, 1);
  world.granted(1, 50);
  world.request(FakeWorld::kDriver, 2, 1);
  world.feed(MembersChanged{{.joined = {}, .gone = {{kOther, wire::to_wire(Status(Code::kDied, "node n was lost"))}}}});
  const auto died = world.sent<wire::ProcessDied>(FakeWorld::kDriver);
  ASSERT_THAT(died, SizeIs(1));
  EXPECT_EQ(died[0].process, kThere.value);
  EXPECT_EQ(died[0].pid, 99);
  const auto told = world.sent<wire::ClusterCapacity>(FakeWorld::kDriver);
  ASSERT_EQ(told.back().lost_nodes.size(), 1u);
  EXPECT_EQ(told.back().lost_nodes.at(kOther).message, "node n was lost");
  EXPECT_EQ(told.back().capacity.cpus, 0);
  world.feed(MembersChanged{{.joined = {node(8, 2)}, .gone = {}}});
  EXPECT_EQ(world.asked.back().node, 8u);
  EXPECT_EQ(world.asked.back().message.request.request, 2u);
}

TEST(DriversNode, OwnersHearWhichIdsOfTheHeadsNodeAreOfAnEarlierLife) {
  DriversNode world(2);
  wire::NodeInfo head = node(wire::kHeadNode, 1);
  head.ids_from = wire::first_id_of(wire::kHeadNode) + 1'000;
  world.feed(MembersChanged{{.joined = {head}, .gone = {}}});
  const auto told = world.sent<wire::ClusterCapacity>(FakeWorld::kDriver);
  ASSERT_FALSE(told.empty());
  EXPECT_EQ(told.back().back_nodes.at(wire::kHeadNode), head.ids_from);
}

TEST(DriversNode, WatchesProcessesElsewhere) {
  DriversNode world(2);
  world.say(FakeWorld::kDriver, wire::WatchProcess{kThere.value});
  ASSERT_THAT(world.handed_on, SizeIs(1));
  world.feed(RemoteProcessGone{{kThere.value, 12, wire::to_wire(Status(Code::kDied, "killed by signal 9"))}});
  EXPECT_THAT(world.sent<wire::ProcessDied>(FakeWorld::kDriver), SizeIs(1));
  world.feed(RemoteProcessGone{{kThere.value, 12, {}}});
  EXPECT_THAT(world.sent<wire::ProcessDied>(FakeWorld::kDriver), SizeIs(1));
}

/// A node that works for a driver of another.
struct WorkingNode : FakeWorld {
  explicit WorkingNode(int64_t cpus) : FakeWorld(cpus, 0, 3) { start_all(); }
  void ask(uint64_t request, double cpus = 1, bool may_wait = false) {
    wire::RemoteLease message{.owner = kOwner.value, .job = kJob.value, .request = {}, .may_wait = may_wait};
    message.request.request = request;
    message.request.scheduling_class.resources.cpus = static_cast<int64_t>(cpus * wire::kWhole);
    feed(LeaseAsked{kOther, std::move(message)});
  }
  void fetched(const Status& status = {}) {
    JobPlan plan;
    plan.program = "/cache/p";
    feed(JobFetched{kJob, status, plan});
  }
};

TEST(WorkingNode, StartsWorkersOfTheJobThatAsks) {
  WorkingNode world(2);
  const size_t before = world.spawns.size();
  world.ask(1);
  EXPECT_THAT(world.fetches, SizeIs(1));
  EXPECT_EQ(world.spawns.size(), before);  // not its own driver's workers
  world.fetched();
  ASSERT_EQ(world.spawns.size(), before + 1);
  EXPECT_EQ(world.spawns.back().program, "/cache/p");
  world.start_all();
  const auto granted = world.grant_of(kOwner, 1);
  ASSERT_TRUE(granted);
  EXPECT_TRUE(granted->new_channel);
  EXPECT_EQ(wire::node_of(granted->lease), 3u);
  EXPECT_EQ(wire::node_of(granted->channel), 3u);
  world.say(kOwner, wire::ReturnLease{granted->lease});
  EXPECT_TRUE(world.core.is_at_rest());
  world.exit(ProcessId{granted->worker});
  ASSERT_THAT(world.told_gone, SizeIs(1));
  EXPECT_EQ(world.told_gone[0].nodes, std::set<wire::NodeNumber>{kOther});
}

TEST(WorkingNode, SpillsWhatHasNoRoomUnlessItMayWait) {
  WorkingNode world(1);
  world.ask(1);
  world.fetched();
  world.start_all();
  world.ask(2);
  ASSERT_THAT(world.spilled, SizeIs(1));
  EXPECT_EQ(static_cast<Code>(world.spilled[0].message.why.code), Code::kFull);
  world.ask(3, 1, true);
  EXPECT_THAT(world.spilled, SizeIs(1));
  world.say(kOwner, wire::ReturnLease{world.grant_of(kOwner, 1)->lease});
  EXPECT_TRUE(world.grant_of(kOwner, 3));
  world.ask(4, 9);
  EXPECT_EQ(static_cast<Code>(world.spilled.back().message.why.code), Code::kInvalid);
}

TEST(WorkingNode, EndsWhatADeadOwnerHad) {
  WorkingNode world(2);
  world.ask(1);
  world.fetched();
  world.start_all();
  ASSERT_TRUE(world.grant_of(kOwner, 1));
  world.feed(RemoteProcessGone{{kOwner.value, 1, wire::to_wire(Status(Code::kDied, "killed"))}});
  EXPECT_THAT(world.killed, SizeIs(1));  // it worked for nobody any more, and its job is over
  world.bury_killed();
  EXPECT_TRUE(world.core.is_at_rest());
}

TEST(WorkingNode, AProgramThatCannotBeHadIsSaidToWhoAsked) {
  WorkingNode world(2);
  world.ask(1);
  world.fetched(Status(Code::kNotFound, "the job has ended"));
  ASSERT_THAT(world.spilled, SizeIs(1));
  EXPECT_EQ(static_cast<Code>(world.spilled[0].message.why.code), Code::kNotFound);
  EXPECT_TRUE(world.core.is_at_rest());
}

TEST(WorkingNode, NobodyAsksInAnothersName) {
  WorkingNode world(2);
  wire::RemoteLease message{.owner = kOwner.value, .job = kJob.value, .request = {}};
  world.feed(LeaseAsked{kOther + 1, std::move(message)});
  EXPECT_THAT(world.fetches, IsEmpty());
}

// Nothing else is handed on by a raylet, and nobody's like that is a client here.
TEST(Cluster, AnotherNodesClientsSayOnlyWhatIsHandedOn) {
  FakeWorld world(2, 0, 3);
  wire::CreateActor create;
  create.actor = {kOwner.value, 1};
  world.say(kOwner, create);
  world.say(kOwner, wire::CreatePlacementGroup{});
  world.say(kOwner, wire::SubmitJob{});
  world.say(kOwner, wire::DrainNode{});
  world.say(kOwner, wire::Goodbye{});
  world.say(kOwner, wire::WatchProcess{wire::first_id_of(9) + 1});
  world.say(kOwner, wire::ReturnLease{wire::first_id_of(9) + 1});
  EXPECT_THAT(world.told_head, SizeIs(1)) << "of its own driver";
  EXPECT_THAT(world.handed_on, IsEmpty());
  world.say(kOwner, wire::WatchProcess{wire::first_id_of(3) + 99});
  EXPECT_THAT(world.sent<wire::ProcessDied>(kOwner), SizeIs(1));
}

}  // namespace
}  // namespace manta::raylet

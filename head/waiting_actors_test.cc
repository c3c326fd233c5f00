#include "head/waiting_actors.h"

#include "head/testing/fake_cluster.h"

#include <gmock/gmock.h>

#include <algorithm>

namespace manta::head {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using wire::ActorEvent;
using wire::ActorKey;
using wire::NodeNumber;
using wire::SchedulingClass;

// ---------------------------------------------------------------------------------------------------- who goes

class WaitingActorsTest : public ::testing::Test {
 protected:
  /// Those that go while each class has room for so many.
  std::vector<ActorKey> look(int rooms_each, int64_t now_us) {
    std::vector<ActorKey> gone;
    std::map<SchedulingClass, int> room;
    waiting.look(
        now_us, [&](const SchedulingClass& what) { return room.try_emplace(what, rooms_each).first->second-- > 0; },
        [&](const ActorKey& key) {
          gone.push_back(key);
          waiting.remove(key);
        });
    looked = room.size();
    return gone;
  }

  WaitingActors waiting;
  size_t looked = 0;
};

TEST_F(WaitingActorsTest, TheLongestWaitingOfAClassGoesFirst) {
  for (uint64_t i = 1; i <= 3; ++i) waiting.add({1, 10 - i}, needs(1), static_cast<int64_t>(i));
  waiting.add({1, 7}, needs(1), 500);  // said again
  EXPECT_THAT(look(2, 3'000'000), ElementsAre(ActorKey{1, 9}, ActorKey{1, 8}));
  EXPECT_EQ(waiting.size(), 1u);
  EXPECT_EQ(waiting.next_look_us(), std::nullopt) << "until room grows";
  waiting.room_grew();
  EXPECT_EQ(waiting.next_look_us(), 3'000'000 + WaitingActors::kLookEveryUs);
  EXPECT_THAT(look(0, 4'000'000), IsEmpty());
  EXPECT_THAT(look(2, 4'000'000), ElementsAre(ActorKey{1, 7}));
  waiting.room_grew();
  EXPECT_EQ(waiting.next_look_us(), std::nullopt) << "nobody waits";
}

TEST_F(WaitingActorsTest, OneThatCameLatelyStaysButIsLookedAtAgain) {
  waiting.add({1, 1}, needs(1), 1'000'000);
  EXPECT_THAT(look(1, 2'900'000), IsEmpty());
  ASSERT_TRUE(waiting.next_look_us());
  EXPECT_THAT(look(1, 3'000'000), SizeIs(1));
}

TEST_F(WaitingActorsTest, TheMoreUrgentClassGoesFirst) {
  SchedulingClass urgent = needs(2);
  urgent.priority = 1;
  waiting.add({1, 1}, needs(1), 0);
  waiting.add({1, 2}, urgent, 1);
  EXPECT_THAT(look(1, 3'000'000), ElementsAre(ActorKey{1, 2}, ActorKey{1, 1}));
}

TEST_F(WaitingActorsTest, ALookHasAnEndAndTheNextGoesOnThere) {
  for (uint64_t i = 0; i < 150; ++i) waiting.add({1, i}, needs(static_cast<double>(i + 1)), 0);
  EXPECT_THAT(look(1, 3'000'000), SizeIs(WaitingActors::kMostClasses));
  EXPECT_THAT(look(0, 3'200'000), IsEmpty());
  EXPECT_EQ(looked, WaitingActors::kMostClasses);
  waiting.room_grew();  // for those that were looked at before, too
  EXPECT_THAT(look(1, 3'400'000), SizeIs(22));
  ASSERT_TRUE(waiting.next_look_us());
  EXPECT_THAT(look(1, 3'600'000), SizeIs(WaitingActors::kMostClasses));
  EXPECT_EQ(waiting.next_look_us(), std::nullopt);
  for (uint64_t i = 0; i < 3'000; ++i) waiting.add({2, i}, needs(1), 0);
  for (const size_t expected : {1'000u, 1'000u, 1'000u}) EXPECT_THAT(look(5'000, 9'000'000), SizeIs(expected));
}

// ---------------------------------------------------------------------------------------------------- in the head

class WaitingInHead : public ::testing::Test {
 protected:
  WaitingInHead() {
    cluster.join(room(0));
    a = cluster.join(room(1));
    b = cluster.join(room(1));
    driver = cluster.process(a, wire::Role::kDriver);
    for (int i = 0; i < 2; ++i) cluster.start(cluster.create(driver, needs(1)));  // they fill both
    beat(a, 0), beat(b, 0);
  }
  void beat(NodeNumber node, int64_t cpus, uint32_t waiting = 0) {
    wire::NodeResources available = room(1);
    available.cpus = cpus * wire::kWhole;
    cluster.say(node, wire::Heartbeat{
                          .has_resources = true, .available = available, .waiting = waiting, .placed_up_to = ~uint64_t{0}});
  }
  /// Created while both nodes are full, and where it waits.
  ActorKey wait_for_room(wire::SchedulingClass what = needs(1)) {
    const ActorKey actor = cluster.create(driver, std::move(what));
    cluster.report(cluster.where(actor), actor, 1, ActorEvent::kWaiting);
    return actor;
  }
  NodeNumber not_of(const ActorKey& actor) { return cluster.where(actor) == a ? b : a; }
  void pass(int64_t us) {
    for (; us > 0; us -= 500'000) {
      cluster.now_us += 500'000;
      beat(a, free_cpus[a], queued[a]), beat(b, free_cpus[b], queued[b]);
      cluster.wait(0);
      for (const auto& [to, place] : cluster.said<wire::PlaceActor>()) placed.emplace_back(to, place.start.incarnation);
      for (const auto& [from, end] : cluster.said<wire::EndActor>()) ended.emplace_back(from, end.incarnation);
    }
  }

  FakeCluster cluster;
  NodeNumber a = 0;
  NodeNumber b = 0;
  uint64_t driver = 0;
  std::map<NodeNumber, int64_t> free_cpus;
  std::map<NodeNumber, uint32_t> queued;
  std::vector<std::pair<NodeNumber, uint32_t>> placed, ended;
};

TEST_F(WaitingInHead, OneThatWaitsGoesToTheNodeThatGetsRoomFirst) {
  const ActorKey actor = wait_for_room();
  const NodeNumber there = cluster.where(actor);
  const NodeNumber elsewhere = not_of(actor);
  pass(3'000'000);
  EXPECT_THAT(placed, IsEmpty());
  free_cpus[elsewhere] = 1;
  pass(1'000'000);
  EXPECT_EQ(cluster.where(actor), elsewhere);
  EXPECT_THAT(placed, ElementsAre(std::pair(elsewhere, 2u)));
  EXPECT_THAT(ended, ElementsAre(std::pair(there, 1u)));
  cluster.report(there, actor, 1, ActorEvent::kStarted);  // it started there at the same moment
  EXPECT_EQ(cluster.phase(actor), wire::ActorPhase::kPending);
  cluster.start(actor);
  EXPECT_EQ(cluster.phase(actor), wire::ActorPhase::kAlive);
  EXPECT_EQ(cluster.core.find(actor)->restarts_used, 0);
  cluster.expect_replay_is_equal();
}

TEST_F(WaitingInHead, WhoeverWaitsAtTheNodeItselfComesFirst) {
  const ActorKey actor = wait_for_room();
  free_cpus[not_of(actor)] = 1;
  queued[not_of(actor)] = 1;
  pass(4'000'000);
  EXPECT_THAT(placed, IsEmpty());
  queued[not_of(actor)] = 0;
  pass(1'000'000);
  EXPECT_THAT(placed, SizeIs(1));
}

TEST_F(WaitingInHead, OneThatNamesItsNodeStays) {
  SchedulingClass there = needs(1);
  there.node = a;
  const ActorKey actor = wait_for_room(there);
  free_cpus[b] = 1;
  pass(4'000'000);
  EXPECT_EQ(cluster.where(actor), a);
  EXPECT_THAT(placed, IsEmpty());
}

TEST_F(WaitingInHead, AfterARestartOfTheHeadItGoesAsWell) {
  const ActorKey actor = wait_for_room();
  const NodeNumber there = cluster.where(actor);
  const NodeNumber elsewhere = not_of(actor);
  std::vector<wire::NodeInfo> infos;
  for (const NodeNumber node : {a, b}) infos.push_back(cluster.core.members().find(node)->info);
  cluster.restart_head(room(0));
  for (const wire::NodeInfo& info : infos) {
    wire::HeadNodeReturns back{.info = info};
    if (info.number == a) back.clients.push_back(FakeCluster::client(driver, wire::Role::kDriver));
    if (info.number == there) back.actors.push_back({.actor = actor, .incarnation = 1});
    cluster.say(info.number, back);
  }
  ASSERT_EQ(cluster.where(actor), there);
  free_cpus[elsewhere] = 1;
  pass(3'500'000);
  EXPECT_EQ(cluster.where(actor), elsewhere);
}

}  // namespace
}  // namespace manta::head

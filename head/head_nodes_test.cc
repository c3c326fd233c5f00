// A head and its nodes: joining, falling silent, dying, the head's own restart, and the view.
#include "head/testing/fake_cluster.h"

#include <gmock/gmock.h>

#include <random>

namespace manta::head {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using wire::ActorEvent;
using wire::ActorKey;
using wire::ActorPhase;
using wire::kHeadNode;
using wire::NodeNumber;

class HeadNodes : public ::testing::Test {
 protected:
  HeadNodes() {
    EXPECT_EQ(cluster.join(room(4)), kHeadNode);
    a = cluster.join(room(4));
    b = cluster.join(room(4));
    driver = cluster.process(kHeadNode, wire::Role::kDriver);
  }
  wire::SchedulingClass on(NodeNumber node, bool is_soft = false) const {
    wire::SchedulingClass what = needs(1);
    what.node = node;
    what.is_soft = is_soft;
    return what;
  }

  FakeCluster cluster;
  NodeNumber a = 0;
  NodeNumber b = 0;
  uint64_t driver = 0;
};

TEST_F(HeadNodes, AJoinIsAnsweredWithANumberAndAllMembers) {
  const NodeNumber c = cluster.join(room(1));
  const auto joined = cluster.said<wire::Joined>();
  ASSERT_THAT(joined, SizeIs(1));
  EXPECT_EQ(joined[0].first, c);
  EXPECT_THAT(joined[0].second.members, SizeIs(4));
  const auto members = cluster.said<wire::Members>();
  ASSERT_THAT(members, SizeIs(3));  // everyone else, the head's own raylet first
  EXPECT_EQ(members[0].first, kHeadNode);
  EXPECT_EQ(members[0].second.joined.at(0).number, c);
  EXPECT_TRUE(std::holds_alternative<wire::Members>(cluster.last[0].message));
}

TEST_F(HeadNodes, ARepeatedJoinGivesTheSameNumber) {
  const NodeNumber c = cluster.join({.info = {.capacity = room(1)}, .nonce = 99});
  EXPECT_EQ(cluster.join({.info = {.capacity = room(1)}, .nonce = 99}), c);
  EXPECT_THAT(cluster.said<wire::Members>(), IsEmpty());
  cluster.say(kHeadNode, wire::HeadNodeLost{c, "refused"});
  EXPECT_EQ(cluster.join({.info = {.capacity = room(1)}, .nonce = 99}), 0u);
  EXPECT_EQ(wire::from_wire(cluster.said<wire::JoinRefused>().at(0).second.status).code(), Code::kDied);
}

TEST_F(HeadNodes, AnotherProtocolIsRefusedWithBothVersions) {
  cluster.say(0, wire::Join{.protocol = 77, .version = "x", .info = {}, .nonce = 5});
  const auto refused = cluster.said<wire::JoinRefused>();
  ASSERT_THAT(refused, SizeIs(1));
  EXPECT_EQ(refused[0].first, 0u);
  EXPECT_THAT(refused[0].second.status.message, HasSubstr("protocol 77"));
}

TEST_F(HeadNodes, ASilentNodeIsSuspectAfterTwoSecondsAndGoneAfterFive) {
  cluster.wait(1'000'000);
  cluster.beat(b, room(4));
  cluster.wait(1'100'000);
  EXPECT_EQ(cluster.core.members().find(a)->state, Membership::State::kSuspect);
  EXPECT_EQ(cluster.core.members().find(b)->state, Membership::State::kAlive);
  cluster.create(driver, on(a));
  EXPECT_THAT(cluster.said<wire::PlaceActor>(), IsEmpty());
  cluster.beat(a, room(4));  // it was only slow: what waited for it goes there
  EXPECT_THAT(cluster.said<wire::PlaceActor>(), SizeIs(1));
  for (int i = 0; i < 5; ++i) {
    cluster.beat(b, room(4));
    cluster.wait(1'000'000);
  }
  EXPECT_EQ(cluster.core.members().find(a), nullptr);
  EXPECT_NE(cluster.core.members().find(b), nullptr);
  EXPECT_NE(cluster.core.members().find(kHeadNode), nullptr);
  const auto members = cluster.said<wire::Members>();
  ASSERT_THAT(members, SizeIs(2));
  EXPECT_THAT(members[0].second.gone.at(0).cause.message, HasSubstr("nothing was heard of it for 5.0 s"));
}

TEST_F(HeadNodes, NobodysSilenceCountsWhileTheHeadStoodStill) {
  cluster.wait(60'000'000);
  for (const NodeNumber node : {a, b}) {
    ASSERT_NE(cluster.core.members().find(node), nullptr);
    EXPECT_EQ(cluster.core.members().find(node)->state, Membership::State::kAlive);
  }
  for (int i = 0; i < 6; ++i) {  // from here on it does
    cluster.wait(1'000'000);
    cluster.beat(b, room(4));
  }
  EXPECT_EQ(cluster.core.members().find(a), nullptr);
  EXPECT_NE(cluster.core.members().find(b), nullptr);
}

TEST_F(HeadNodes, WhatWaitsAtTheHeadIsNoSilence) {
  // The head is slow: of `a` and `b` it has read nothing for 6 s, but something of `a` came in every second.
  for (int i = 0; i < 6; ++i) {
    cluster.core.note_heard(a, cluster.now_us);
    cluster.wait(1'000'000);
  }
  ASSERT_NE(cluster.core.members().find(a), nullptr);
  EXPECT_EQ(cluster.core.members().find(a)->state, Membership::State::kAlive);
  EXPECT_EQ(cluster.core.members().find(b), nullptr);
}

TEST_F(HeadNodes, HeartbeatsThatLayInALongStepDoNotHideThatTheHeadStoodStill) {
  // One step of 7 s, of other nodes' words for the most part; the next of `a` wait behind it.
  for (int i = 0; i < 7; ++i) {
    cluster.now_us += 1'000'000;
    cluster.beat(b, room(4));
  }
  cluster.wait(0);
  ASSERT_NE(cluster.core.members().find(a), nullptr);
  EXPECT_EQ(cluster.core.members().find(a)->state, Membership::State::kAlive);
}

TEST_F(HeadNodes, ANodeThatWasGivenUpIsTold) {
  cluster.say(kHeadNode, wire::HeadNodeLost{a, "its machine refuses the connection"});
  cluster.beat(a, room(4));
  const auto members = cluster.said<wire::Members>();
  ASSERT_THAT(members, SizeIs(1));
  EXPECT_EQ(members[0].second.gone.at(0).number, a);
  // Nothing else that it says has an effect.
  cluster.say(a, FakeCluster::client(wire::first_id_of(a) + 1, wire::Role::kDriver));
  cluster.ask(wire::first_id_of(a) + 1, wire::FindActor{.request = 1, .name = "x", .name_space = ""});
  EXPECT_THAT(cluster.last, IsEmpty());
  cluster.expect_replay_is_equal();
}

TEST_F(HeadNodes, OnlyTheHeadsOwnNodeSaysThatAnotherIsLost) {
  cluster.say(a, wire::HeadNodeLost{b, "I do not like it"});
  EXPECT_NE(cluster.core.members().find(b), nullptr);
  cluster.say(a, wire::HeadNodeLeaves{b, "drained"});
  EXPECT_NE(cluster.core.members().find(b), nullptr);
  cluster.say(b, wire::HeadNodeLeaves{b, "drained"});
  EXPECT_EQ(cluster.core.members().find(b), nullptr);
}

TEST_F(HeadNodes, ActorsOfALostNodeRestartElsewhereIfTheyMay) {
  const ActorKey may = cluster.create(driver, on(a, true), 1);
  const ActorKey may_not = cluster.create(driver, on(a, true), 0);
  const ActorKey only_there = cluster.create(driver, on(a), 1);
  for (const ActorKey& actor : {may, may_not, only_there}) cluster.start(actor);
  const ActorKey not_started = cluster.create(driver, on(a, true), 0);
  cluster.say(kHeadNode, wire::HeadNodeLost{a, "its machine refuses the connection"});
  EXPECT_EQ(cluster.phase(may), ActorPhase::kRestarting);
  EXPECT_NE(cluster.where(may), a);
  EXPECT_EQ(cluster.phase(may_not), ActorPhase::kDead);
  EXPECT_EQ(cluster.cause(may_not), "node n2 was lost: its machine refuses the connection");
  EXPECT_EQ(cluster.phase(only_there), ActorPhase::kDead);
  EXPECT_THAT(cluster.cause(only_there), HasSubstr("is gone"));
  EXPECT_EQ(cluster.phase(not_started), ActorPhase::kPending);
  EXPECT_EQ(cluster.core.find(not_started)->incarnation, 2u);
  for (const auto& [to, place] : cluster.said<wire::PlaceActor>()) EXPECT_NE(to, a);
  // What the lost node may still say of its incarnation is void.
  cluster.report(a, may, 1, ActorEvent::kStarted);
  EXPECT_EQ(cluster.phase(may), ActorPhase::kRestarting);
  cluster.expect_replay_is_equal();
}

TEST_F(HeadNodes, TheDriverOfALostNodeTakesItsJobAlong) {
  const uint64_t remote = cluster.process(a, wire::Role::kDriver);
  const ActorKey actor = cluster.create(remote, on(b), -1);
  const ActorKey detached = cluster.create(remote, on(b), -1, true);
  cluster.start(actor);
  cluster.start(detached);
  cluster.ask(driver, wire::WatchActor{actor});
  cluster.say(kHeadNode, wire::HeadNodeLost{a, "refused"});
  EXPECT_EQ(cluster.phase(actor), ActorPhase::kDead);
  EXPECT_EQ(cluster.phase(detached), ActorPhase::kAlive);
  EXPECT_THAT(cluster.told(driver).at(0).cause.message, HasSubstr("its owner ended: node n2 was lost"));
  const auto ends = cluster.said<wire::EndActor>();
  ASSERT_THAT(ends, SizeIs(1));
  EXPECT_EQ(ends[0].first, b);
  cluster.expect_replay_is_equal();
}

TEST_F(HeadNodes, NoticesGoWhereTheChannelIsMadeAndElseToTheWatcher) {
  const uint64_t watcher = cluster.process(b);
  const ActorKey actor = cluster.create(driver, on(a), 1);
  cluster.ask(watcher, wire::WatchActor{actor});
  EXPECT_EQ(cluster.said<wire::ActorNotice>().at(0).first, b);
  cluster.start(actor);
  for (const auto& [to, notice] : cluster.said<wire::ActorNotice>()) EXPECT_EQ(to, a);
  EXPECT_THAT(cluster.told(watcher), SizeIs(1));
  cluster.report(a, actor, 1, ActorEvent::kEnded);
  for (const auto& [to, notice] : cluster.said<wire::ActorNotice>()) EXPECT_EQ(to, notice.to == watcher ? b : kHeadNode);
}

TEST_F(HeadNodes, OneNodeSaysNothingForAnother) {
  const ActorKey actor = cluster.create(driver, on(a), 1);
  cluster.report(b, actor, 1, ActorEvent::kStarted);
  EXPECT_EQ(cluster.phase(actor), ActorPhase::kPending);
  cluster.say(b, wire::HeadClientGone{driver, {}});
  EXPECT_EQ(cluster.phase(actor), ActorPhase::kPending);
  cluster.say(b, wire::HeadRequest{driver, wire::KillActor{.actor = actor, .reason = "x"}});
  EXPECT_EQ(cluster.phase(actor), ActorPhase::kPending);
}

TEST_F(HeadNodes, WhatFitsNowhereWaitsForANodeThatCouldHoldIt) {
  const ActorKey large = cluster.create(driver, needs(8));
  EXPECT_EQ(cluster.where(large), 0u);
  EXPECT_THAT(cluster.told(driver).at(0).cause.message, HasSubstr("no node could hold it"));
  EXPECT_THAT(cluster.cause(large), HasSubstr("needs 8 CPUs, has 4"));
  cluster.expect_replay_is_equal();
  cluster.join(room(6));
  EXPECT_EQ(cluster.where(large), 0u);
  const NodeNumber big = cluster.join(room(16));
  EXPECT_EQ(cluster.where(large), big);
  EXPECT_EQ(cluster.said<wire::PlaceActor>().at(0).first, big);
  EXPECT_TRUE(std::holds_alternative<wire::Joined>(cluster.last.at(4).message));  // before it is told to do something
}

TEST_F(HeadNodes, OnlyWhatChangedIsInAView) {
  cluster.beat(a, room(4));
  cluster.beat(b, room(4));
  cluster.beat(a, room(4));
  EXPECT_THAT(cluster.said<wire::View>(), IsEmpty());  // nothing happened
  cluster.beat(b, room(3));
  EXPECT_THAT(cluster.said<wire::View>(), IsEmpty());  // it knows itself
  cluster.beat(a, room(4));
  const auto views = cluster.said<wire::View>();
  ASSERT_THAT(views, SizeIs(1));
  ASSERT_THAT(views[0].second.changed, SizeIs(1));
  EXPECT_EQ(views[0].second.changed[0].number, b);
  EXPECT_EQ(views[0].second.changed[0].available, room(3));
}

TEST_F(HeadNodes, WhoeverWasRefusedHearsWhatTheNodeHasThoughItIsAsBefore) {
  cluster.beat(a, room(4));
  cluster.beat(b, room(4));
  wire::Heartbeat refused{.has_resources = true, .available = room(4)};
  refused.refusals = 1;
  cluster.say(a, refused);
  cluster.beat(b, room(4));
  const auto views = cluster.said<wire::View>();
  ASSERT_THAT(views, SizeIs(1));
  EXPECT_EQ(views[0].second.changed.at(0).number, a);
}

TEST_F(HeadNodes, AMantadOnTheEndpointOfAnotherTakesItsPlace) {
  wire::Join join{.version = "test", .info = {}, .nonce = 1234};
  join.info.name = "again";
  join.info.endpoint = cluster.core.members().find(a)->info.endpoint;
  join.info.capacity = room(1);
  cluster.say(0, join);
  EXPECT_EQ(cluster.core.members().find(a), nullptr);
  EXPECT_THAT(cluster.core.members().members(), SizeIs(3));
}

// ---------------------------------------------------------------------------------------------------- the head's restart

TEST_F(HeadNodes, NumbersGoOnAfterARestartOfTheHead) {
  cluster.say(b, wire::HeadNodeLeaves{b, "drained"});
  cluster.expect_replay_is_equal();
  cluster.restart_head(room(4));
  EXPECT_EQ(cluster.join(room(1)), b + 1);
}

TEST_F(HeadNodes, ARestartedHeadAsksAndTakesBackWhatLives) {
  const uint64_t remote = cluster.process(a, wire::Role::kDriver);
  const uint64_t worker = cluster.process(a);
  const ActorKey lives = cluster.create(remote, on(a), 1);
  const ActorKey died = cluster.create(remote, on(a), 1);
  const ActorKey elsewhere = cluster.create(remote, on(b), 0, true);
  const ActorKey on_head = cluster.create(remote, on(kHeadNode), 0);
  for (const ActorKey& actor : {lives, died, elsewhere, on_head}) cluster.start(actor);
  const ActorKey unheard = cluster.create(remote, on(a), 0);  // the order to place it is lost

  cluster.restart_head(room(4));
  EXPECT_EQ(cluster.phase(on_head), ActorPhase::kDead);  // the head's node died with it
  EXPECT_EQ(cluster.phase(lives), ActorPhase::kAlive);
  const wire::HeadRequest kill{remote, wire::KillActor{.actor = lives, .no_restart = false, .reason = "early"}};
  cluster.say(a, kill, 5);
  EXPECT_THAT(cluster.last, IsEmpty());  // first it must say what it has
  cluster.beat(a, room(4));
  ASSERT_THAT(cluster.said<wire::HeadRestarted>(), SizeIs(1));
  EXPECT_EQ(cluster.said<wire::HeadRestarted>()[0].second.life, 2u);

  wire::HeadNodeReturns returns{.info = cluster.core.members().find(a)->info,
                                .clients = {FakeCluster::client(remote, wire::Role::kDriver)},
                                .actors = {{.actor = lives, .incarnation = 1, .worker = worker, .worker_pid = 7},
                                           {.actor = {remote, 999}, .incarnation = 1, .worker = worker, .worker_pid = 8}},
                                .watches = {{remote, lives}}};
  cluster.say(a, returns);
  EXPECT_THAT(cluster.said<wire::Joined>(), SizeIs(1));
  EXPECT_EQ(cluster.phase(lives), ActorPhase::kAlive);
  EXPECT_EQ(cluster.phase(died), ActorPhase::kRestarting);
  EXPECT_THAT(cluster.told(remote), SizeIs(1));  // its watch is known again
  const auto placed = cluster.said<wire::PlaceActor>();
  ASSERT_THAT(placed, SizeIs(2));
  EXPECT_TRUE(placed[0].second.start.actor == unheard || placed[1].second.start.actor == unheard);
  const auto ends = cluster.said<wire::EndActor>();
  ASSERT_THAT(ends, SizeIs(1));
  EXPECT_EQ(ends[0].second.actor.sequence, 999u);  // nobody knows it any more
  cluster.say(a, kill, 5);
  EXPECT_EQ(cluster.said<wire::EndActor>().at(0).second.reason, "early");
  cluster.expect_replay_is_equal();

  // The other node stays away: what is there is lost with it.
  for (int i = 0; i < 25; ++i) {
    cluster.wait(500'000);
    cluster.beat(a, room(4));
  }
  EXPECT_EQ(cluster.core.members().find(b), nullptr);
  EXPECT_NE(cluster.core.members().find(a), nullptr);
  EXPECT_EQ(cluster.phase(elsewhere), ActorPhase::kDead);
  EXPECT_THAT(cluster.cause(elsewhere), HasSubstr("did not come back within 10.0 s of the head's restart"));
  cluster.expect_replay_is_equal();
}

TEST_F(HeadNodes, AnOwnerThatEndedWhileTheHeadWasAwayTakesItsActorsAlong) {
  const uint64_t remote = cluster.process(a, wire::Role::kDriver);
  const ActorKey actor = cluster.create(remote, on(b), -1);
  cluster.start(actor);
  cluster.restart_head(room(4));
  cluster.say(a, wire::HeadNodeReturns{.info = cluster.core.members().find(a)->info});
  EXPECT_EQ(cluster.phase(actor), ActorPhase::kDead);
  cluster.expect_replay_is_equal();
}

TEST_F(HeadNodes, WhatIsSaidTwiceHasItsEffectOnce) {
  const uint64_t remote = wire::first_id_of(a) + 1;
  wire::CreateActor create;
  create.actor = {remote, 1};
  create.scheduling_class = needs(1);
  cluster.say(a, FakeCluster::client(remote, wire::Role::kDriver), 1);
  cluster.say(a, wire::HeadRequest{remote, create}, 4);
  EXPECT_THAT(cluster.said<wire::PlaceActor>(), SizeIs(1));
  cluster.say(a, wire::HeadRequest{remote, create}, 4);
  EXPECT_THAT(cluster.last, IsEmpty());
  cluster.beat(a, room(4));
  EXPECT_EQ(cluster.said<wire::Heartbeat>().at(0).second.heard_up_to, 4u);
  cluster.expect_replay_is_equal();

  // Another life of the head knows what the first one wrote down: an actor that came and went is not made again.
  cluster.say(b, wire::HeadNodeLost{b, "no word of its own counts"});
  cluster.ask(remote, wire::KillActor{.actor = create.actor, .reason = {}});
  EXPECT_EQ(cluster.phase(create.actor), ActorPhase::kDead);
  cluster.restart_head(room(4));
  cluster.say(a, wire::HeadNodeReturns{.info = cluster.core.members().find(a)->info,
                                       .clients = {FakeCluster::client(remote, wire::Role::kDriver)}});
  cluster.say(a, wire::HeadRequest{remote, create}, 4);
  EXPECT_THAT(cluster.said<wire::PlaceActor>(), IsEmpty());
  ASSERT_THAT(cluster.told(remote), SizeIs(1));
  EXPECT_EQ(cluster.told(remote)[0].phase, static_cast<uint8_t>(ActorPhase::kDead));
  create.actor.sequence = 2;
  cluster.say(a, wire::HeadRequest{remote, create}, 5);
  EXPECT_EQ(cluster.phase(create.actor), ActorPhase::kPending);
  cluster.expect_replay_is_equal();
  cluster.say(a, wire::HeadNodeLeaves{a, "done"});
  cluster.expect_replay_is_equal();
}

TEST_F(HeadNodes, AHeadThatCameBackKnowsTheMembersBeforeItSpeaksToThem) {
  cluster.restart_head(room(4));
  ASSERT_FALSE(cluster.last.empty());
  EXPECT_EQ(cluster.last[0].to, kHeadNode);
  EXPECT_THAT(std::get<wire::Members>(cluster.last[0].message).joined, SizeIs(2));
}

/// Most of what the node has, some of it as it was.
template <typename Pick>
void say_some(const FakeCluster& cluster, NodeNumber node, const std::vector<uint64_t>& processes,
              const std::vector<ActorKey>& actors, const Pick& pick, wire::HeadNodeReturns& returns) {
  for (uint64_t one : processes)
    if (wire::node_of(one) == node && pick(4) != 0) returns.clients.push_back(FakeCluster::client(one));
  for (const ActorKey& actor : actors)
    if (const HeadCore::Actor* known = cluster.core.find(actor); known != nullptr && pick(3) != 0)
      returns.actors.push_back({actor, known->incarnation - pick(2), pick(2), 7});
}

// Nodes come, go, fall silent and return, the head restarts, actors live and die: the invariants hold after each step, and
// the store always gives the same tables.
TEST(HeadNodesRandom, RandomClustersKeepTheirInvariants) {
  for (uint32_t seed = 0; seed < 40; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    FakeCluster cluster({.max_dead_actors = 20});
    std::mt19937 random(seed);
    const auto pick = [&](size_t below) { return static_cast<uint32_t>(random() % below); };
    cluster.join(room(4));
    std::vector<NodeNumber> nodes{kHeadNode};
    std::vector<uint64_t> processes{cluster.process(kHeadNode, wire::Role::kDriver)};
    std::vector<ActorKey> actors;
    for (int step = 0; step < 400; ++step) {
      const NodeNumber node = nodes[pick(nodes.size())];
      const uint64_t process = processes[pick(processes.size())];
      switch (pick(14)) {
        case 0:
          if (const NodeNumber number = cluster.join(room(1 + pick(8), static_cast<int>(pick(3)))); number != 0) {
            nodes.push_back(number);
            processes.push_back(cluster.process(number, pick(4) == 0 ? wire::Role::kDriver : wire::Role::kWorker));
          }
          break;
        case 1: cluster.say(kHeadNode, wire::HeadNodeLost{node, "refused"}); break;
        case 2: cluster.wait(pick(3'000'000)); break;
        case 3:
        case 4:
          for (NodeNumber one : nodes)
            if (pick(8) != 0) cluster.beat(one, room(pick(4)), pick(2), pick(30) == 0);
          break;
        case 5:
        case 6: {
          wire::SchedulingClass what = needs(pick(10), pick(4) == 0 ? 0.5 : 0);
          if (pick(5) == 0) what.node = node;
          what.is_soft = pick(2) == 0;
          what.spread = pick(3) == 0;
          actors.push_back(cluster.create(process, what, static_cast<int32_t>(pick(4)) - 1, pick(4) == 0));
          break;
        }
        case 7:
        case 8:
        case 9: {
          if (actors.empty()) break;
          const ActorKey actor = actors[pick(actors.size())];
          const HeadCore::Actor* known = cluster.core.find(actor);
          if (known == nullptr) break;
          cluster.report(pick(8) == 0 ? node : known->node, actor, known->incarnation - pick(2),
                         static_cast<ActorEvent>(pick(5)));
          break;
        }
        case 10:
          if (pick(3) == 0) cluster.restart_head(room(4));
          break;
        case 11: cluster.ask(process, wire::DrainNode{.request = 1, .node = node, .deadline_us = 1, .reason = {}}); break;
        case 12:
          if (pick(4) == 0) cluster.say(node, wire::HeadNodeLeaves{node, "done", pick(2) == 0});
          for (const ActorKey& actor : actors)
            if (const HeadCore::Actor* known = cluster.core.find(actor); known != nullptr && pick(2) == 0)
              cluster.ask(process, wire::ReleaseActor{actor, known->incarnation});
          break;
        default: {
          const Membership::Member* member = cluster.core.members().find(node);
          if (member == nullptr) break;
          wire::HeadNodeReturns returns{.info = member->info};
          say_some(cluster, node, processes, actors, pick, returns);
          cluster.say(node, returns);
          break;
        }
      }
    }
    cluster.expect_replay_is_equal();
  }
}

}  // namespace
}  // namespace manta::head

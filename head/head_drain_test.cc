// A node that is drained: nothing new goes there, and what is on it moves while it still answers.
#include "head/testing/fake_cluster.h"

#include <gmock/gmock.h>

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

class HeadDrain : public ::testing::Test {
 protected:
  HeadDrain() {
    cluster.join(room(0));
    a = cluster.join(room(4));
    driver = cluster.process(kHeadNode, wire::Role::kDriver);
  }
  /// Lives on `a`; then `b` joins.
  ActorKey living(int32_t max_restarts) {
    const ActorKey actor = cluster.create(driver, needs(1), max_restarts);
    cluster.start(actor);
    return actor;
  }
  void join_b() { b = cluster.join(room(4)); }
  void drain() { cluster.ask(driver, wire::DrainNode{.request = 8, .node = a, .deadline_us = 9, .reason = "a new kernel"}); }
  void release(uint64_t watcher, const ActorKey& actor, uint32_t incarnation = 1) {
    cluster.ask(watcher, wire::ReleaseActor{actor, incarnation});
  }

  FakeCluster cluster;
  NodeNumber a = 0;
  NodeNumber b = 0;
  uint64_t driver = 0;
};

TEST_F(HeadDrain, TheNodeIsToldAndTheClientHearsTwice) {
  join_b();
  drain();
  ASSERT_THAT(cluster.said<wire::BeginDrain>(), SizeIs(1));
  EXPECT_EQ(cluster.said<wire::BeginDrain>()[0].first, a);
  EXPECT_EQ(cluster.said<wire::BeginDrain>()[0].second.reason, "a new kernel");
  ASSERT_THAT(cluster.said<wire::DrainNotice>(), SizeIs(1));
  EXPECT_FALSE(cluster.said<wire::DrainNotice>()[0].second.progress.is_gone);
  cluster.beat(a, room(4));  // said before it had heard
  const ActorKey actor = cluster.create(driver, needs(1));
  EXPECT_EQ(cluster.where(actor), b);
  cluster.say(a, wire::HeadNodeLeaves{a, "a new kernel", true});
  const auto notices = cluster.said<wire::DrainNotice>();
  ASSERT_THAT(notices, SizeIs(1));
  EXPECT_EQ(notices[0].second.to, driver);
  EXPECT_EQ(notices[0].second.progress.request, 8u);
  EXPECT_TRUE(notices[0].second.progress.is_gone);
  EXPECT_THAT(notices[0].second.progress.how, HasSubstr("drained"));
  const auto members = cluster.said<wire::Members>();
  ASSERT_FALSE(members.empty());
  EXPECT_TRUE(wire::is_preempted(members[0].second.gone.at(0).cause));
}

TEST_F(HeadDrain, WhatCannotBeDrainedIsRefused) {
  const auto answer = [&](NodeNumber node, int64_t deadline_us) {
    cluster.ask(driver, wire::DrainNode{.request = 1, .node = node, .deadline_us = deadline_us, .reason = {}});
    EXPECT_THAT(cluster.said<wire::BeginDrain>(), IsEmpty());
    return wire::from_wire(cluster.said<wire::DrainNotice>().at(0).second.progress.status).code();
  };
  EXPECT_EQ(answer(77, 1), Code::kNotFound);
  EXPECT_EQ(answer(kHeadNode, 1), Code::kInvalid);
  EXPECT_EQ(answer(a, -1), Code::kInvalid);
  EXPECT_EQ(answer(cluster.join({.info = {.capacity = room(0), .labels = {}, .is_driver = true}}), 1), Code::kInvalid);
}

TEST_F(HeadDrain, AnActorMovesOnceItsCallersHaveTheirAnswers) {
  const ActorKey actor = living(2);
  const uint64_t other = cluster.process(kHeadNode);
  cluster.ask(other, wire::WatchActor{actor});
  join_b();
  drain();
  for (const uint64_t watcher : {driver, other}) {
    ASSERT_THAT(cluster.told(watcher), SizeIs(1));
    EXPECT_EQ(cluster.told(watcher)[0].phase, static_cast<uint8_t>(ActorPhase::kMoving));
  }
  EXPECT_THAT(cluster.said<wire::EndActor>(), IsEmpty());
  release(driver, actor, 7);  // of another incarnation
  release(driver, actor);
  EXPECT_THAT(cluster.said<wire::EndActor>(), IsEmpty());
  release(driver, actor);
  EXPECT_THAT(cluster.said<wire::EndActor>(), IsEmpty());
  cluster.say(kHeadNode, wire::HeadClientGone{other, {}});  // the other one ends instead
  ASSERT_THAT(cluster.said<wire::EndActor>(), SizeIs(1));
  EXPECT_TRUE(cluster.said<wire::EndActor>()[0].second.drain);
  cluster.report(a, actor, 1, ActorEvent::kLeft);
  EXPECT_EQ(cluster.phase(actor), ActorPhase::kRestarting);
  EXPECT_EQ(cluster.where(actor), b);
  EXPECT_EQ(cluster.core.find(actor)->restarts_used, 0);
  EXPECT_EQ(cluster.core.find(actor)->incarnation, 2u);
  EXPECT_EQ(cluster.said<wire::PlaceActor>().at(0).second.delay_us, 0);
  cluster.expect_replay_is_equal();
}

TEST_F(HeadDrain, OneThatWouldForgetWhatItKnowsStaysToTheEnd) {
  const ActorKey forgets = living(0);
  const ActorKey saves = living(0);
  cluster.say(a, wire::HeadRequest{driver, wire::KillActor{.actor = {driver, 999}, .reason = {}}});
  const uint64_t worker = cluster.process(a);
  cluster.ask(worker, wire::SaveActorState{.actor = saves, .incarnation = 1, .state = "17"});
  join_b();
  drain();
  ASSERT_THAT(cluster.told(driver), SizeIs(1));
  EXPECT_EQ(cluster.told(driver)[0].actor, saves);
  release(driver, saves);
  cluster.report(a, saves, 1, ActorEvent::kLeft);
  EXPECT_EQ(cluster.said<wire::PlaceActor>().at(0).second.start.state, "17");
  cluster.say(a, wire::HeadNodeLeaves{a, "done", true});
  EXPECT_EQ(cluster.phase(forgets), ActorPhase::kDead);
  EXPECT_TRUE(wire::is_preempted(cluster.core.find(forgets)->cause));
  EXPECT_EQ(cluster.phase(saves), ActorPhase::kRestarting);
}

TEST_F(HeadDrain, WhatHadNotStartedIsPlacedElsewhereAtOnce) {
  const ActorKey actor = cluster.create(driver, needs(1));
  join_b();
  cluster.beat(a, room(4), 0, true);  // by itself: SIGTERM
  ASSERT_THAT(cluster.said<wire::EndActor>(), SizeIs(1));
  EXPECT_EQ(cluster.said<wire::EndActor>()[0].second.incarnation, 1u);
  EXPECT_EQ(cluster.where(actor), b);
  cluster.report(a, actor, 1, ActorEvent::kStarted);  // too late
  EXPECT_EQ(cluster.phase(actor), ActorPhase::kPending);
  cluster.start(actor);
  EXPECT_EQ(cluster.phase(actor), ActorPhase::kAlive);
}

TEST_F(HeadDrain, WhatTheDeadlineCutsOffCostsNoRestart) {
  const ActorKey actor = living(1);
  join_b();
  drain();
  cluster.say(a, wire::HeadNodeLeaves{a, "its time was up", true});
  EXPECT_EQ(cluster.phase(actor), ActorPhase::kRestarting);
  EXPECT_EQ(cluster.core.find(actor)->restarts_used, 0);
  cluster.start(actor);
  EXPECT_FALSE(cluster.core.find(actor)->is_moving);
  cluster.report(b, actor, 2, ActorEvent::kEnded);
  EXPECT_EQ(cluster.core.find(actor)->restarts_used, 1);
  cluster.expect_replay_is_equal();
}

TEST_F(HeadDrain, AHeadThatWasRestartedGoesOnWithTheMove) {
  const uint64_t remote = cluster.process(a);
  const ActorKey actor = living(1);
  join_b();
  drain();
  cluster.restart_head(room(0));
  cluster.say(a, wire::HeadNodeReturns{.info = cluster.core.members().find(a)->info,
                                       .clients = {FakeCluster::client(remote)},
                                       .actors = {{actor, 1, wire::first_id_of(a) + 77, 7}},
                                       .watches = {{remote, actor}}});
  EXPECT_EQ(cluster.phase(actor), ActorPhase::kDead) << "its owner was on the head's node";
  cluster.beat(a, room(4), 0, true);
  EXPECT_TRUE(cluster.core.members().find(a)->is_draining);
}

}  // namespace
}  // namespace manta::head

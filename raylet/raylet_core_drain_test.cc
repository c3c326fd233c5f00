// A raylet that is drained, and what it tells a head that was restarted.
#include "raylet/testing/fake_world.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace manta::raylet {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Optional;
using ::testing::SizeIs;

constexpr wire::NodeNumber kOther = 7;
constexpr ProcessId kOwner{wire::first_id_of(kOther) + 1};  // a driver there
constexpr JobId kJob{kOwner.value};
constexpr int64_t kDeadlineUs = 5'000'000;

/// Node 3, which works for a driver of another and has none of its own to speak of.
struct Drained : FakeWorld {
  explicit Drained(int64_t cpus) : FakeWorld(cpus, 0, 3) {
    start_all();
    wire::NodeInfo info;
    info.number = kOther;
    info.capacity.cpus = 8 * wire::kWhole;
    info.capacity.memory_bytes = 1 << 30;
    feed(MembersChanged{{.joined = {info}, .gone = {}}});
  }
  void ask(uint64_t request, bool may_wait = false) {
    wire::RemoteLease message{.owner = kOwner.value, .job = kJob.value, .request = {}, .may_wait = may_wait};
    message.request.request = request;
    message.request.scheduling_class.resources.cpus = wire::kWhole;
    feed(LeaseAsked{kOther, std::move(message)});
  }
  void fetched() {
    JobPlan plan;
    plan.program = "/cache/p";
    feed(JobFetched{kJob, {}, plan});
    start_all();
  }
  void place(uint64_t sequence, uint32_t incarnation = 1) {
    wire::PlaceActor place{.owner = kOwner.value, .scheduling_class = {}, .start = {}, .job = kJob.value};
    place.scheduling_class.resources.cpus = wire::kWhole;
    place.start.actor = {kOwner.value, sequence};
    place.start.incarnation = incarnation;
    feed(HeadSays{std::move(place)});
  }
  void drain(int64_t deadline_us = kDeadlineUs) { feed(DrainAsked{deadline_us, "a new kernel"}); }
  void pass(int64_t us) {
    now_us += us;
    feed(Tick{});
  }
  /// Workers that were asked to leave do, but for those that are not to.
  void leave() {
    for (const auto& [process, token] : std::map(token_of))
      if (live.contains(token) && !sent<wire::Goodbye>(process).empty()) exit(process, {});
  }
  [[nodiscard]] std::vector<wire::ReclaimLease> asked_back() const { return sent<wire::ReclaimLease>(kOwner); }
};

TEST(RayletDrain, AnEmptyNodeGoesOnceItsStoreIsEmpty) {
  Drained world(2);
  world.drain();
  EXPECT_EQ(world.reports_wanted, 1);
  EXPECT_TRUE(world.core.is_draining());
  world.pass(1);
  world.leave();
  world.feed(ObjectsLeft{3});
  EXPECT_FALSE(world.is_ended);
  world.feed(ObjectsLeft{0});
  EXPECT_TRUE(world.is_ended);
  EXPECT_TRUE(world.end.is_drained);
  EXPECT_EQ(world.end.reason, "a new kernel");
}

TEST(RayletDrain, ObjectsGoToNodesThatStay) {
  Drained world(2);
  EXPECT_FALSE(world.receivers);
  world.drain();
  EXPECT_THAT(world.receivers, Optional(ElementsAre(kOther)));
  wire::NodeInfo third, driver;
  third.number = kOther + 1;
  driver.number = kOther + 2;
  driver.is_driver = true;
  world.feed(MembersChanged{{.joined = {third, driver}, .gone = {}}});
  EXPECT_THAT(world.receivers, Optional(ElementsAre(kOther, kOther + 1)));
  world.receivers.reset();
  world.feed(ViewChanged{{1, {{.number = kOther + 1, .available = {}}}}});
  EXPECT_FALSE(world.receivers) << "as before";
  world.feed(ViewChanged{{2, {{.number = kOther + 1, .available = {}, .is_draining = true}}}});
  EXPECT_THAT(world.receivers, Optional(ElementsAre(kOther)));
  world.feed(MembersChanged{{.joined = {}, .gone = {{kOther, {}}}}});
  EXPECT_THAT(world.receivers, Optional(IsEmpty()));
}

TEST(RayletDrain, RunningWorkEndsAndWhatWaitsIsHandedBackAtOnce) {
  Drained world(1);
  world.ask(1);
  world.fetched();
  world.ask(2, true);
  ASSERT_THAT(world.spilled, IsEmpty());
  world.drain();
  ASSERT_THAT(world.spilled, SizeIs(1));
  EXPECT_EQ(world.spilled[0].message.request, 2u);
  EXPECT_EQ(static_cast<Code>(world.spilled[0].message.why.code), Code::kFull);
  ASSERT_THAT(world.asked_back(), SizeIs(1));
  world.ask(3, true);  // its node has not heard yet
  EXPECT_THAT(world.spilled, SizeIs(2));
  world.feed(ObjectsLeft{0});
  world.leave();
  EXPECT_FALSE(world.is_ended);
  const uint64_t lease = world.grant_of(kOwner, 1)->lease;
  world.say(kOwner, wire::ReturnLease{lease});
  world.pass(1);
  world.leave();
  EXPECT_TRUE(world.is_ended);
}

TEST(RayletDrain, AGrantWithoutAWorkerIsHandedBackToo) {
  Drained world(1);
  world.ask(1);
  world.drain();
  ASSERT_THAT(world.spilled, SizeIs(1));
  world.feed(JobFetched{kJob, {}, {}});
  EXPECT_THAT(world.starting, IsEmpty());
  world.feed(ObjectsLeft{0});
  world.pass(1);
  world.leave();
  EXPECT_TRUE(world.is_ended);
}

TEST(RayletDrain, WhatItsOwnWorkNeedsIsAskedForElsewhere) {
  Drained world(2);
  world.ask(1);
  world.fetched();
  const ProcessId parent{world.grant_of(kOwner, 1)->worker};
  world.drain();
  world.request(parent, 4, 1);
  ASSERT_THAT(world.asked, SizeIs(1));
  EXPECT_EQ(world.asked[0].node, kOther);
  world.feed(MembersChanged{{.joined = {}, .gone = {{kOther + 1, {}}}}});
  EXPECT_FALSE(world.grant_of(parent, 4));
}

TEST(RayletDrain, ChildrenThatNobodyElseCouldRunRunHere) {
  Drained world(10);
  world.ask(1);
  world.fetched();
  const ProcessId parent{world.grant_of(kOwner, 1)->worker};
  world.drain();
  world.request(parent, 4, 9);  // the other has eight
  world.start_all();
  EXPECT_TRUE(world.grant_of(parent, 4));
  EXPECT_THAT(world.sent<wire::ReclaimLease>(parent), SizeIs(1));
}

TEST(RayletDrain, AnActorStaysUntilTheHeadTakesItAway) {
  Drained world(2);
  world.place(1);
  world.fetched();
  world.place(2);  // no worker of its own yet, or waiting
  world.drain();
  world.feed(ObjectsLeft{0});
  for (const uint64_t sequence : {1u, 2u})
    world.feed(HeadSays{wire::EndActor{.actor = {kOwner.value, sequence}, .incarnation = 1, .drain = true, .reason = {}}});
  world.pass(1);
  world.leave();
  ASSERT_FALSE(world.is_ended);
  for (const auto& [process, token] : std::map(world.token_of))
    if (world.live.contains(token) && !world.sent<wire::StopActor>(process).empty()) world.exit(process, {});
  world.bury_killed();
  EXPECT_TRUE(world.is_ended);
  const auto* last = std::get_if<wire::HeadActorEvent>(&world.told_head[world.told_head.size() - 2]);
  ASSERT_NE(last, nullptr);
  EXPECT_EQ(static_cast<wire::ActorEvent>(last->event), wire::ActorEvent::kLeft);
}

TEST(RayletDrain, TheDeadlineCutsOffTheRestWithoutBlame) {
  Drained world(2);
  world.ask(1);
  world.fetched();
  world.drain();
  ASSERT_TRUE(world.core.next_deadline_us());
  EXPECT_LE(*world.core.next_deadline_us(), world.now_us + kDeadlineUs);
  world.pass(kDeadlineUs - 1);
  world.leave();
  EXPECT_THAT(world.killed, IsEmpty());
  world.pass(1);
  EXPECT_THAT(world.killed, SizeIs(1));
  world.bury_killed();
  EXPECT_TRUE(world.is_ended);
  ASSERT_FALSE(world.told_gone.empty());
  EXPECT_TRUE(wire::is_preempted(world.told_gone.back().message.cause));
}

TEST(RayletDrain, AskedAgainTheEarlierEndCounts) {
  Drained world(2);
  world.ask(1);
  world.fetched();
  world.drain();
  world.drain(2 * kDeadlineUs);
  world.feed(HeadSays{wire::BeginDrain{.deadline_us = 0, .reason = "at once"}});
  world.pass(0);
  EXPECT_THAT(world.killed, Not(IsEmpty()));
  // One that does not even die is not waited for.
  world.pass(RayletCore::kEndTimeoutUs);
  EXPECT_TRUE(world.is_ended);
}

TEST(RayletReturns, SaysWhichActorsLiveAndWhoWatches) {
  Drained world(2);
  world.place(1);
  world.fetched();
  ProcessId host;
  for (const auto& [process, token] : world.token_of)
    if (!world.sent<wire::StartActor>(process).empty()) host = process;
  ASSERT_TRUE(host);
  world.place(2);
  world.place(3);
  world.say(FakeWorld::kDriver, wire::WatchActor{{kOwner.value, 1}});
  world.say(FakeWorld::kDriver, wire::WatchActor{{kOwner.value, 9}});
  wire::ActorNotice dead{.to = FakeWorld::kDriver.value, .update = {}};
  dead.update.actor = {kOwner.value, 9};
  dead.update.phase = static_cast<uint8_t>(wire::ActorPhase::kDead);
  world.feed(HeadSays{dead});
  world.feed(HeadSays{wire::HeadRestarted{2}});
  const auto returned = [&]() -> const wire::HeadNodeReturns* {
    const auto is_it = [](const wire::ToHead& one) { return std::holds_alternative<wire::HeadNodeReturns>(one); };
    const auto at = std::find_if(world.told_head.rbegin(), world.told_head.rend(), is_it);
    return at == world.told_head.rend() ? nullptr : &std::get<wire::HeadNodeReturns>(*at);
  };
  const wire::HeadNodeReturns* before = returned();
  ASSERT_NE(before, nullptr);
  ASSERT_THAT(before->actors, SizeIs(3));
  EXPECT_EQ(before->actors[0].worker, 0u) << "it is being constructed";
  ASSERT_THAT(before->watches, SizeIs(1));
  EXPECT_EQ(before->watches[0].actor.sequence, 1u);
  world.say(host, wire::ActorStarted{.actor = {kOwner.value, 1}, .incarnation = 1, .status = {}});
  world.feed(HeadSays{wire::HeadRestarted{3}});
  const wire::HeadNodeReturns* after = returned();
  ASSERT_NE(after, nullptr);
  EXPECT_EQ(after->actors[0].worker, host.value);
}

}  // namespace
}  // namespace manta::raylet

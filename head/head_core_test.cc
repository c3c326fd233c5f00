#include "head/head_core.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

namespace manta::head {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using wire::ActorEvent;
using wire::ActorKey;
using wire::ActorPhase;

constexpr uint64_t kDriver = 1;
constexpr uint64_t kOther = 2;

class HeadTest : public ::testing::Test {
 protected:
  HeadTest() {
    join(kDriver, wire::Role::kDriver);
    join(kOther, wire::Role::kWorker);
  }

  void feed(wire::ToHead message) {
    HeadEffects effects = core.step(wire::kHeadNode, std::move(message), now_us);
    last = std::move(effects.messages);
    EXPECT_TRUE(store.append(effects.records).ok());
    core.check_invariants();
  }
  void join(uint64_t process, wire::Role role) {
    feed(wire::HeadClientJoined{
        .process = process, .role = static_cast<uint8_t>(role), .pid = 5, .job = 1, .job_name = "test"});
  }
  template <typename Request>
  void ask(uint64_t from, Request request) {
    feed(wire::HeadRequest{from, std::move(request)});
  }
  ActorKey create(uint64_t sequence, int32_t max_restarts = 0, const std::string& name = "") {
    wire::CreateActor create;
    create.actor = {kDriver, sequence};
    create.max_restarts = max_restarts;
    create.name = name;
    ask(kDriver, create);
    return create.actor;
  }
  void report(const ActorKey& actor, uint32_t incarnation, ActorEvent event, const std::string& why = "killed") {
    feed(wire::HeadActorEvent{.actor = actor,
                              .incarnation = incarnation,
                              .event = static_cast<uint8_t>(event),
                              .worker = 7,
                              .worker_pid = 8,
                              .cause = wire::to_wire(event == ActorEvent::kStarted ? Status() : Status(Code::kDied, why))});
  }

  template <typename Message>
  std::vector<Message> said() const {
    std::vector<Message> found;
    for (const wire::ToNode& said : last)
      if (const auto* one = std::get_if<Message>(&said.message)) found.push_back(*one);
    return found;
  }
  std::vector<wire::ActorUpdate> told(uint64_t watcher) const {
    std::vector<wire::ActorUpdate> found;
    for (const auto& notice : said<wire::ActorNotice>())
      if (notice.to == watcher) found.push_back(notice.update);
    return found;
  }
  ActorPhase phase(const ActorKey& actor) const { return core.find(actor)->phase; }

  /// Invariant 12: what the store holds gives the same tables.
  void expect_replay_is_equal() {
    HeadCore again;
    ASSERT_TRUE(again.replay(store.load().value()).ok());
    again.check_invariants();
    EXPECT_EQ(again.snapshot(), core.snapshot());
  }

  HeadCore core;
  MemoryStore store;
  int64_t now_us = 0;
  std::vector<wire::ToNode> last;
};

TEST_F(HeadTest, AnActorIsPlacedAndItsWatchersHearOfIt) {
  const ActorKey actor = create(1);
  ASSERT_THAT(said<wire::PlaceActor>(), SizeIs(1));
  EXPECT_EQ(told(kDriver).at(0).phase, static_cast<uint8_t>(ActorPhase::kPending));
  ask(kOther, wire::WatchActor{actor});
  EXPECT_THAT(told(kOther), SizeIs(1));
  report(actor, 1, ActorEvent::kStarted);
  EXPECT_EQ(told(kOther).at(0).phase, static_cast<uint8_t>(ActorPhase::kAlive));
  EXPECT_EQ(told(kOther).at(0).worker, 7u);
  expect_replay_is_equal();
}

TEST_F(HeadTest, ADeadIncarnationStaysDead) {
  const ActorKey actor = create(1, 1);
  report(actor, 1, ActorEvent::kStarted);
  report(actor, 1, ActorEvent::kEnded);
  EXPECT_EQ(phase(actor), ActorPhase::kRestarting);
  EXPECT_EQ(said<wire::PlaceActor>().at(0).start.incarnation, 2u);
  report(actor, 1, ActorEvent::kStarted);  // late news of the first
  EXPECT_EQ(phase(actor), ActorPhase::kRestarting);
  report(actor, 2, ActorEvent::kStarted);
  report(actor, 1, ActorEvent::kEnded);
  EXPECT_EQ(phase(actor), ActorPhase::kAlive);
  report(actor, 2, ActorEvent::kEnded);
  EXPECT_EQ(phase(actor), ActorPhase::kDead);
  report(actor, 2, ActorEvent::kStarted);
  EXPECT_EQ(phase(actor), ActorPhase::kDead);
  EXPECT_THAT(last, IsEmpty());
  expect_replay_is_equal();
}

TEST_F(HeadTest, ARestartTakesUpTheSavedStateOfThatIncarnationOnly) {
  const ActorKey actor = create(1, -1);
  report(actor, 1, ActorEvent::kStarted);
  ask(kOther, wire::SaveActorState{actor, 1, "one"});
  expect_replay_is_equal();
  report(actor, 1, ActorEvent::kEnded);
  EXPECT_EQ(said<wire::PlaceActor>().at(0).start.state, "one");
  ask(kOther, wire::SaveActorState{actor, 1, "stale"});
  report(actor, 2, ActorEvent::kEnded);
  EXPECT_EQ(said<wire::PlaceActor>().at(0).start.state, "one");
  ask(kDriver, wire::KillActor{.actor = actor, .reason = "x"});
  expect_replay_is_equal();
}

TEST_F(HeadTest, AnActorThatDiesAtOnceAgainAndAgainWaitsLongerEachTime) {
  const ActorKey actor = create(1, -1);
  uint32_t incarnation = 1;
  const auto delay_after = [&](int64_t lived_us) {
    report(actor, incarnation, ActorEvent::kStarted);
    feed(wire::HeadActorEvent{.actor = actor,
                              .incarnation = incarnation++,
                              .event = static_cast<uint8_t>(ActorEvent::kEnded),
                              .cause = wire::to_wire(Status(Code::kDied, "killed")),
                              .lived_us = lived_us});
    return said<wire::PlaceActor>().at(0).delay_us;
  };
  EXPECT_EQ(delay_after(1'000), 0);
  EXPECT_EQ(delay_after(1'000), 50'000);
  EXPECT_EQ(delay_after(1'000), 100'000);
  EXPECT_EQ(delay_after(9'999'999), 200'000);
  for (int i = 0; i < 40; ++i) EXPECT_LE(delay_after(0), 5'000'000);
  EXPECT_EQ(delay_after(0), 5'000'000);
  EXPECT_EQ(delay_after(10'000'000), 0);  // it lived: the next is a first one again
  EXPECT_EQ(delay_after(0), 50'000);
}

TEST_F(HeadTest, APlaceSaysWhetherAnotherWouldFollow) {
  const ActorKey actor = create(1, 1);
  EXPECT_TRUE(said<wire::PlaceActor>().at(0).may_restart);
  report(actor, 1, ActorEvent::kEnded);
  EXPECT_FALSE(said<wire::PlaceActor>().at(0).may_restart);
}

TEST_F(HeadTest, AWatchMayOvertakeTheCreation) {
  const ActorKey actor{kDriver, 1};
  ask(kOther, wire::WatchActor{actor});
  EXPECT_THAT(last, IsEmpty());
  create(1);
  EXPECT_THAT(told(kOther), SizeIs(1));
}

TEST_F(HeadTest, AWatchOfWhatNeverCameEndsWithItsOwner) {
  ask(kOther, wire::WatchActor{{kDriver, 5}});
  feed(wire::HeadClientGone{kDriver, {}});
  ASSERT_THAT(told(kOther), SizeIs(1));
  EXPECT_EQ(told(kOther)[0].phase, static_cast<uint8_t>(ActorPhase::kDead));
  ask(kOther, wire::WatchActor{{kDriver, 6}});
  EXPECT_EQ(wire::from_wire(told(kOther).at(0).cause).code(), Code::kNotFound);
}

TEST_F(HeadTest, TheDeathOfAnOwnerEndsItsActorsButTheDetached) {
  const ActorKey actor = create(1, -1);
  wire::CreateActor detached;
  detached.actor = {kDriver, 2};
  detached.detached = true;
  ask(kDriver, detached);
  ask(kOther, wire::WatchActor{actor});
  feed(wire::HeadClientGone{kDriver, wire::to_wire(Status(Code::kDied, "exited with code 1"))});
  EXPECT_EQ(phase(actor), ActorPhase::kDead);
  EXPECT_EQ(phase(detached.actor), ActorPhase::kPending);
  EXPECT_THAT(told(kOther).at(0).cause.message, HasSubstr("its owner ended: exited with code 1"));
  EXPECT_THAT(said<wire::EndActor>(), SizeIs(1));
  expect_replay_is_equal();
}

TEST_F(HeadTest, ANameIsFreeAgainWhenItsActorIsDead) {
  const ActorKey first = create(1, 0, "boss");
  create(2, 0, "boss");
  EXPECT_EQ(wire::from_wire(told(kDriver).at(0).cause).code(), Code::kExists);
  EXPECT_EQ(core.find({kDriver, 2}), nullptr);
  report(first, 1, ActorEvent::kRefused);
  const ActorKey third = create(3, 0, "boss");
  ask(kOther, wire::FindActor{.request = 1, .name = "boss", .name_space = ""});
  EXPECT_EQ(said<wire::ActorAnswer>().at(0).found.actor, third);
}

TEST_F(HeadTest, DrainingWaitsForTheStart) {
  const ActorKey actor = create(1, -1);
  ask(kDriver, wire::KillActor{.actor = actor, .drain = true, .reason = {}});
  EXPECT_THAT(last, IsEmpty());
  report(actor, 1, ActorEvent::kStarted);
  ASSERT_THAT(said<wire::EndActor>(), SizeIs(1));
  EXPECT_TRUE(said<wire::EndActor>()[0].drain);
  report(actor, 1, ActorEvent::kLeft);
  EXPECT_EQ(phase(actor), ActorPhase::kDead);
}

TEST_F(HeadTest, AKilledActorThatMayRestartDoes) {
  const ActorKey actor = create(1, 1);
  report(actor, 1, ActorEvent::kStarted);
  ask(kOther, wire::KillActor{.actor = actor, .no_restart = false, .reason = "test"});
  EXPECT_EQ(phase(actor), ActorPhase::kAlive);
  EXPECT_FALSE(said<wire::EndActor>().at(0).drain);
  report(actor, 1, ActorEvent::kEnded);
  EXPECT_EQ(phase(actor), ActorPhase::kRestarting);
}

TEST(HeadCore, TheDeadAreForgottenInOrderAndLateWatchersStillHear) {
  HeadCore core({.max_dead_actors = 3});
  (void)core.step(wire::kHeadNode, wire::HeadClientJoined{.process = kDriver, .role = 0, .pid = 1, .job = 1, .job_name = {}},
                  0);
  for (uint64_t i = 1; i <= 10; ++i) {
    wire::CreateActor create;
    create.actor = {kDriver, i};
    (void)core.step(wire::kHeadNode, wire::HeadRequest{kDriver, create}, 0);
    (void)core.step(wire::kHeadNode, wire::HeadRequest{kDriver, wire::KillActor{.actor = create.actor, .reason = {}}}, 0);
    core.check_invariants();
  }
  EXPECT_EQ(core.find({kDriver, 7}), nullptr);
  EXPECT_NE(core.find({kDriver, 8}), nullptr);
  const HeadEffects effects = core.step(wire::kHeadNode, wire::HeadRequest{kDriver, wire::WatchActor{{kDriver, 2}}}, 0);
  ASSERT_THAT(effects.messages, SizeIs(1));
  EXPECT_EQ(std::get<wire::ActorNotice>(effects.messages[0].message).update.phase, static_cast<uint8_t>(ActorPhase::kDead));
}

TEST(HeadCore, LineageIsBoundedInBytesOldestFirst) {
  HeadCore core({.max_lineage_bytes = 100});
  (void)core.step(wire::kHeadNode, wire::HeadClientJoined{.process = kDriver, .role = 0, .pid = 1, .job = 1, .job_name = {}},
                  0);
  for (uint64_t i = 1; i <= 50; ++i) {
    (void)core.step(wire::kHeadNode, wire::HeadRequest{kDriver, wire::LogLineage{{i}, {std::string(10, 'x')}, {}}}, 0);
    core.check_invariants();
  }
  EXPECT_EQ(core.lineage_bytes(), 100u);
  (void)core.step(wire::kHeadNode, wire::HeadRequest{kDriver, wire::LogLineage{{}, {}, {50, 49, 1}}}, 0);
  EXPECT_EQ(core.lineage_tasks(), 8u);
  // Larger than all of it.
  (void)core.step(wire::kHeadNode, wire::HeadRequest{kDriver, wire::LogLineage{{60}, {std::string(101, 'x')}, {}}}, 0);
  EXPECT_EQ(core.lineage_tasks(), 8u);
}

TEST(HeadCore, DamagedRecordsAreRefused) {
  HeadCore core;
  EXPECT_EQ(core.replay({{Table::kActors, "1-1", "garbage", false}}).code(), Code::kInvalid);
  EXPECT_EQ(core.replay({{Table::kJobs, "wrong key", std::string("\x92\x01\xa1x"), false}}).code(), Code::kInvalid);
}

// Random lives: invariants hold after each step, and the store always gives the same tables back.
TEST_F(HeadTest, RandomLivesReplayToTheSameTables) {
  for (uint32_t seed = 0; seed < 50; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    core = HeadCore();
    store = MemoryStore();
    join(kDriver, wire::Role::kDriver);
    join(kOther, wire::Role::kWorker);
    std::mt19937 random(seed);
    const auto pick = [&](uint32_t below) { return static_cast<uint32_t>(random() % below); };
    for (int step = 0; step < 300; ++step) {
      const ActorKey actor{kDriver, 1 + pick(10)};
      switch (pick(8)) {
        case 0:
        case 1:
          create(actor.sequence, static_cast<int32_t>(pick(4)) - 1, pick(3) == 0 ? "name" + std::to_string(pick(3)) : "");
          break;
        case 2:
        case 3: report(actor, 1 + pick(3), static_cast<ActorEvent>(pick(5))); break;
        case 4: ask(kOther, wire::SaveActorState{actor, 1 + pick(3), std::string(pick(50), 's')}); break;
        case 5:
          ask(kOther, wire::KillActor{.actor = actor, .drain = pick(2) == 0, .no_restart = pick(2) == 0, .reason = "r"});
          break;
        case 6: ask(kOther, wire::LogLineage{{pick(100)}, {std::string(pick(100), 'l')}, {pick(100)}}); break;
        default: ask(kOther, wire::WatchActor{actor}); break;
      }
    }
    expect_replay_is_equal();
    feed(wire::HeadClientGone{kDriver, {}});
    expect_replay_is_equal();
  }
}

}  // namespace
}  // namespace manta::head

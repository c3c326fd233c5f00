#include "raylet/testing/fake_world.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace manta::raylet {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr ProcessId kDriver = FakeWorld::kDriver;

TEST(RayletCore, PrestartsAWorkerForEachCpu) {
  FakeWorld world(3);
  EXPECT_THAT(world.spawns, SizeIs(3));
  EXPECT_EQ(world.spawns[0].env.at("MANTA_WORKER_FD"), "3");
}

TEST(RayletCore, GrantsAtOnceWhenAWorkerIsIdle) {
  FakeWorld world(2);
  world.start_all();
  world.request(kDriver, 1, 1);
  const auto granted = world.grant_of(kDriver, 1);
  ASSERT_TRUE(granted);
  EXPECT_TRUE(granted->new_channel);
  world.say(kDriver, wire::ReturnLease{granted->lease});
  EXPECT_TRUE(world.core.is_at_rest());
}

TEST(RayletCore, PrefersTheWorkerThatAlreadyHasAChannel) {
  FakeWorld world(3);
  world.start_all();
  world.request(kDriver, 1, 1);
  const auto first = *world.grant_of(kDriver, 1);
  world.now_us += 10;
  world.say(kDriver, wire::ReturnLease{first.lease});
  const ProcessId other{first.worker == 100 ? 101u : 100u};
  world.now_us += 10;
  world.request(other, 1, 1);
  const auto taken = *world.grant_of(other, 1);
  EXPECT_NE(taken.worker, other.value);  // nobody is given itself
  world.now_us += 10;
  world.say(other, wire::ReturnLease{taken.lease});
  world.request(kDriver, 2, 1);
  EXPECT_EQ(world.grant_of(kDriver, 2)->worker, first.worker);
  EXPECT_FALSE(world.grant_of(kDriver, 2)->new_channel);
}

TEST(RayletCore, AnIdleWorkerThatAsksGetsAnother) {
  FakeWorld world(1);
  world.start_all();
  const ProcessId only = world.process_of.begin()->second;
  world.request(only, 1, 1);
  EXPECT_FALSE(world.grant_of(only, 1));
  world.start_all();
  ASSERT_TRUE(world.grant_of(only, 1));
  EXPECT_NE(world.grant_of(only, 1)->worker, only.value);
}

// Reached only through FIFO: of one owner and class the oldest request is served first.
TEST(RayletCore, ServesOneClassInOrder) {
  FakeWorld world(1);
  world.start_all();
  for (uint64_t number = 1; number <= 5; ++number) world.request(kDriver, number, 1);
  for (uint64_t number = 1; number <= 5; ++number) {
    ASSERT_THAT(world.grants, SizeIs(number));
    EXPECT_EQ(world.grants.back().second.request, number);
    world.say(kDriver, wire::ReturnLease{world.grants.back().second.lease});
  }
  EXPECT_TRUE(world.core.is_at_rest());
}

TEST(RayletCore, AnOwnerWithNothingGoesFirstAndAnotherGivesBack) {
  FakeWorld world(2);
  world.start_all();
  for (uint64_t number = 1; number <= 6; ++number) world.request(kDriver, number, 1);
  ASSERT_THAT(world.grants, SizeIs(2));
  const ProcessId other{world.grants[0].second.worker};
  world.request(other, 1, 1);
  const auto reclaims = world.sent<wire::ReclaimLease>(kDriver);
  ASSERT_THAT(reclaims, SizeIs(1));  // one is enough
  world.say(kDriver, wire::ReturnLease{reclaims[0].lease});
  world.start_all();                      // the worker that came free is the asker itself
  EXPECT_TRUE(world.grant_of(other, 1));  // before the driver's older requests
  EXPECT_THAT(world.grants, SizeIs(3));
}

TEST(RayletCore, TwoOwnersWithOneLeaseEachLeaveEachOtherAlone) {
  FakeWorld world(2);
  world.start_all();
  world.request(kDriver, 1, 1);
  const ProcessId other{world.grants[0].second.worker};
  world.request(other, 1, 1);
  ASSERT_THAT(world.grants, SizeIs(2));
  world.request(kDriver, 2, 1);
  world.request(other, 2, 1);
  EXPECT_THAT(world.sent<wire::ReclaimLease>(kDriver), IsEmpty());
  EXPECT_THAT(world.sent<wire::ReclaimLease>(other), IsEmpty());
}

TEST(RayletCore, AnotherClassOfTheSameOwnerGetsItsTurn) {
  FakeWorld world(2);
  world.start_all();
  for (uint64_t number = 1; number <= 4; ++number) world.request(kDriver, number, 1);
  world.request(kDriver, 10, 2);
  const auto reclaims = world.sent<wire::ReclaimLease>(kDriver);
  ASSERT_THAT(reclaims, SizeIs(2));
}

// A task waits for a task that waits for a task, on one CPU.
TEST(RayletCore, NestedWaitingOnOneCpuNeverDeadlocks) {
  FakeWorld world(1);
  world.start_all();
  ProcessId owner = kDriver;
  std::vector<wire::LeaseGranted> chain;
  for (int depth = 0; depth < 20; ++depth) {
    world.request(owner, 1, 1);
    world.start_all();
    const auto granted = world.grant_of(owner, 1);
    ASSERT_TRUE(granted) << "depth " << depth;
    chain.push_back(*granted);
    owner = ProcessId{granted->worker};
    world.say(owner, wire::Blocked{true});
  }
  EXPECT_EQ(world.sent<wire::LeaseBlocked>(kDriver).size(), 1u);
  for (size_t i = chain.size(); i-- > 0;) {
    world.say(ProcessId{chain[i].worker}, wire::Blocked{false});
    world.say(i == 0 ? kDriver : ProcessId{chain[i - 1].worker}, wire::ReturnLease{chain[i].lease});
  }
  EXPECT_TRUE(world.core.is_at_rest());
}

TEST(RayletCore, AWideClaimIsNotStarvedByNarrowOnes) {
  FakeWorld world(2);
  world.start_all();
  world.request(kDriver, 1, 1);
  world.request(kDriver, 2, 1);
  world.request(kDriver, 100, 2);
  world.now_us += RayletCore::kStarvingUs;
  world.request(kDriver, 3, 1);
  world.say(kDriver, wire::ReturnLease{world.grant_of(kDriver, 1)->lease});
  EXPECT_FALSE(world.grant_of(kDriver, 3));
  world.say(kDriver, wire::ReturnLease{world.grant_of(kDriver, 2)->lease});
  EXPECT_TRUE(world.grant_of(kDriver, 100));
}

TEST(RayletCore, TheDeathOfAnOwnerKillsWhatWorksForIt) {
  FakeWorld world(2);
  world.start_all();
  world.request(kDriver, 1, 1);
  const ProcessId middle{world.grants[0].second.worker};
  world.request(middle, 1, 1);
  world.request(middle, 2, 1);
  const ProcessId child{world.grant_of(middle, 1)->worker};
  world.exit(middle);
  EXPECT_TRUE(world.killed.contains(world.token_of.at(child)));
  world.bury_killed();
  EXPECT_TRUE(world.core.is_at_rest());
  const auto deaths = world.sent<wire::ProcessDied>(kDriver);
  ASSERT_THAT(deaths, SizeIs(2));
  EXPECT_EQ(deaths[0].cause.message, "killed by signal 9 (SIGKILL)");
  EXPECT_EQ(deaths[1].cause.message, "killed by Manta: the process that called it ended");
}

TEST(RayletCore, TheHeadIsToldHowTheJobEnded) {
  const auto told = [](const auto& happens) {
    FakeWorld world(1);
    happens(world);
    for (const wire::ToHead& each : world.told_head)
      if (const auto* gone = std::get_if<wire::HeadClientGone>(&each)) return wire::from_wire(gone->cause);
    return Status(Code::kNotFound, "nothing");
  };
  EXPECT_TRUE(told([](FakeWorld& world) { world.say(kDriver, wire::Goodbye{0}); }).ok());
  EXPECT_THAT(told([](FakeWorld& world) { world.say(kDriver, wire::Goodbye{3}); }).message(), HasSubstr("code 3"));
  EXPECT_EQ(told([](FakeWorld& world) { world.feed(ClientGone{kDriver, {}}); }).code(), Code::kDied);
}

TEST(RayletCore, ADeviceIsFreeOnlyWhenItsProcessIsGone) {
  FakeWorld world(2, 1);
  world.request(kDriver, 1, 0, 1);
  world.start_all();
  const auto granted = *world.grant_of(kDriver, 1);
  world.say(kDriver, wire::ReturnLease{granted.lease});
  world.request(kDriver, 2, 0, 1);
  EXPECT_EQ(world.core.state().available.gpus, 0);
  EXPECT_FALSE(world.grant_of(kDriver, 2));
  world.exit(ProcessId{granted.worker}, {.by_signal = false, .code = 0});
  world.start_all();
  const auto second = world.grant_of(kDriver, 2);
  ASSERT_TRUE(second);
  EXPECT_NE(second->worker, granted.worker);
}

TEST(RayletCore, FragmentedDevicesAreTakenBack) {
  FakeWorld world(4, 2);
  for (uint64_t number = 1; number <= 2; ++number) world.request(kDriver, number, 0, 0.6);
  world.start_all();
  const ProcessId other{world.process_of.begin()->second};
  world.request(other, 1, 0, 1);
  EXPECT_THAT(world.sent<wire::ReclaimLease>(kDriver), SizeIs(1));
}

TEST(RayletCore, ThreeFailedStartsInARowAreTold) {
  FakeWorld world(1);
  world.request(kDriver, 1, 1);
  for (int i = 0; i < 3; ++i) {
    ASSERT_FALSE(world.starting.empty()) << i;
    world.exit(world.starting.front(), {.by_signal = false, .code = 127});
  }
  const auto refusals = world.sent<wire::LeaseRefused>(kDriver);
  ASSERT_THAT(refusals, SizeIs(1));
  EXPECT_THAT(refusals[0].status.message, HasSubstr("exited with code 127 before it was ready; it said: last words"));
  EXPECT_TRUE(world.core.is_at_rest());
}

TEST(RayletCore, ASilentWorkerIsKilledAtItsDeadline) {
  FakeWorld world(1);
  const int64_t due_us = *world.core.next_deadline_us();
  EXPECT_EQ(due_us, world.now_us + RayletCore::kStartTimeoutUs);
  world.now_us = due_us;
  world.feed(Tick{});
  EXPECT_THAT(world.killed, SizeIs(1));
  EXPECT_FALSE(world.core.next_deadline_us());  // asked once is enough
}

TEST(RayletCore, AWorkerWhoseObjectsAreNeededStays) {
  FakeWorld world(1);
  world.request(kDriver, 1, 0);
  world.request(kDriver, 2, 0);
  world.start_all();
  for (const auto& [to, granted] : std::vector(world.grants)) world.say(to, wire::ReturnLease{granted.lease});
  EXPECT_EQ(world.core.state().idle_workers, 2u);
  world.now_us = *world.core.next_deadline_us();
  world.feed(Tick{});
  EXPECT_EQ(world.core.state().idle_workers, 1u);
  for (const auto& [token, process] : world.process_of) world.say(process, wire::Goodbye{1});
  EXPECT_EQ(world.core.state().idle_workers, 2u);
  // The next to be asked is the other one.
  world.feed(Tick{});
  for (const auto& [token, process] : world.process_of) EXPECT_THAT(world.sent<wire::Goodbye>(process), SizeIs(1));
  for (const auto& [token, process] : world.process_of) world.say(process, wire::Goodbye{1});
  EXPECT_GT(*world.core.next_deadline_us(), world.now_us + RayletCore::kIdleReleaseUs);
}

TEST(RayletCore, OnlyStagingFoldersAreRemovedAfterADriver) {
  FakeWorld world(1);
  world.say(kDriver, wire::CleanupPath{"/data/out/.manta-1", true});
  world.say(kDriver, wire::CleanupPath{"/data/out/.manta-2", true});
  world.say(kDriver, wire::CleanupPath{"/data/out/.manta-2", false});
  world.say(kDriver, wire::CleanupPath{"/data", true});  // breaks the protocol: the driver is cut off, and so the node ends
  EXPECT_TRUE(world.is_ended);
  EXPECT_THAT(world.removed, ::testing::ElementsAre("/data/out/.manta-1"));
}

TEST(RayletCore, StrangersCannotTouchALease) {
  FakeWorld world(2);
  world.start_all();
  world.request(kDriver, 1, 1);
  const auto granted = *world.grant_of(kDriver, 1);
  const ProcessId stranger{granted.worker == 100 ? 101u : 100u};
  world.say(stranger, wire::ReturnLease{granted.lease});
  world.say(stranger, wire::KillLease{granted.lease, "mine"});
  EXPECT_EQ(world.core.state().leases, 1u);
  EXPECT_THAT(world.killed, IsEmpty());
}

TEST(RayletCore, TooManyRequestsAreRefused) {
  FakeWorld world(1);
  world.start_all();
  world.request(kDriver, 1, 1);  // has the CPU; all others wait
  constexpr uint64_t kTooMany = 3;
  for (uint64_t number = 2; number < 2 + LeaseQueue::kMaxWaitingOfOwner + kTooMany; ++number)
    world.request(kDriver, number, 1);
  const auto refusals = world.sent<wire::LeaseRefused>(kDriver);
  ASSERT_THAT(refusals, SizeIs(kTooMany));
  EXPECT_EQ(wire::from_wire(refusals[0].status).code(), Code::kFull);
  EXPECT_EQ(world.core.state().waiting_leases, LeaseQueue::kMaxWaitingOfOwner);
}

wire::PlaceActor place(uint64_t sequence, double cpus, uint32_t incarnation = 1) {
  wire::PlaceActor place;
  place.owner = kDriver.value;
  place.start.actor = {kDriver.value, sequence};
  place.start.incarnation = incarnation;
  place.start.class_name = "Class";
  place.scheduling_class.resources.cpus = static_cast<int64_t>(cpus * wire::kWhole);
  return place;
}

TEST(RayletCore, ADelayedRestartWaitsItsTime) {
  FakeWorld world(1);
  world.start_all();
  wire::PlaceActor later = place(1, 1, 2);
  later.delay_us = 50'000;
  world.feed(HeadSays{later});
  EXPECT_THAT(world.sent<wire::StartActor>(world.process_of.begin()->second), IsEmpty());
  EXPECT_FALSE(world.core.is_at_rest());
  EXPECT_EQ(world.core.next_deadline_us(), world.now_us + 50'000);
  world.now_us += 49'999;
  world.feed(Tick{});
  EXPECT_THAT(world.sent<wire::StartActor>(world.process_of.begin()->second), IsEmpty());
  world.now_us += 1;
  world.feed(Tick{});
  EXPECT_THAT(world.sent<wire::StartActor>(world.process_of.begin()->second), SizeIs(1));
}

TEST(RayletCore, ADelayedRestartCanBeCancelled) {
  FakeWorld world(1);
  world.start_all();
  wire::PlaceActor later = place(1, 1, 2);
  later.delay_us = 50'000;
  world.feed(HeadSays{later});
  world.feed(HeadSays{wire::EndActor{.actor = later.start.actor, .incarnation = 2, .reason = "enough"}});
  EXPECT_TRUE(world.core.is_at_rest());
  EXPECT_EQ(world.core.next_deadline_us(), std::nullopt);
}

TEST(RayletCore, TellsHowLongAnActorLived) {
  FakeWorld world(1);
  world.start_all();
  world.feed(HeadSays{place(1, 1)});
  world.now_us += 7'000;
  world.exit(world.process_of.begin()->first);
  const auto* ended = std::get_if<wire::HeadActorEvent>(&world.told_head.at(world.told_head.size() - 2));
  ASSERT_NE(ended, nullptr);
  EXPECT_EQ(ended->event, static_cast<uint8_t>(wire::ActorEvent::kEnded));
  EXPECT_EQ(ended->lived_us, 7'000);
}

TEST(RayletCore, TellsOfTasksThatWaitBehindActors) {
  FakeWorld world(2);
  world.start_all();
  world.feed(HeadSays{place(1, 1)});
  world.feed(HeadSays{place(2, 1)});
  world.request(kDriver, 1, 1);
  EXPECT_THAT(world.sent<wire::LogLines>(kDriver), IsEmpty());
  for (int i = 0; i < 10; ++i) {
    world.now_us = *world.core.next_deadline_us();
    world.feed(Tick{});
  }
  const auto told = world.sent<wire::LogLines>(kDriver);
  ASSERT_THAT(told, SizeIs(1));  // not every second
  EXPECT_THAT(told[0].lines.at(0), HasSubstr("needs 1 CPUs, 0 of 2 are free; actors hold 2 CPUs (2 of Class)"));
  world.feed(HeadSays{wire::EndActor{.actor = {kDriver.value, 1}, .incarnation = 1, .reason = "over"}});
  world.bury_killed();
  world.start_all();
  EXPECT_TRUE(world.grant_of(kDriver, 1));
}

TEST(RayletCore, TasksThatWaitForTasksSayNothing) {
  FakeWorld world(1);
  world.start_all();
  world.request(kDriver, 1, 1);
  world.request(kDriver, 2, 1);
  for (int i = 0; i < 5; ++i) {
    world.now_us += 1'000'000;
    world.feed(Tick{});
  }
  EXPECT_THAT(world.sent<wire::LogLines>(kDriver), IsEmpty());
}

TEST(RayletCore, AnEndIsToldToThoseWhomItConcerns) {
  FakeWorld world(4);
  world.start_all();
  world.request(kDriver, 1, 1);
  const ProcessId leased{world.grant_of(kDriver, 1)->worker};
  std::vector<ProcessId> others;
  for (const auto& [token, process] : world.process_of)
    if (process != leased) others.push_back(process);
  world.say(others[0], wire::WatchProcess{leased.value});
  world.say(others[1], wire::WatchProcess{others[0].value});
  world.exit(leased);
  EXPECT_THAT(world.sent<wire::ProcessDied>(kDriver), SizeIs(1));
  EXPECT_THAT(world.sent<wire::ProcessDied>(others[0]), SizeIs(1));
  EXPECT_THAT(world.sent<wire::ProcessDied>(others[1]), IsEmpty());
  world.say(others[2], wire::WatchProcess{leased.value});  // too late
  ASSERT_THAT(world.sent<wire::ProcessDied>(others[2]), SizeIs(1));
  EXPECT_EQ(world.sent<wire::ProcessDied>(others[2])[0].process, leased.value);
}

TEST(RayletCore, ABurstOfDemandStartsSeveralWorkersAtOnce) {
  FakeWorld world(2);
  world.start_all();
  const size_t before = world.spawns.size();
  EXPECT_TRUE(world.spawns[0].is_first);
  for (uint64_t i = 1; i <= 20; ++i) world.feed(HeadSays{place(i, 0)});
  EXPECT_THAT(world.starting, SizeIs(8));
  world.start_all();
  EXPECT_EQ(world.spawns.size() - before, 18u);
  for (size_t i = before; i < world.spawns.size(); ++i) EXPECT_TRUE(world.spawns[i].may_fork && !world.spawns[i].is_first);
}

// ---------------------------------------------------------------------------------------------------- memory

constexpr int64_t kMib = int64_t{1} << 20;

/// Two owners with two tasks each, and an actor.
class MemoryTest : public ::testing::Test {
 protected:
  MemoryTest() : world(8) {
    world.start_all();
    world.request(kDriver, 1, 1);
    other = ProcessId{world.grant_of(kDriver, 1)->worker};
    for (const auto& [owner, number] : {std::pair{kDriver, 2}, {other, 1}, {other, 2}}) {
      world.now_us += 10;
      world.request(owner, static_cast<uint64_t>(number), 1);
    }
    wire::PlaceActor actor = place(9, 1);
    actor.may_restart = true;
    world.feed(HeadSays{actor});
    for (const auto& [process, token] : world.token_of)
      if (!world.sent<wire::StartActor>(process).empty()) of_actor = token;
  }
  WorkerToken worker_of(ProcessId owner, uint64_t number) {
    return world.token_of.at(ProcessId{world.grant_of(owner, number)->worker});
  }
  void sample(int64_t used_mib, std::vector<WorkerMemory> workers) {
    world.feed(MemorySampled{used_mib * kMib, 1024 * kMib, "the node's workers", std::move(workers)});
  }

  FakeWorld world;
  ProcessId other;
  WorkerToken of_actor;
};

TEST_F(MemoryTest, NothingEndsWhileThereIsRoom) {
  sample(970, {{worker_of(kDriver, 1), 970 * kMib, 0}});
  EXPECT_THAT(world.killed, IsEmpty());
}

TEST_F(MemoryTest, TheNewestTaskOfTheOwnerWithMostEndsFirst) {
  const std::vector<WorkerMemory> workers = {{worker_of(kDriver, 1), 100 * kMib, 0},
                                             {worker_of(kDriver, 2), 200 * kMib, 0},
                                             {worker_of(other, 1), 300 * kMib, 0},
                                             {worker_of(other, 2), 50 * kMib, 60 * kMib},
                                             {of_actor, 374 * kMib, 0}};
  sample(1024, workers);
  ASSERT_THAT(world.killed, ::testing::ElementsAre(worker_of(other, 2)));
  sample(1024, workers);
  EXPECT_THAT(world.killed, SizeIs(1)) << "one at a time";
  world.bury_killed();
  const auto died = world.sent<wire::ProcessDied>(other);
  ASSERT_FALSE(died.empty());
  EXPECT_EQ(wire::from_wire(died.back().cause).message(),
            "killed by the memory monitor: peak 0.06 GiB, the node's workers used 1.00 GiB of 1.00 GiB (100%)");
  sample(1024, workers);
  EXPECT_THAT(world.killed, ::testing::ElementsAre(worker_of(other, 1)));
}

TEST_F(MemoryTest, WhatHasLittleIsSpared) {
  sample(1000, {{worker_of(kDriver, 1), 990 * kMib, 0}, {worker_of(kDriver, 2), 1 * kMib, 0}});
  EXPECT_THAT(world.killed, ::testing::ElementsAre(worker_of(kDriver, 1)));
}

TEST_F(MemoryTest, AnActorEndsOnlyWhenNoTaskIsLeft) {
  sample(1000, {{of_actor, 900 * kMib, 0}, {worker_of(kDriver, 1), 50 * kMib, 0}});
  EXPECT_THAT(world.killed, ::testing::ElementsAre(worker_of(kDriver, 1)));
  world.bury_killed();
  sample(1000, {{of_actor, 900 * kMib, 0}});
  EXPECT_THAT(world.killed, ::testing::ElementsAre(of_actor));
}

TEST_F(MemoryTest, WhoHasMoreThanItAskedForGoesFirst) {
  wire::RequestLease modest{.request = 7, .scheduling_class = {}};
  modest.scheduling_class.resources.cpus = wire::kWhole;
  modest.scheduling_class.resources.memory_bytes = 100 * kMib;
  world.say(other, modest);
  sample(1000, {{worker_of(kDriver, 1), 500 * kMib, 0},
                {worker_of(kDriver, 2), 399 * kMib, 0},
                {worker_of(other, 7), 101 * kMib, 0}});
  EXPECT_THAT(world.killed, ::testing::ElementsAre(worker_of(other, 7)));
}

TEST_F(MemoryTest, AMachineFullOfOthersProcessesIsNotOurs) {
  sample(1020, {{worker_of(kDriver, 1), 2 * kMib, 0}});
  EXPECT_THAT(world.killed, IsEmpty());
}

}  // namespace
}  // namespace manta::raylet

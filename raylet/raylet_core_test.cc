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

}  // namespace
}  // namespace manta::raylet

#include "raylet/bundle_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

namespace manta::raylet {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;
using wire::kWhole;

wire::Resources needs(double cpus, double gpus = 0) {
  return {.cpus = static_cast<int64_t>(cpus * kWhole),
          .gpus = static_cast<int64_t>(gpus * kWhole),
          .gpu_memory_bytes = 0,
          .memory_bytes = 0,
          .custom = {}};
}

wire::SchedulingClass in_group(uint64_t group, wire::Resources resources, int32_t bundle = -1) {
  wire::SchedulingClass what;
  what.resources = std::move(resources);
  what.group = group;
  what.bundle = bundle;
  return what;
}

class Bundles : public ::testing::Test {
 protected:
  wire::PrepareBundles order(uint64_t group, uint64_t attempt, const std::vector<wire::Resources>& each,
                             bool is_commit = true) {
    wire::PrepareBundles order{
        .group = group, .attempt = attempt, .bundles = {}, .number = ++number, .is_commit = is_commit};
    for (const wire::Resources& resources : each)
      order.bundles.push_back({static_cast<int32_t>(order.bundles.size()), resources});
    return order;
  }

  uint64_t number = 0;
  ResourcePool node{NodeCapacity{.cpus = 4 * kWhole,
                                 .memory_bytes = 1000,
                                 .custom = {},
                                 .devices = std::vector<DeviceSpec>(2, DeviceSpec{.memory_bytes = 100})}};
  BundleTable table{node};
};

TEST_F(Bundles, AreSetAsideTogetherOrNotAtAll) {
  EXPECT_TRUE(table.prepare(order(1, 1, {needs(2), needs(1)})).ok());
  EXPECT_EQ(node.available().cpus, kWhole);
  const Status none = table.prepare(order(2, 1, {needs(1), needs(1)}));
  EXPECT_EQ(none.code(), Code::kUnavailable);
  EXPECT_THAT(none.message(), HasSubstr("bundle 1: needs 1 CPUs, 0 of 4 are free"));
  EXPECT_EQ(node.available().cpus, kWhole);
  const Status never = table.prepare(order(3, 1, {needs(3), needs(3)}));
  EXPECT_EQ(never.code(), Code::kInvalid);
  table.check_invariants();
  EXPECT_TRUE(table.release(1, 1));
  EXPECT_TRUE(node.is_whole());
  EXPECT_EQ(table.size(), 0u);
}

TEST_F(Bundles, NothingRunsBeforeTheCommit) {
  ASSERT_TRUE(table.prepare(order(1, 1, {needs(2)}, false)).ok());
  EXPECT_FALSE(table.acquire(in_group(1, needs(1))));
  EXPECT_FALSE(table.commit(1, 2));
  EXPECT_TRUE(table.commit(1, 1));
  EXPECT_TRUE(table.acquire(in_group(1, needs(1))));
}

TEST_F(Bundles, ServeOnlyWhatTheyHave) {
  ASSERT_TRUE(table.prepare(order(1, 1, {needs(1), needs(1)})).ok());
  const std::optional<Grant> first = table.acquire(in_group(1, needs(1)));
  const std::optional<Grant> second = table.acquire(in_group(1, needs(1)));
  ASSERT_TRUE(first && second);
  EXPECT_NE(first->bundle.index, second->bundle.index);
  EXPECT_FALSE(table.acquire(in_group(1, needs(1))));
  EXPECT_EQ(node.available().cpus, 2 * kWhole);
  table.release(*first);
  EXPECT_FALSE(table.acquire(in_group(1, needs(1), second->bundle.index)));
  EXPECT_TRUE(table.acquire(in_group(1, needs(1), first->bundle.index)));
  EXPECT_FALSE(table.could_hold(in_group(1, needs(2))));
  EXPECT_THAT(table.explain(in_group(1, needs(1), 0)), HasSubstr("in bundle 0 of its placement group it needs 1 CPUs"));
}

TEST_F(Bundles, AShareOfADeviceIsThatOfOneDevice) {
  ASSERT_TRUE(node.acquire(needs(0, 0.7)));  // GPU 0
  ASSERT_TRUE(table.prepare(order(1, 1, {needs(1, 0.5)})).ok());
  const std::optional<Grant> a = table.acquire(in_group(1, needs(0, 0.25)));
  const std::optional<Grant> b = table.acquire(in_group(1, needs(0, 0.25)));
  ASSERT_TRUE(a && b);
  EXPECT_THAT(a->devices.devices, ElementsAre(1));
  EXPECT_THAT(b->devices.devices, ElementsAre(1));
  EXPECT_FALSE(table.acquire(in_group(1, needs(0, 0.25))));
  EXPECT_THAT(table.explain(in_group(1, needs(0, 0.25))), HasSubstr("the nearest (GPU 1) has 0"));
  EXPECT_FALSE(table.could_hold(in_group(1, needs(0, 1))));
  table.release(*a);
  table.release(*b);
  table.check_invariants();
}

TEST_F(Bundles, WorkWithoutDevicesLeavesBundlesThatHaveSomeAlone) {
  ASSERT_TRUE(table.prepare(order(1, 1, {needs(1, 1), needs(1)})).ok());
  EXPECT_EQ(table.acquire(in_group(1, needs(1)))->bundle.index, 1);
  EXPECT_EQ(table.acquire(in_group(1, needs(0, 1)))->bundle.index, 0);
}

TEST_F(Bundles, GoBackWhenTheLastThatRunsInThemHasEnded) {
  ASSERT_TRUE(table.prepare(order(1, 1, {needs(1), needs(2)})).ok());
  const std::optional<Grant> running = table.acquire(in_group(1, needs(1), 0));
  ASSERT_TRUE(running);
  EXPECT_TRUE(table.release(1, 1));
  EXPECT_EQ(node.available().cpus, 3 * kWhole);
  EXPECT_FALSE(table.acquire(in_group(1, needs(1))));
  // The next attempt does not wait for it.
  ASSERT_TRUE(table.prepare(order(1, 2, {needs(1)})).ok());
  EXPECT_THAT(table.held(), SizeIs(1));
  table.check_invariants();
  table.release(*running);
  EXPECT_EQ(node.available().cpus, 3 * kWhole);
  table.check_invariants();
}

TEST_F(Bundles, WhatAnOldAttemptSaysHasNoEffect) {
  const wire::PrepareBundles first = order(1, 5, {needs(1)});
  EXPECT_FALSE(table.is_stale(first));
  ASSERT_TRUE(table.prepare(first).ok());
  EXPECT_FALSE(table.is_stale(first));
  EXPECT_TRUE(table.prepare(first).ok());  // again
  EXPECT_EQ(node.available().cpus, 3 * kWhole);
  EXPECT_TRUE(table.is_stale(order(1, 4, {needs(1)})));
  EXPECT_FALSE(table.release(1, 4));
  EXPECT_TRUE(table.release(1, 5));
  ASSERT_TRUE(table.prepare(order(2, 6, {needs(1)})).ok());
  EXPECT_TRUE(table.is_stale(first));  // it was on its way for long
}

TEST_F(Bundles, HostileOrdersAreRefused) {
  EXPECT_EQ(table.prepare(order(0, 1, {needs(1)})).code(), Code::kInvalid);
  EXPECT_EQ(table.prepare(order(1, 1, {})).code(), Code::kInvalid);
  EXPECT_EQ(table.prepare(order(1, 1, {needs(-1)})).code(), Code::kInvalid);
  EXPECT_EQ(table.prepare(order(1, 1, {needs(0, 1.5)})).code(), Code::kInvalid);
  wire::PrepareBundles twice = order(1, 1, {needs(1), needs(1)});
  twice.bundles[1].index = 0;
  EXPECT_EQ(table.prepare(twice).code(), Code::kInvalid);
  EXPECT_TRUE(node.is_whole());
}

TEST_F(Bundles, LentCpusAreForTheBundle) {
  ASSERT_TRUE(table.prepare(order(1, 1, {needs(1)})).ok());
  std::optional<Grant> waiting = table.acquire(in_group(1, needs(1)));
  ASSERT_TRUE(waiting);
  table.lend_cpus(*waiting);
  EXPECT_EQ(node.available().cpus, 3 * kWhole);
  const std::optional<Grant> other = table.acquire(in_group(1, needs(1)));
  ASSERT_TRUE(other);
  table.take_back_cpus(*waiting);
  table.release(*other);
  table.release(*waiting);
  table.check_invariants();
}

// Whatever is done in whatever order: nothing is lost, no device is oversubscribed, and in the end all is whole.
TEST_F(Bundles, RandomLivesKeepTheInvariants) {
  std::mt19937 random(7);
  const auto any = [&](int below) { return static_cast<int>(random() % static_cast<unsigned>(below)); };
  std::vector<Grant> grants;
  std::vector<uint64_t> groups;
  for (int step = 0; step < 20'000; ++step) {
    switch (any(5)) {
      case 0: {
        std::vector<wire::Resources> bundles;
        for (int i = 0; i <= any(3); ++i) bundles.push_back(needs(any(3) * 0.5, any(4) * 0.25));
        const uint64_t group = static_cast<uint64_t>(step) + 1;
        if (table.prepare(order(group, 1, bundles)).ok()) groups.push_back(group);
        break;
      }
      case 1:
      case 2:
        if (!groups.empty()) {
          const uint64_t group = groups[static_cast<size_t>(any(static_cast<int>(groups.size())))];
          if (std::optional<Grant> grant = table.acquire(in_group(group, needs(any(2) * 0.5, any(3) * 0.25))))
            grants.push_back(std::move(*grant));
        }
        break;
      case 3:
        if (!grants.empty()) {
          const auto at = grants.begin() + any(static_cast<int>(grants.size()));
          table.release(*at);
          grants.erase(at);
        }
        break;
      default:
        if (!groups.empty()) {
          const auto at = groups.begin() + any(static_cast<int>(groups.size()));
          EXPECT_TRUE(table.release(*at, 1));
          groups.erase(at);
        }
    }
    table.check_invariants();
  }
  for (const Grant& grant : grants) table.release(grant);
  for (const uint64_t group : groups) table.release(group, 1);
  EXPECT_TRUE(node.is_whole());
  EXPECT_EQ(table.size(), 0u);
}

}  // namespace
}  // namespace manta::raylet

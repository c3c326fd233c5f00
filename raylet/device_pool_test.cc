#include "raylet/device_pool.h"

#include "wire/messages.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

namespace manta::raylet {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using wire::kWhole;

constexpr int64_t kGiB = int64_t{1} << 30;

DevicePool pool_of(int count, int64_t memory_bytes = 16 * kGiB) {
  return DevicePool(std::vector<DeviceSpec>(static_cast<size_t>(count), DeviceSpec{memory_bytes, ""}));
}

TEST(DevicePool, PutsSharesOnTheFullestDeviceThatFits) {
  DevicePool pool = pool_of(2);
  EXPECT_THAT(pool.acquire({6'000})->devices, ElementsAre(0));
  EXPECT_THAT(pool.acquire({3'000})->devices, ElementsAre(0));  // leaves 0.1 on device 0
  EXPECT_THAT(pool.acquire({2'000})->devices, ElementsAre(1));
  EXPECT_FALSE(pool.acquire({kWhole}));
  EXPECT_THAT(pool.explain({kWhole}), HasSubstr("needs 1 idle GPUs, 0 of 2 are idle"));
}

TEST(DevicePool, NeverSplitsADemand) {
  DevicePool pool = pool_of(2);
  ASSERT_TRUE(pool.acquire({6'000}));
  ASSERT_TRUE(pool.acquire({6'000}));
  EXPECT_FALSE(pool.acquire({8'000}));  // 0.4 and 0.4 are free
  EXPECT_THAT(pool.explain({8'000}), HasSubstr("the nearest (GPU 0) has 0.4"));
}

TEST(DevicePool, CountsMemoryOfEachDevice) {
  DevicePool pool({{8 * kGiB, ""}, {80 * kGiB, ""}});
  EXPECT_THAT(pool.acquire({1'000, 20 * kGiB})->devices, ElementsAre(1));
  EXPECT_FALSE(pool.is_feasible({1'000, 100 * kGiB}));
  EXPECT_FALSE(pool.is_feasible({2 * kWhole, 20 * kGiB}));
  EXPECT_TRUE(pool.is_feasible({2 * kWhole, kGiB}));
  EXPECT_FALSE(pool.acquire({0, 61 * kGiB}));  // no share, only memory: 60 are left
}

TEST(DevicePool, TakesNeighbours) {
  DevicePool pool = pool_of(4);
  const DeviceGrant first = *pool.acquire({kWhole});
  const DeviceGrant second = *pool.acquire({kWhole});
  pool.release(first);  // idle now: 0, 2, 3
  EXPECT_THAT(pool.acquire({2 * kWhole})->devices, ElementsAre(2, 3));
  pool.release(second);
}

TEST(DevicePool, RefusesHalvesAboveOne) {
  EXPECT_FALSE(DevicePool::is_valid({15'000}));
  EXPECT_FALSE(DevicePool::is_valid({-1}));
  EXPECT_TRUE(DevicePool::is_valid({20'000}));
}

TEST(DevicePoolDeathTest, AGrantReleasedTwiceIsABug) {
  DevicePool pool = pool_of(1);
  const DeviceGrant grant = *pool.acquire({5'000});
  pool.release(grant);
  EXPECT_DEATH(pool.release(grant), "released twice");
}

// Any order of grants and releases keeps the invariants (asserted inside) and leaves every device whole at the end.
TEST(DevicePool, RandomUseEndsWhole) {
  for (uint32_t seed = 0; seed < 100; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    std::mt19937 random(seed);
    DevicePool pool = pool_of(4);
    std::vector<DeviceGrant> held;
    for (int step = 0; step < 500; ++step) {
      if (!held.empty() && random() % 2 == 0) {
        std::swap(held[random() % held.size()], held.back());
        pool.release(held.back());
        held.pop_back();
        continue;
      }
      const int64_t share = random() % 4 == 0 ? (1 + random() % 3) * kWhole : random() % kWhole;
      if (auto grant = pool.acquire({share, static_cast<int64_t>(random() % 4) * kGiB})) held.push_back(*grant);
    }
    for (const DeviceGrant& grant : held) pool.release(grant);
    EXPECT_THAT(pool.acquire({4 * kWhole})->devices, ElementsAre(0, 1, 2, 3));
  }
}

}  // namespace
}  // namespace manta::raylet

#include "raylet/resources.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace manta::raylet {
namespace {

using ::testing::HasSubstr;
using wire::kWhole;
using wire::Resources;

Resources amounts(double cpus, double gpus = 0) {
  Resources out;
  out.cpus = static_cast<int64_t>(cpus * kWhole);
  out.gpus = static_cast<int64_t>(gpus * kWhole);
  return out;
}

ResourcePool small_node() {
  return ResourcePool({.cpus = 2 * kWhole, .memory_bytes = 1000, .custom = {{"tpu", kWhole}}, .devices = {{100, "GPU-a"}}});
}

TEST(ResourcePool, TakesAllOfADemandOrNothing) {
  ResourcePool pool = small_node();
  Resources demand = amounts(1, 0.5);
  demand.custom["tpu"] = kWhole;
  const Grant grant = *pool.acquire(demand);
  const Resources before = pool.available();
  EXPECT_FALSE(pool.acquire(demand));  // the CPU is there, the tpu is not
  EXPECT_EQ(pool.available(), before);
  EXPECT_THAT(pool.explain(demand), HasSubstr("needs 1 tpu, 0 of 1 are free"));
  pool.release(grant);
  EXPECT_TRUE(pool.is_whole());
}

TEST(ResourcePool, TenTenthsAreOneWhole) {
  ResourcePool pool = small_node();
  std::vector<Grant> grants;
  for (int i = 0; i < 20; ++i) grants.push_back(*pool.acquire(amounts(0.1)));
  EXPECT_EQ(pool.available().cpus, 0);
  EXPECT_FALSE(pool.acquire(amounts(0.1)));
  EXPECT_TRUE(pool.acquire(amounts(0)));  // what asks for none is never in the way
  for (const Grant& grant : grants) pool.release(grant);
  EXPECT_TRUE(pool.is_whole());
}

TEST(ResourcePool, LentCpusMayBeTakenBackBeyondCapacity) {
  ResourcePool pool = small_node();
  Grant waiting = *pool.acquire(amounts(2));
  pool.lend_cpus(waiting);
  const Grant nested = *pool.acquire(amounts(2));
  pool.take_back_cpus(waiting);
  EXPECT_EQ(pool.available().cpus, -2 * kWhole);
  EXPECT_FALSE(pool.acquire(amounts(0.1)));
  pool.release(nested);
  EXPECT_EQ(pool.available().cpus, 0);
  pool.release(waiting);
  EXPECT_TRUE(pool.is_whole());
}

TEST(ResourcePool, AGrantEndsWhileItsCpusAreLent) {
  ResourcePool pool = small_node();
  Grant grant = *pool.acquire(amounts(1));
  pool.lend_cpus(grant);
  pool.release(grant);
  EXPECT_TRUE(pool.is_whole());
}

TEST(ResourcePool, RefusesNonsense) {
  Resources negative = amounts(-1);
  EXPECT_EQ(ResourcePool::validate(negative).code(), Code::kInvalid);
  Resources huge;
  huge.memory_bytes = std::numeric_limits<int64_t>::max();
  EXPECT_EQ(ResourcePool::validate(huge).code(), Code::kInvalid);
  EXPECT_THAT(ResourcePool::validate(amounts(1, 1.5)).message(), HasSubstr("1.5 GPUs"));
  EXPECT_FALSE(small_node().is_feasible(amounts(3)));
  EXPECT_FALSE(small_node().is_feasible(amounts(0, 2)));
}

TEST(Resources, ShortageNamesOnlyWhatIsMissing) {
  Resources demand = amounts(2, 1);
  demand.custom["tpu"] = 5;
  Resources free = amounts(0.5, 1);
  const Resources missing = shortage(demand, free);
  EXPECT_EQ(missing.cpus, 15'000);
  EXPECT_EQ(missing.gpus, 0);
  EXPECT_EQ(missing.custom.at("tpu"), 5);
  EXPECT_TRUE(overlaps(missing, amounts(1)));
  EXPECT_FALSE(overlaps(missing, amounts(0, 1)));
}

}  // namespace
}  // namespace manta::raylet

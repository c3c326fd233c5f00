// What a raylet believes of others, beside what they do.
#include "raylet/cluster_view.h"

#include "raylet/resources.h"
#include "wire/node_resources.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

namespace manta::raylet {
namespace {

using ::testing::HasSubstr;
using wire::kWhole;
using wire::NodeNumber;

constexpr int kNodes = 8;
constexpr int kDevices = 4;

ResourcePool four_devices() {
  return ResourcePool({.cpus = 16 * kWhole,
                       .memory_bytes = 1 << 30,
                       .custom = {},
                       .devices = std::vector<DeviceSpec>(kDevices, DeviceSpec{.memory_bytes = 1'000})});
}

wire::SchedulingClass demand(int64_t gpus) {
  wire::SchedulingClass what;
  what.resources.gpus = gpus;
  return what;
}

wire::NodeResources by_amount(wire::NodeResources resources) {
  std::ranges::sort(resources.devices);
  return resources;
}

bool any_device_has(const ResourcePool& pool, int64_t share) {
  for (int device = 0; device < kDevices; ++device)
    if (pool.devices().free_share_of(device) >= share) return true;
  return false;
}

// What the head and other raylets compute from a node's report is what that node does: never more, and no less.
TEST(ClusterView, ADemandFitsWhereADeviceDoesAndNotWhereOnlyTheSumDoes) {
  std::mt19937 random(5);
  const wire::NodeResources whole = four_devices().left();
  std::vector<ResourcePool> pools(kNodes, four_devices());
  ClusterView view;
  for (NodeNumber number = 1; number <= kNodes; ++number) {
    wire::NodeInfo info;
    info.number = number;
    info.name = "node " + std::to_string(number);
    info.capacity = pools[number - 1].left();
    view.add(std::move(info));
  }
  std::vector<std::pair<NodeNumber, Grant>> running;
  int placed = 0;
  int only_in_sum = 0;
  for (int i = 0; i < 1'000; ++i) {
    const int64_t gpus =
        random() % 8 == 0 ? kWhole * static_cast<int64_t>(1 + random() % 2) : 100 * static_cast<int64_t>(1 + random() % 99);
    const wire::SchedulingClass what = demand(gpus);
    const std::optional<NodeNumber> node = view.take_room({.what = what});
    bool fits_one = false;
    int64_t most_in_sum = 0;
    for (ResourcePool& pool : pools) {
      fits_one = fits_one || wire::fits(whole, pool.left(), what.resources);
      most_in_sum = std::max(most_in_sum, pool.devices().free_share());
    }
    EXPECT_EQ(node.has_value(), fits_one);
    if (node) {
      ResourcePool& pool = pools[*node - 1];
      EXPECT_TRUE(gpus > kWhole || any_device_has(pool, gpus));
      std::optional<Grant> grant = pool.acquire(what.resources);
      ASSERT_TRUE(grant) << "the view said that " << gpus << " fits: " << pool.explain(what.resources);
      EXPECT_EQ(by_amount(view.find(*node)->available), by_amount(pool.left()));
      running.emplace_back(*node, std::move(*grant));
      ++placed;
    } else {
      for (ResourcePool& pool : pools) EXPECT_FALSE(pool.acquire(what.resources));
      only_in_sum += most_in_sum >= gpus;
      EXPECT_THAT(view.nearly({.what = what}), HasSubstr("GPU"));
    }
    if (!running.empty() && random() % 3 == 0) {
      const auto at = running.begin() + static_cast<std::ptrdiff_t>(random() % running.size());
      pools[at->first - 1].release(at->second);
      view.update({.number = at->first, .available = pools[at->first - 1].left()});
      running.erase(at);
    }
  }
  EXPECT_GT(placed, 100);
  EXPECT_GT(only_in_sum, 100) << "the case that this is about was there";
}

TEST(ClusterView, SaysWhichDeviceIsNearest) {
  ResourcePool pool = four_devices();
  ClusterView view;
  wire::NodeInfo info;
  info.number = 1;
  info.name = "a";
  info.capacity = pool.left();
  view.add(info);
  for (int i = 0; i < kDevices; ++i) (void)pool.acquire(demand(6'000 + 100 * i).resources);
  view.update({.number = 1, .available = pool.left()});
  const wire::SchedulingClass half = demand(5'000);
  EXPECT_FALSE(view.find_room({.what = half}));
  EXPECT_THAT(view.nearly({.what = half}), HasSubstr("a needs 0.5 GPU, has 4 GPU of which the freest has 0.4"));
}

}  // namespace
}  // namespace manta::raylet

#include "head/bundle_packing.h"

#include "wire/node_resources.h"
#include "head/testing/fake_cluster.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <limits>
#include <random>
#include <set>

namespace manta::head {
namespace {

using wire::NodeNumber;
using wire::NodeResources;
using wire::PlacementStrategy;
using wire::Resources;

struct Nodes {
  std::vector<NodeResources> capacities;
  std::vector<NodeResources> frees;
  [[nodiscard]] std::vector<PackingNode> all() const {
    std::vector<PackingNode> out;
    for (size_t i = 0; i < frees.size(); ++i)
      out.push_back({static_cast<NodeNumber>(i + 1), &capacities[i], &frees[i], used_share(capacities[i], frees[i])});
    return out;
  }
};

/// Tries everything, each device too: the fewest and the most nodes that can hold the bundles, 0 when none can.
class Exact {
 public:
  Exact(const std::vector<Resources>& bundles, const Nodes& nodes) : bundles_(bundles), nodes_(nodes), frees_(nodes.frees) {
    search(0, 0);
  }
  size_t fewest = std::numeric_limits<size_t>::max();
  size_t most = 0;

 private:
  void search(size_t i, uint32_t used) {
    if (i == bundles_.size()) {
      const auto count = static_cast<size_t>(std::popcount(used));
      fewest = std::min(fewest, count);
      most = std::max(most, count);
      return;
    }
    for (size_t node = 0; node < frees_.size(); ++node) {
      if (!fits(nodes_.capacities[node], frees_[node], bundles_[i])) continue;
      const NodeResources before = frees_[node];
      const bool is_share = bundles_[i].gpus > 0 && bundles_[i].gpus < wire::kWhole;
      for (size_t device = 0; device < (is_share ? before.devices.size() : 1); ++device) {
        if (is_share && before.devices[device].share < bundles_[i].gpus) continue;
        Resources rest = bundles_[i];
        if (is_share) rest.gpus = 0;
        take(nodes_.capacities[node], frees_[node], rest);
        if (is_share) frees_[node].devices[device].share -= bundles_[i].gpus;
        search(i + 1, used | 1u << node);
        frees_[node] = before;
      }
    }
  }
  const std::vector<Resources>& bundles_;
  const Nodes& nodes_;
  std::vector<NodeResources> frees_;
};

/// What was packed fits, each bundle after the other.
void expect_fits(const std::vector<Resources>& bundles, const Nodes& nodes, const std::vector<NodeNumber>& places) {
  ASSERT_EQ(places.size(), bundles.size());
  std::vector<NodeResources> frees = nodes.frees;
  std::vector<size_t> order(bundles.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  // Whole devices first, then large shares: an order in which devices that can hold them do.
  std::ranges::stable_sort(order, std::greater(), [&](size_t i) { return bundles[i].gpus; });
  for (size_t i : order) {
    const size_t node = places[i] - 1;
    EXPECT_TRUE(fits(nodes.capacities[node], frees[node], bundles[i]));
    take(nodes.capacities[node], frees[node], bundles[i]);
  }
}

struct RandomCase {
  Nodes nodes;
  std::vector<Resources> bundles;
  explicit RandomCase(uint32_t seed) {
    std::mt19937 random(seed);
    const auto pick = [&](int below) { return static_cast<int>(random() % static_cast<uint32_t>(below)); };
    const int count = 2 + pick(3);
    for (int i = 0; i < count; ++i) {
      const NodeResources capacity = room(1 + pick(6), pick(3));
      NodeResources left = capacity;
      for (int taken = pick(3); taken > 0; --taken) {
        const Resources some = needs(pick(2), 0.25 * pick(3)).resources;
        if (fits(capacity, left, some)) take(capacity, left, some);
      }
      nodes.capacities.push_back(capacity);
      nodes.frees.push_back(left);
    }
    const bool want_gpus = pick(2) == 0;
    for (int i = 1 + pick(6); i > 0; --i)
      bundles.push_back(needs(pick(4), want_gpus ? (pick(4) == 0 ? 1 : 0.1 * pick(9)) : 0).resources);
  }
};

TEST(BundlePacking, StaysCloseToAnExactSolver) {
  int feasible = 0;
  int packed = 0;
  int spread = 0;
  size_t pack_nodes = 0;
  size_t fewest_nodes = 0;
  size_t spread_nodes = 0;
  size_t most_nodes = 0;
  for (uint32_t seed = 0; seed < 1'000; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    const RandomCase random(seed);
    const Exact exact(random.bundles, random.nodes);
    const std::vector<PackingNode> nodes = random.nodes.all();
    const auto together = pack(random.bundles, PlacementStrategy::kPack, nodes);
    const auto apart = pack(random.bundles, PlacementStrategy::kSpread, nodes);
    if (exact.most == 0) {
      EXPECT_FALSE(together || apart);
      continue;
    }
    ++feasible;
    if (together) {
      ++packed;
      expect_fits(random.bundles, random.nodes, *together);
      pack_nodes += std::set(together->begin(), together->end()).size();
      fewest_nodes += exact.fewest;
    }
    if (apart) {
      ++spread;
      expect_fits(random.bundles, random.nodes, *apart);
      spread_nodes += std::set(apart->begin(), apart->end()).size();
      most_nodes += exact.most;
    }
  }
  EXPECT_GT(feasible, 300);
  EXPECT_GE(packed, feasible * 95 / 100);
  EXPECT_GE(spread, feasible * 95 / 100);
  EXPECT_LE(pack_nodes * 100, fewest_nodes * 105);
  EXPECT_GE(spread_nodes * 100, most_nodes * 95);
  RecordProperty("feasible", feasible);
  RecordProperty("packed", packed);
  RecordProperty("spread", spread);
}

TEST(BundlePacking, StrictStrategiesAgreeWithAnExactSolver) {
  int same = 0;
  int cases = 0;
  for (uint32_t seed = 0; seed < 1'000; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    const RandomCase random(seed);
    const Exact exact(random.bundles, random.nodes);
    const auto one = pack(random.bundles, PlacementStrategy::kStrictPack, random.nodes.all());
    if (one) {
      expect_fits(random.bundles, random.nodes, *one);
      EXPECT_EQ(std::set(one->begin(), one->end()).size(), 1u);
    }
    ++cases;
    same += one.has_value() == (exact.fewest == 1) ? 1 : 0;
    // A matching is exact: not a single case may differ.
    const auto each = pack(random.bundles, PlacementStrategy::kStrictSpread, random.nodes.all());
    EXPECT_EQ(each.has_value(), exact.most == random.bundles.size());
    if (each) {
      EXPECT_EQ(std::set(each->begin(), each->end()).size(), random.bundles.size());
    }
  }
  EXPECT_GE(same, cases * 95 / 100);
}

TEST(BundlePacking, WithoutNodesNothingFits) {
  EXPECT_FALSE(pack(std::vector{needs(0).resources}, PlacementStrategy::kPack, {}));
}

}  // namespace
}  // namespace manta::head

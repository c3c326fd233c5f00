// Which node each bundle of a placement group goes to, all of them or none.
//
//   kPack          as few nodes as can be      kStrictPack    one node, or not at all
//   kSpread        as many as can be           kStrictSpread  each bundle on a node of its own, or not at all
//
// kStrictSpread is exact (a matching of bundles with nodes). The others search, the largest bundle first and the best node
// first, going back from dead ends, with a bound on the work; without the bound it would be vector bin packing.
//
// Pure. At most kMaxSteps looks at a node a call.
#pragma once

#include "wire/head_link.h"

#include <cstddef>
#include <optional>
#include <span>
#include <vector>

namespace manta::head {

struct PackingNode {
  wire::NodeNumber number = 0;
  const wire::NodeResources* capacity = nullptr;
  const wire::NodeResources* free = nullptr;
  double load = 0;
};

inline constexpr int kMaxPackingSteps = 20'000;

/// The node of each bundle; none when they do not fit now (or the search gave up, which small cases never do).
[[nodiscard]] std::optional<std::vector<wire::NodeNumber>> pack(std::span<const wire::Resources> bundles,
                                                                wire::PlacementStrategy strategy,
                                                                std::span<const PackingNode> nodes);

}  // namespace manta::head

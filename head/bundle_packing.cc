#include "head/bundle_packing.h"

#include "wire/node_resources.h"

#include <algorithm>
#include <numeric>

namespace manta::head {
namespace {

using wire::NodeNumber;
using wire::NodeResources;
using wire::PlacementStrategy;
using wire::Resources;

class Packing {
 public:
  Packing(std::span<const Resources> bundles, std::span<const PackingNode> nodes)
      : bundles_(bundles), nodes_(nodes), changed_(nodes.size()), on_node_(nodes.size()), place_(bundles.size()) {
    order_.resize(bundles.size());
    std::iota(order_.begin(), order_.end(), size_t{0});
    std::vector<double> sizes;
    for (const Resources& bundle : bundles) sizes.push_back(bundles.size() > 1 ? size_of(bundle) : 0);
    std::ranges::stable_sort(order_, std::greater(), [&](size_t i) { return sizes[i]; });
  }

  bool on_one_node() {
    for (size_t node : by_load()) {
      if (fill(node)) return true;
      take_back_all();
    }
    return false;
  }

  /// On at most `most` nodes. `spread`: empty nodes first, else those that are used already.
  bool on_nodes(size_t most, bool spread, int steps) {
    steps_left_ = steps;
    most_nodes_ = most;
    spread_ = spread;
    if (search(0)) return true;
    take_back_all();
    return false;
  }

  /// Augmenting paths: each bundle takes a node, sending the bundle that has it to another one if there is one.
  bool one_each() {
    if (bundles_.size() > nodes_.size()) return false;
    std::vector<size_t> holder(nodes_.size(), kNone);
    const std::vector<size_t> nodes = by_load();
    for (size_t bundle : order_) {
      std::vector<bool> seen(nodes_.size());
      if (!augment(bundle, nodes, holder, seen)) return false;
    }
    for (size_t node = 0; node < nodes_.size(); ++node)
      if (holder[node] != kNone) place_[holder[node]] = node;
    return true;
  }

  [[nodiscard]] std::vector<NodeNumber> result() const {
    std::vector<NodeNumber> numbers;
    for (size_t node : place_) numbers.push_back(nodes_[node].number);
    return numbers;
  }

 private:
  static constexpr size_t kNone = ~size_t{0};

  [[nodiscard]] const NodeResources& free(size_t node) const {
    return changed_[node] ? *changed_[node] : *nodes_[node].free;
  }

  /// What it takes of the largest node there is, of the resource of which it takes most.
  [[nodiscard]] double size_of(const Resources& bundle) const {
    double least = 1e9;
    for (const PackingNode& node : nodes_) {
      NodeResources left = *node.capacity;
      if (!fits(*node.capacity, left, bundle)) continue;
      take(*node.capacity, left, bundle);
      least = std::min(least, used_share(*node.capacity, left));
    }
    return least;
  }

  [[nodiscard]] std::vector<size_t> by_load() const {
    std::vector<size_t> nodes(nodes_.size());
    std::iota(nodes.begin(), nodes.end(), size_t{0});
    std::ranges::stable_sort(nodes, {}, [&](size_t i) { return nodes_[i].load; });
    return nodes;
  }

  void put(size_t bundle, size_t node) {
    if (!changed_[node]) changed_[node] = *nodes_[node].free;
    take(*nodes_[node].capacity, *changed_[node], bundles_[bundle]);
    if (on_node_[node]++ == 0) ++used_nodes_;
    place_[bundle] = node;
  }
  void undo(size_t node, std::optional<NodeResources> before) {
    changed_[node] = std::move(before);
    if (--on_node_[node] == 0) --used_nodes_;
  }
  void take_back_all() {
    std::ranges::fill(changed_, std::nullopt);
    std::ranges::fill(on_node_, 0);
    used_nodes_ = 0;
  }

  bool fill(size_t node) {
    for (size_t bundle : order_) {
      if (!fits(*nodes_[node].capacity, free(node), bundles_[bundle])) return false;
      put(bundle, node);
    }
    return true;
  }

  /// Nodes to try for this bundle, the best first; of empty nodes that are alike one is enough.
  [[nodiscard]] std::vector<size_t> candidates(size_t bundle) {
    std::vector<std::pair<std::pair<double, double>, size_t>> found;
    for (size_t node = 0; node < nodes_.size(); ++node) {
      --steps_left_;
      if (on_node_[node] == 0 && used_nodes_ >= most_nodes_) continue;
      const NodeResources& capacity = *nodes_[node].capacity;
      if (!fits(capacity, free(node), bundles_[bundle])) continue;
      NodeResources left = free(node);
      take(capacity, left, bundles_[bundle]);
      const double fullness = used_share(capacity, left);
      // Spread: the fewest of ours, then the emptiest. Pack: where ours are, then the fullest.
      const double first = spread_ ? on_node_[node] : (on_node_[node] > 0 ? 0 : 1);
      found.push_back({{first, spread_ ? fullness : -fullness}, node});
    }
    std::ranges::stable_sort(found);
    std::vector<size_t> nodes;
    for (const auto& [score, node] : found) {
      const bool is_like_the_last = !nodes.empty() && on_node_[node] == 0 && on_node_[nodes.back()] == 0 &&
                                    free(node) == free(nodes.back()) &&
                                    *nodes_[node].capacity == *nodes_[nodes.back()].capacity;
      if (!is_like_the_last) nodes.push_back(node);
    }
    return nodes;
  }

  bool search(size_t depth) {
    if (depth == order_.size()) return true;
    for (size_t node : candidates(order_[depth])) {
      std::optional<NodeResources> before = changed_[node];
      put(order_[depth], node);
      if (search(depth + 1)) return true;
      undo(node, std::move(before));
      if (steps_left_ <= 0) return false;
    }
    return false;
  }

  bool augment(size_t bundle, const std::vector<size_t>& nodes, std::vector<size_t>& holder, std::vector<bool>& seen) {
    for (size_t node : nodes) {
      if (seen[node] || !fits(*nodes_[node].capacity, *nodes_[node].free, bundles_[bundle])) continue;
      seen[node] = true;
      if (holder[node] != kNone && !augment(holder[node], nodes, holder, seen)) continue;
      holder[node] = bundle;
      return true;
    }
    return false;
  }

  std::span<const Resources> bundles_;
  std::span<const PackingNode> nodes_;
  std::vector<size_t> order_;  // of bundles, the largest first
  std::vector<std::optional<NodeResources>> changed_;
  std::vector<int> on_node_;
  std::vector<size_t> place_;
  size_t used_nodes_ = 0;
  size_t most_nodes_ = 0;
  bool spread_ = false;
  int steps_left_ = 0;
};

// As few nodes as can be: one, two, ... each with its part of the work; then whatever there is.
bool pack_on_few(Packing& packing, size_t bundles, size_t nodes) {
  if (packing.on_one_node()) return true;
  constexpr size_t kMaxTries = 8;
  const size_t most = std::min(bundles, nodes);
  for (size_t few = 2; few < most && few < kMaxTries; ++few)
    if (packing.on_nodes(few, false, kMaxPackingSteps / 20)) return true;
  return packing.on_nodes(most, false, kMaxPackingSteps / 2);
}

}  // namespace

std::optional<std::vector<NodeNumber>> pack(std::span<const Resources> bundles, PlacementStrategy strategy,
                                            std::span<const PackingNode> nodes) {
  if (nodes.empty()) return std::nullopt;
  Packing packing(bundles, nodes);
  bool is_packed = false;
  switch (strategy) {
    case PlacementStrategy::kPack: is_packed = pack_on_few(packing, bundles.size(), nodes.size()); break;
    case PlacementStrategy::kStrictPack: is_packed = packing.on_one_node(); break;
    case PlacementStrategy::kSpread:
      is_packed = packing.one_each() || packing.on_nodes(nodes.size(), true, kMaxPackingSteps / 2) ||
                  packing.on_nodes(nodes.size(), false, kMaxPackingSteps / 2);
      break;
    case PlacementStrategy::kStrictSpread: is_packed = packing.one_each(); break;
  }
  if (!is_packed) return std::nullopt;
  return packing.result();
}

}  // namespace manta::head

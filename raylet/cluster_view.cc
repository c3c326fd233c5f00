#include "raylet/cluster_view.h"

#include "raylet/resources.h"
#include "wire/node_resources.h"

#include <algorithm>
#include <limits>
#include <tuple>
#include <vector>

namespace manta::raylet {
namespace {

wire::Resources sum_of(const wire::NodeResources& each) {
  wire::Resources amounts{.cpus = each.cpus, .memory_bytes = each.memory_bytes, .custom = each.custom};
  for (const wire::DeviceAmount& device : each.devices) {
    amounts.gpus += device.share;
    amounts.gpu_memory_bytes += device.memory_bytes;
  }
  return amounts;
}

bool suits(const ClusterView::Node& node, const Wish& wish) {
  return (wish.only == 0 || wish.only == node.info.number) && wire::has_labels(node.info.labels, wish.what.labels);
}

bool could(const ClusterView::Node& node, const Wish& wish) {
  return fits(node.info.capacity, node.info.capacity, wish.what.resources);
}

double part_free(const ClusterView::Node& node) {
  const int64_t whole = std::max<int64_t>(node.info.capacity.cpus, 1);
  return static_cast<double>(node.available.cpus) / static_cast<double>(whole);
}

}  // namespace

void ClusterView::add(wire::NodeInfo info) {
  const wire::NodeNumber number = info.number;
  Node node{.info = std::move(info), .available = {}};
  node.available = node.info.capacity;
  node.takes_work = !node.info.is_driver;
  nodes_.insert_or_assign(number, std::move(node));
}

void ClusterView::update(const wire::NodeView& view) {
  const auto it = nodes_.find(view.number);
  if (it == nodes_.end()) return;
  it->second.available = view.available;
  it->second.waiting = view.waiting;
  it->second.takes_queue = true;
  it->second.is_suspect = view.is_suspect;
  it->second.takes_work = !view.is_draining && !view.is_suspect && !it->second.info.is_driver;
}

void ClusterView::note_full(wire::NodeNumber number, bool queue_too) {
  const auto it = nodes_.find(number);
  if (it == nodes_.end()) return;
  it->second.available.cpus = 0;
  if (queue_too) it->second.takes_queue = false;
}

const ClusterView::Node* ClusterView::find(wire::NodeNumber number) const {
  const auto it = nodes_.find(number);
  return it == nodes_.end() ? nullptr : &it->second;
}

std::optional<wire::NodeNumber> ClusterView::find_room(const Wish& wish) const {
  const wire::Resources& demand = wish.what.resources;
  const bool wants_device = wire::wants_devices(demand);
  const Node* best = nullptr;
  const auto rank = [&](const Node& node) {
    const auto like = wish.like.find(node.info.number);
    return std::tuple(wish.what.spread && like != wish.like.end() ? -like->second : 0,
                      wants_device || node.info.capacity.devices.empty(), part_free(node));
  };
  for (const auto& [number, node] : nodes_)
    if (node.takes_work && suits(node, wish) && fits(node.info.capacity, node.available, demand) &&
        (best == nullptr || rank(node) > rank(*best)))
      best = &node;
  if (best == nullptr) return std::nullopt;
  return best->info.number;
}

std::optional<wire::NodeNumber> ClusterView::take_room(const Wish& wish) {
  const std::optional<wire::NodeNumber> found = find_room(wish);
  if (!found) return std::nullopt;
  Node& node = nodes_.at(*found);
  take(node.info.capacity, node.available, wish.what.resources);
  return found;
}

void ClusterView::give_back(wire::NodeNumber number, const wire::Resources& demand) {
  const auto it = nodes_.find(number);
  if (it == nodes_.end()) return;
  Node& node = it->second;
  // Which device it was is known there; the next report says so too.
  node.available.cpus = std::min(node.available.cpus + demand.cpus, node.info.capacity.cpus);
  node.available.memory_bytes = std::min(node.available.memory_bytes + demand.memory_bytes, node.info.capacity.memory_bytes);
}

std::optional<wire::NodeNumber> ClusterView::least_waiting(const Wish& wish) const {
  const Node* best = nullptr;
  for (const auto& [number, node] : nodes_)
    if (node.takes_work && node.takes_queue && suits(node, wish) && could(node, wish) &&
        (best == nullptr || node.waiting < best->waiting))
      best = &node;
  if (best == nullptr) return std::nullopt;
  return best->info.number;
}

bool ClusterView::could_hold(const Wish& wish) const {
  return std::ranges::any_of(nodes_, [&](const auto& entry) {
    return !entry.second.info.is_driver && suits(entry.second, wish) && could(entry.second, wish);
  });
}

std::string ClusterView::explain(const Wish& wish) const {
  const Node* nearest = nullptr;
  std::string lacking;
  int fewest = std::numeric_limits<int>::max();
  int count = 0;
  for (const auto& [number, node] : nodes_) {
    if (node.info.is_driver) continue;
    ++count;
    int kinds = 0;
    std::string text = wire::lacks(node.info.capacity, node.info.capacity, wish.what.resources, &kinds);
    if (!wire::has_labels(node.info.labels, wish.what.labels)) {
      ++kinds;
      text += (text.empty() ? "" : "; ") + std::string("lacks a label that is asked for");
    }
    if (kinds >= fewest) continue;
    fewest = kinds;
    nearest = &node;
    lacking = std::move(text);
  }
  const std::string asked = "each asks for " + describe(wish.what.resources) + "; ";
  if (nearest == nullptr) return asked + "the cluster has no node that takes work";
  return asked + "the nearest of " + std::to_string(count) + ", " + nearest->info.name + ", " + lacking;
}

std::string ClusterView::nearly(const Wish& wish) const {
  constexpr size_t kMost = 3;
  std::vector<std::tuple<int, double, std::string>> found;
  for (const auto& [number, node] : nodes_) {
    if (node.info.is_driver || !suits(node, wish) || !could(node, wish)) continue;
    int kinds = 0;
    std::string text = wire::lacks(node.info.capacity, node.available, wish.what.resources, &kinds);
    if (!node.takes_work) text += (text.empty() ? "" : "; ") + std::string("takes no new work now");
    if (text.empty()) text = "has room, as last heard";
    found.emplace_back(kinds, -part_free(node), node.info.name + " " + text);
  }
  std::ranges::sort(found);
  std::string all;
  for (size_t i = 0; i < std::min(found.size(), kMost); ++i) all += (i == 0 ? "" : "; ") + std::get<2>(found[i]);
  return all;
}

wire::Resources ClusterView::capacity() const {
  wire::Resources sum;
  for (const auto& [number, node] : nodes_) raylet::add(sum, sum_of(node.info.capacity));
  return sum;
}

wire::Resources ClusterView::available() const {
  wire::Resources sum;
  for (const auto& [number, node] : nodes_) raylet::add(sum, sum_of(node.available));
  return sum;
}

}  // namespace manta::raylet

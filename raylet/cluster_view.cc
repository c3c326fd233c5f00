#include "raylet/cluster_view.h"

#include "raylet/resources.h"

#include <algorithm>
#include <tuple>

namespace manta::raylet {
namespace {

bool takes_share(const wire::DeviceAmount& device, const wire::Resources& demand) {
  return device.share >= demand.gpus && device.memory_bytes >= demand.gpu_memory_bytes;
}

wire::Resources sum_of(const wire::NodeResources& each) {
  wire::Resources amounts{.cpus = each.cpus, .memory_bytes = each.memory_bytes, .custom = each.custom};
  for (const wire::DeviceAmount& device : each.devices) {
    amounts.gpus += device.share;
    amounts.gpu_memory_bytes += device.memory_bytes;
  }
  return amounts;
}

double part_free(const ClusterView::Node& node) {
  const int64_t whole = std::max<int64_t>(node.info.capacity.cpus, 1);
  return static_cast<double>(node.available.cpus) / static_cast<double>(whole);
}

}  // namespace

bool fits(const wire::NodeResources& amounts, const wire::Resources& demand) {
  if (amounts.cpus < demand.cpus || amounts.memory_bytes < demand.memory_bytes) return false;
  for (const auto& [name, amount] : demand.custom) {
    const auto it = amounts.custom.find(name);
    if (amount > 0 && (it == amounts.custom.end() || it->second < amount)) return false;
  }
  if (demand.gpus <= 0 && demand.gpu_memory_bytes <= 0) return true;
  const auto taking = std::ranges::count_if(amounts.devices, [&](const wire::DeviceAmount& device) {
    if (demand.gpus < wire::kWhole) return takes_share(device, demand);
    return device.share >= wire::kWhole && device.memory_bytes >= demand.gpu_memory_bytes;
  });
  return taking >= std::max<int64_t>(1, demand.gpus / wire::kWhole);
}

void charge(wire::NodeResources& amounts, const wire::Resources& demand) {
  amounts.cpus -= demand.cpus;
  amounts.memory_bytes -= demand.memory_bytes;
  for (const auto& [name, amount] : demand.custom) amounts.custom[name] -= amount;
  if (demand.gpus <= 0 && demand.gpu_memory_bytes <= 0) return;
  if (demand.gpus >= wire::kWhole) {
    int64_t left = demand.gpus / wire::kWhole;
    for (wire::DeviceAmount& device : amounts.devices)
      if (left > 0 && device.share >= wire::kWhole) {
        device = {};
        --left;
      }
    return;
  }
  wire::DeviceAmount* fullest = nullptr;
  for (wire::DeviceAmount& device : amounts.devices)
    if (takes_share(device, demand) && (fullest == nullptr || device.share < fullest->share)) fullest = &device;
  if (fullest == nullptr) return;
  fullest->share -= demand.gpus;
  fullest->memory_bytes -= demand.gpu_memory_bytes;
}

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

std::optional<wire::NodeNumber> ClusterView::take_room(const wire::Resources& demand) {
  const bool wants_device = demand.gpus > 0 || demand.gpu_memory_bytes > 0;
  Node* best = nullptr;
  const auto rank = [&](const Node& node) {
    return std::tuple(wants_device || node.info.capacity.devices.empty(), part_free(node));
  };
  for (auto& [number, node] : nodes_)
    if (node.takes_work && fits(node.available, demand) && (best == nullptr || rank(node) > rank(*best))) best = &node;
  if (best == nullptr) return std::nullopt;
  charge(best->available, demand);
  return best->info.number;
}

void ClusterView::give_back(wire::NodeNumber number, const wire::Resources& demand) {
  const auto it = nodes_.find(number);
  if (it == nodes_.end()) return;
  Node& node = it->second;
  // Which device it was is known there; the next report says so too.
  node.available.cpus = std::min(node.available.cpus + demand.cpus, node.info.capacity.cpus);
  node.available.memory_bytes = std::min(node.available.memory_bytes + demand.memory_bytes, node.info.capacity.memory_bytes);
}

std::optional<wire::NodeNumber> ClusterView::least_waiting(const wire::Resources& demand) const {
  const Node* best = nullptr;
  for (const auto& [number, node] : nodes_)
    if (node.takes_work && node.takes_queue && fits(node.info.capacity, demand) &&
        (best == nullptr || node.waiting < best->waiting))
      best = &node;
  if (best == nullptr) return std::nullopt;
  return best->info.number;
}

bool ClusterView::could_hold(const wire::Resources& demand) const {
  return std::ranges::any_of(
      nodes_, [&](const auto& entry) { return !entry.second.info.is_driver && fits(entry.second.info.capacity, demand); });
}

std::string ClusterView::explain(const wire::Resources& demand) const {
  const Node* nearest = nullptr;
  wire::Resources least;
  int count = 0;
  for (const auto& [number, node] : nodes_) {
    if (node.info.is_driver) continue;
    ++count;
    const wire::Resources missing = shortage(demand, sum_of(node.info.capacity));
    const auto size = [](const wire::Resources& of) {
      return std::tuple(of.gpus, of.cpus, of.memory_bytes, of.custom.size());
    };
    if (nearest != nullptr && size(missing) >= size(least)) continue;
    nearest = &node;
    least = missing;
  }
  const std::string asked = "each asks for " + describe(demand) + "; ";
  if (nearest == nullptr) return asked + "the cluster has no node that takes work";
  const std::string lacks = is_zero(least) ? "has it in sum, but on no single device" : "lacks " + describe(least);
  return asked + "the nearest of " + std::to_string(count) + ", " + nearest->info.name + ", " + lacks;
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

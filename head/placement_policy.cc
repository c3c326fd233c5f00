#include "head/placement_policy.h"

#include "wire/node_resources.h"

#include <algorithm>
#include <limits>
#include <tuple>

namespace manta::head {
namespace {

using wire::NodeNumber;

constexpr double kHalf = 0.5;
constexpr double kActorsPerCpu = 16;  // so many idle actors weigh as much as all CPUs in use

}  // namespace

double load_of(const PlacementPolicy::Node& node) {
  const double cpus = std::max(1.0, static_cast<double>(node.info.capacity.cpus) / static_cast<double>(wire::kWhole));
  return used_share(node.info.capacity, node.free) + node.actors / (kActorsPerCpu * cpus) + node.waiting / cpus;
}

void PlacementPolicy::add(const wire::NodeInfo& info, int64_t now_us) {
  nowhere_.clear();
  Node& node = nodes_[info.number];
  node.info = info;
  node.takes_work = !info.is_driver;
  report(info.number, info.capacity, 0, 0, now_us);
}

void PlacementPolicy::remove(NodeNumber number) {
  nowhere_.clear();
  nodes_.erase(number);
}

void PlacementPolicy::set_takes_work(NodeNumber number, bool takes_work) {
  nowhere_.clear();
  const auto it = nodes_.find(number);
  if (it == nodes_.end()) return;
  const bool did = std::exchange(it->second.takes_work, takes_work && !it->second.info.is_driver);
  has_grown_ = has_grown_ || (!did && it->second.takes_work);
}

void PlacementPolicy::report(NodeNumber number, const wire::NodeResources& available, uint32_t waiting,
                             uint64_t charged_up_to, int64_t now_us) {
  const auto it = nodes_.find(number);
  if (it == nodes_.end()) return;
  Node& node = it->second;
  has_grown_ = has_grown_ || (node.waiting > 0 && waiting == 0);
  node.waiting = waiting;
  node.reported = available;
  has_grown_ = std::exchange(node.is_doubted, false) || has_grown_;
  std::erase_if(node.charges, [&](const Node::Charge& charge) {
    return charge.number <= charged_up_to || now_us - charge.since_us > kChargeUs;
  });
  count_again(node);
}

void PlacementPolicy::note_leased(NodeNumber number, const wire::NodeResources& leased) {
  if (const auto it = nodes_.find(number); it != nodes_.end()) it->second.leased = leased;
}

void PlacementPolicy::doubt(NodeNumber number) {
  if (const auto it = nodes_.find(number); it != nodes_.end()) it->second.is_doubted = true;
}

void PlacementPolicy::count_again(Node& node) {
  const wire::NodeResources before = std::exchange(node.free, node.reported);
  for (const Node::Charge& charge : node.charges)
    for (const wire::Resources& amounts : charge.amounts) take(node.info.capacity, node.free, amounts);
  has_grown_ = has_grown_ || has_more(node.free, before);
}

void PlacementPolicy::refund(NodeNumber number, uint64_t charge) {
  const auto it = nodes_.find(number);
  if (it == nodes_.end()) return;
  if (std::erase_if(it->second.charges, [&](const Node::Charge& one) { return one.number == charge; }) > 0)
    count_again(it->second);
}

uint64_t PlacementPolicy::charge(NodeNumber number, std::vector<wire::Resources> amounts, int64_t now_us) {
  ++last_charge_;
  if (const auto it = nodes_.find(number); it != nodes_.end()) {
    for (const wire::Resources& one : amounts) take(it->second.info.capacity, it->second.free, one);
    it->second.charges.push_back({last_charge_, std::move(amounts), now_us});
  }
  return last_charge_;
}

void PlacementPolicy::count_actor(NodeNumber number, int32_t more) {
  if (const auto it = nodes_.find(number); it != nodes_.end()) it->second.actors += static_cast<uint32_t>(more);
}

const PlacementPolicy::Node* PlacementPolicy::find(NodeNumber number) const {
  const auto it = nodes_.find(number);
  return it == nodes_.end() ? nullptr : &it->second;
}

PlacementPolicy::Choice PlacementPolicy::choose(const wire::SchedulingClass& what, NodeNumber owner_node) const {
  if (const auto known = nowhere_.find(what); known != nowhere_.end()) return known->second;
  const wire::Resources& demand = what.resources;
  if (what.node != 0) {
    const Node* wanted = find(what.node);
    const bool could = wanted != nullptr && wire::has_labels(wanted->info.labels, what.labels) && !wanted->info.is_driver &&
                       fits(wanted->info.capacity, wanted->info.capacity, demand);
    if (could && wanted->takes_work) return {.node = what.node, .why = {}};
    if (!what.is_soft) {
      if (wanted == nullptr)
        return {.is_hopeless = true, .why = "node " + std::to_string(what.node) + ", where it must be, is gone"};
      if (could) return {.why = "node " + wanted->info.name + ", where it must be, takes no new work now"};
      return {.is_hopeless = true,
              .why = "node " + wanted->info.name + ", where it must be, could never hold it: " +
                     lacks(wanted->info.capacity, wanted->info.capacity, demand)};
    }
  }
  if (const Node* own = find(owner_node); own != nullptr && own->takes_work && !what.spread &&
                                          wire::has_labels(own->info.labels, what.labels) && load_of(*own) < kHalf &&
                                          fits(own->info.capacity, own->free, demand))
    return {.node = owner_node, .why = {}};
  // Less is better: room now, no GPUs left idle by what needs none, few actors if it wants to spread, load.
  using Score = std::tuple<bool, bool, uint32_t, double>;
  Score best{true, true, std::numeric_limits<uint32_t>::max(), std::numeric_limits<double>::max()};
  Choice choice;
  for (const auto& [number, node] : nodes_) {
    if (!node.takes_work || !wire::has_labels(node.info.labels, what.labels)) continue;
    const bool is_full = !fits(node.info.capacity, node.free, demand);
    if (is_full && !fits(node.info.capacity, node.info.capacity, demand)) continue;
    const bool wastes_devices = !wants_devices(demand) && !node.info.capacity.devices.empty();
    const Score score{is_full, wastes_devices, what.spread ? node.actors : 0, load_of(node)};
    if (choice.node != 0 && best <= score) continue;
    best = score;
    choice.node = number;
  }
  if (choice.node != 0) return choice;
  if (nowhere_.size() >= kMaxRemembered) nowhere_.clear();
  return nowhere_[what] = explain(what);
}

bool PlacementPolicy::has_room(const wire::SchedulingClass& what) const {
  return std::ranges::any_of(nodes_, [&](const auto& entry) {
    const Node& node = entry.second;
    return node.takes_work && node.waiting == 0 && wire::has_labels(node.info.labels, what.labels) &&
           fits(node.info.capacity, node.free, what.resources);
  });
}

PlacementPolicy::Choice PlacementPolicy::explain(const wire::SchedulingClass& what) const {
  int fewest = std::numeric_limits<int>::max();
  bool only_paused = false;
  std::string nearest = "no node takes work";
  for (const auto& [number, node] : nodes_) {
    if (node.info.is_driver) continue;
    int kinds = 0;
    std::string missing = lacks(node.info.capacity, node.info.capacity, what.resources, &kinds);
    if (!wire::has_labels(node.info.labels, what.labels)) {
      ++kinds;
      missing += (missing.empty() ? "" : "; ") + std::string("lacks a label that is asked for");
    }
    if (kinds >= fewest) continue;
    fewest = kinds;
    only_paused = kinds == 0;
    nearest = "node " + node.info.name + ": " + (only_paused ? "takes no new work now" : missing);
  }
  return {.why = only_paused ? "waits for " + nearest
                             : "no node could hold it, it waits for one to join; the nearest is " + nearest};
}

}  // namespace manta::head

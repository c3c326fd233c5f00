#include "raylet/bundle_table.h"

#include "common/check.h"

#include <algorithm>
#include <set>
#include <utility>

namespace manta::raylet {
namespace {

/// From the places of devices in the bundle's pool to those in the node's, or back.
Grant on_devices(Grant grant, const std::vector<int32_t>& of_node, bool to_node) {
  for (int32_t& device : grant.devices.devices)
    device = to_node ? of_node.at(static_cast<size_t>(device))
                     : static_cast<int32_t>(std::ranges::find(of_node, device) - of_node.begin());
  return grant;
}

bool wants_devices(const wire::Resources& demand) { return demand.gpus > 0 || demand.gpu_memory_bytes > 0; }

}  // namespace

bool BundleTable::is_stale(const wire::PrepareBundles& order) const {
  const auto held = groups_.find(order.group);
  if (held != groups_.end() && held->second.attempt >= order.attempt) return held->second.attempt > order.attempt;
  return order.number < newest_;
}

Status BundleTable::check(const wire::PrepareBundles& order) const {
  if (order.group == 0 || order.bundles.empty() || order.bundles.size() > wire::kMaxBundles)
    return Status(Code::kInvalid, "not a placement group: " + std::to_string(order.bundles.size()) + " bundles");
  std::set<int32_t> seen;
  for (const wire::Bundle& bundle : order.bundles) {
    MANTA_RETURN_IF_ERROR(ResourcePool::validate(bundle.resources));
    if (bundle.index < 0 || !seen.insert(bundle.index).second)
      return Status(Code::kInvalid, "bundle " + std::to_string(bundle.index) + " is there twice, or has no place");
  }
  return {};
}

Status BundleTable::prepare(const wire::PrepareBundles& order) {
  MANTA_RETURN_IF_ERROR(check(order));
  newest_ = std::max(newest_, order.number);
  if (const auto held = groups_.find(order.group); held != groups_.end()) {
    MANTA_CHECK(held->second.attempt == order.attempt, "the older attempt was released", order.group);
    return {};
  }
  std::vector<Grant> grants;
  for (const wire::Bundle& bundle : order.bundles) {
    std::optional<Grant> grant = node_.acquire(bundle.resources);
    if (grant) {
      grants.push_back(std::move(*grant));
      continue;
    }
    const std::string which = "bundle " + std::to_string(bundle.index) + ": ";
    const std::string why = node_.explain(bundle.resources);
    for (const Grant& taken : grants) node_.release(taken);
    ResourcePool empty(node_.spec());
    const bool could = std::ranges::all_of(
        order.bundles, [&](const wire::Bundle& one) { return empty.acquire(one.resources).has_value(); });
    if (could) return Status(Code::kUnavailable, which + why);
    return Status(Code::kInvalid, "this node can never hold all " + std::to_string(order.bundles.size()) +
                                      " bundles together: it has " + describe(node_.capacity()) + "; " + which + why);
  }
  Group& group = groups_[order.group];
  group = {.attempt = order.attempt, .is_committed = order.is_commit, .indices = {}};
  for (size_t i = 0; i < grants.size(); ++i) {
    const int32_t index = order.bundles[i].index;
    ResourcePool pool = pool_of(order.bundles[i].resources, grants[i]);
    bundles_.insert_or_assign({order.group, order.attempt, index}, Bundle{std::move(grants[i]), std::move(pool)});
    group.indices.push_back(index);
  }
  return {};
}

ResourcePool BundleTable::pool_of(const wire::Resources& amounts, const Grant& of_node) const {
  NodeCapacity capacity{.cpus = amounts.cpus, .memory_bytes = amounts.memory_bytes, .custom = amounts.custom, .devices = {}};
  for (const int32_t device : of_node.devices.devices)
    capacity.devices.push_back({.memory_bytes = of_node.devices.memory_each_bytes,
                                .uuid = node_.devices().spec(device).uuid,
                                .share = of_node.devices.share_each,
                                .name = device});
  return ResourcePool(std::move(capacity));
}

bool BundleTable::commit(uint64_t group, uint64_t attempt) {
  const auto it = groups_.find(group);
  if (it == groups_.end() || it->second.attempt != attempt) return false;
  it->second.is_committed = true;
  return true;
}

bool BundleTable::release(uint64_t group, uint64_t attempt) {
  const auto it = groups_.find(group);
  if (it == groups_.end() || it->second.attempt > attempt) return false;
  for (const int32_t index : it->second.indices) {
    const auto bundle = bundles_.find({group, it->second.attempt, index});
    bundle->second.is_over = true;
    if (bundle->second.grants == 0) give_back(bundle);
  }
  groups_.erase(it);
  return true;
}

void BundleTable::give_back(std::map<BundleId, Bundle>::iterator bundle) {
  node_.release(bundle->second.of_node);
  bundles_.erase(bundle);
}

// ---------------------------------------------------------------------------------------------------- what runs in them

template <typename Function>
void BundleTable::for_each(const wire::SchedulingClass& what, Function&& function) const {
  const auto group = groups_.find(what.group);
  if (group == groups_.end()) return;
  for (const int32_t index : group->second.indices)
    if (what.bundle < 0 || what.bundle == index) {
      const BundleId id{what.group, group->second.attempt, index};
      function(id, bundles_.at(id));
    }
}

std::optional<Grant> BundleTable::acquire(const wire::SchedulingClass& what) {
  if (!serves(what.group)) return std::nullopt;
  std::vector<std::pair<std::pair<bool, int>, BundleId>> order;
  for_each(what, [&](const BundleId& id, const Bundle& bundle) {
    const bool wastes_devices = bundle.pool.devices().count() > 0 && !wants_devices(what.resources);
    order.push_back({{wastes_devices, bundle.grants}, id});
  });
  std::ranges::sort(order);
  for (const auto& [rank, id] : order) {
    Bundle& bundle = bundles_.at(id);
    std::optional<Grant> grant = bundle.pool.acquire(what.resources);
    if (!grant) continue;
    ++bundle.grants;
    grant->bundle = id;
    return on_devices(std::move(*grant), bundle.of_node.devices.devices, true);
  }
  return std::nullopt;
}

bool BundleTable::release(const Grant& grant) {
  const auto it = bundles_.find(grant.bundle);
  MANTA_CHECK(it != bundles_.end() && it->second.grants > 0, "a grant's bundle is here", grant.bundle.group);
  it->second.pool.release(on_devices(grant, it->second.of_node.devices.devices, false));
  const bool is_over = --it->second.grants == 0 && it->second.is_over;
  if (is_over) give_back(it);
  return is_over;
}

void BundleTable::lend_cpus(Grant& grant) { bundles_.at(grant.bundle).pool.lend_cpus(grant); }
void BundleTable::take_back_cpus(Grant& grant) { bundles_.at(grant.bundle).pool.take_back_cpus(grant); }

// ---------------------------------------------------------------------------------------------------- looking

bool BundleTable::serves(uint64_t group) const {
  const auto it = groups_.find(group);
  return it != groups_.end() && it->second.is_committed;
}

bool BundleTable::could_hold(const wire::SchedulingClass& what) const {
  bool could = false;
  for_each(what, [&](const BundleId&, const Bundle& bundle) { could = could || bundle.pool.is_feasible(what.resources); });
  return could;
}

std::string BundleTable::explain(const wire::SchedulingClass& what) const {
  std::string text;
  for_each(what, [&](const BundleId& id, const Bundle& bundle) {
    if (text.empty() || bundle.pool.is_feasible(what.resources))
      text = "in bundle " + std::to_string(id.index) + " of its placement group it " + bundle.pool.explain(what.resources);
  });
  return text.empty() ? "its placement group has no such bundle here" : text;
}

wire::Resources BundleTable::available(const wire::SchedulingClass& what) const {
  wire::Resources sum;
  for_each(what, [&](const BundleId&, const Bundle& bundle) { add(sum, bundle.pool.available()); });
  return sum;
}

std::vector<wire::HeldBundles> BundleTable::held() const {
  std::vector<wire::HeldBundles> all;
  for (const auto& [number, group] : groups_) all.push_back({number, group.attempt});
  return all;
}

wire::Resources BundleTable::amounts() const {
  wire::Resources sum;
  for (const auto& [id, bundle] : bundles_) add(sum, amounts_of(bundle.of_node));
  return sum;
}

void BundleTable::check_invariants() const {
  for (const auto& [id, bundle] : bundles_) {
    const auto group = groups_.find(id.group);
    const bool is_present = group != groups_.end() && group->second.attempt == id.attempt;
    MANTA_CHECK(is_present != bundle.is_over, "a bundle is over with its attempt", id.group, id.attempt);
    MANTA_CHECK(!bundle.is_over || bundle.grants > 0, "a bundle that is over goes with its last grant", id.group);
    MANTA_CHECK(bundle.grants > 0 || bundle.pool.is_whole(), "a bundle at rest is whole", id.group, id.index);
    MANTA_CHECK(is_zero(shortage(amounts_of(bundle.of_node), bundle.pool.capacity())), id.group, id.index);
  }
}

}  // namespace manta::raylet

// The bundles that placement groups have set aside on this node: each a pool of resources of its own, cut out of the node's,
// device by device. Half of a GPU is the half of one device, and what runs in the bundle runs on that device.
//
//   prepared --committed--> serves leases and actors --released--> over: goes back when nothing runs in it any more
//
// Attempts of a group only grow. What an old attempt still says has no effect; a newer one comes after the older's release.
//
// Invariants (check_invariants): 1 a bundle's pool has what its grant of the node has; 2 at most one attempt of a group is
// not over; 3 a bundle that is over has grants.
//
// Pure; owned by raylet_core. A call costs O(bundles of the group) and a logarithm.
#pragma once

#include "raylet/resources.h"
#include "wire/head_link.h"

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace manta::raylet {

class BundleTable {
 public:
  /// Bundles are cut out of `node`, which outlives this.
  explicit BundleTable(ResourcePool& node) : node_(node) {}

  /// Whether the order is older than one that came before, or than what is held: it must have no effect.
  [[nodiscard]] bool is_stale(const wire::PrepareBundles& order) const;
  /// Sets all of them aside, or none: kUnavailable when they do not fit now, kInvalid when they never will. OK again for
  /// what is held. Precondition: not stale, and no other attempt of the group is held.
  [[nodiscard]] Status prepare(const wire::PrepareBundles& order);
  /// Work may run in them from now on; false when this attempt is not held.
  bool commit(uint64_t group, uint64_t attempt);
  /// Nothing new runs in the group's bundles of attempts up to this one. False when there are none.
  bool release(uint64_t group, uint64_t attempt);

  /// What is asked for, out of a bundle that serves: the one that is named, or the one with the least in it, without devices
  /// if none are needed. Nothing when there is no room now.
  [[nodiscard]] std::optional<Grant> acquire(const wire::SchedulingClass& what);
  /// True when it was the last in a bundle that is over: that has gone back to the node.
  bool release(const Grant& grant);
  void lend_cpus(Grant& grant);
  void take_back_cpus(Grant& grant);

  [[nodiscard]] bool holds(uint64_t group) const { return groups_.contains(group); }
  [[nodiscard]] bool serves(uint64_t group) const;
  /// Whether a bundle here would hold it with nothing else running in it.
  [[nodiscard]] bool could_hold(const wire::SchedulingClass& what) const;
  /// Why it waits, or never fits: the bundle and what it lacks.
  [[nodiscard]] std::string explain(const wire::SchedulingClass& what) const;
  /// What is free in the bundles that this may run in.
  [[nodiscard]] wire::Resources available(const wire::SchedulingClass& what) const;

  [[nodiscard]] std::vector<wire::HeldBundles> held() const;
  /// What bundles have of the node, those that are over included.
  [[nodiscard]] wire::Resources amounts() const;
  [[nodiscard]] size_t size() const { return bundles_.size(); }
  void check_invariants() const;

 private:
  struct Bundle {
    Grant of_node;
    ResourcePool pool;
    int grants = 0;
    bool is_over = false;
  };
  struct Group {
    uint64_t attempt = 0;
    bool is_committed = false;
    std::vector<int32_t> indices;
  };

  [[nodiscard]] Status check(const wire::PrepareBundles& order) const;
  [[nodiscard]] ResourcePool pool_of(const wire::Resources& amounts, const Grant& of_node) const;
  template <typename Function>
  void for_each(const wire::SchedulingClass& what, Function&& function) const;
  void give_back(std::map<BundleId, Bundle>::iterator bundle);

  ResourcePool& node_;
  std::map<BundleId, Bundle> bundles_;
  std::map<uint64_t, Group> groups_;  // those that are not over
  uint64_t newest_ = 0;               // the largest PrepareBundles::number
};

}  // namespace manta::raylet

// What one node has to give, and who gets it: CPUs, memory, custom resources and devices, in fixed point (wire::kWhole is
// one).
//
// A worker that waits inside a task lends its CPUs to others (`lend_cpus`) and takes them again when it goes on
// (`take_back_cpus`), even if that oversubscribes the CPUs for a moment: waiting for them could deadlock nested work. Only
// CPUs can be oversubscribed, because only they can be shared in time.
//
// Pure; owned by the raylet's event loop.
#pragma once

#include "raylet/device_pool.h"
#include "wire/cluster.h"

#include <manta/status.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace manta::raylet {

struct NodeCapacity {
  int64_t cpus = 0;  ///< In 1/10,000.
  int64_t memory_bytes = 0;
  std::map<std::string, int64_t> custom;
  std::vector<DeviceSpec> devices;
};

/// A bundle of a placement group on this node. Attempts to reserve a group follow each other; see wire::PrepareBundles.
struct BundleId {
  uint64_t group = 0;  ///< 0: none.
  uint64_t attempt = 0;
  int32_t index = -1;
  auto operator<=>(const BundleId&) const = default;
  explicit operator bool() const { return group != 0; }
};

/// What a lease, an actor or a bundle holds.
struct Grant {
  wire::Resources amounts;  ///< As asked.
  DeviceGrant devices;
  bool cpus_are_lent = false;
  BundleId bundle = {};  ///< What it was taken out of; none: the node itself.
};

/// Invariants, asserted on every change:
///   1. free CPUs + CPUs held by grants that do not lend theirs == the node's CPUs.
///   2. 0 <= free <= capacity for memory, custom resources and each device; free CPUs <= capacity.
class ResourcePool {
 public:
  explicit ResourcePool(NodeCapacity capacity);

  /// kInvalid when an amount is negative, or no part or whole number of GPUs.
  [[nodiscard]] static Status validate(const wire::Resources& demand);

  /// Takes all of the demand, or nothing when it does not fit now. Precondition: validate(demand).ok().
  [[nodiscard]] std::optional<Grant> acquire(const wire::Resources& demand);
  void release(const Grant& grant);

  void lend_cpus(Grant& grant);
  void take_back_cpus(Grant& grant);

  /// Whether the demand fits the node with nothing else running.
  [[nodiscard]] bool is_feasible(const wire::Resources& demand) const;

  /// Each resource that the demand lacks now, with what was asked, what is free and what the node has.
  [[nodiscard]] std::string explain(const wire::Resources& demand) const;

  [[nodiscard]] const wire::Resources& capacity() const { return capacity_; }
  [[nodiscard]] wire::Resources available() const;  ///< CPUs may be negative: oversubscribed.
  [[nodiscard]] wire::NodeResources left() const;   ///< The same by device.
  [[nodiscard]] const DevicePool& devices() const { return devices_; }
  /// What it was made of: for an empty one.
  [[nodiscard]] NodeCapacity spec() const;

  /// Whether everything is free (and so nothing leaked).
  [[nodiscard]] bool is_whole() const;

 private:
  wire::Resources capacity_;  // gpus and gpu_memory_bytes are sums over the devices
  wire::Resources free_;      // without the devices
  DevicePool devices_;
};

/// What a grant keeps from others: of CPUs nothing while they are lent; of devices what was taken.
[[nodiscard]] wire::Resources amounts_of(const Grant& grant);
/// What `demand` lacks beyond `free`, never negative; all zero when it fits (by sums, without looking at single devices).
[[nodiscard]] wire::Resources shortage(const wire::Resources& demand, const wire::Resources& free);
void add(wire::Resources& to, const wire::Resources& amounts);
void subtract(wire::Resources& from, const wire::Resources& amounts);
/// Whether both name the same kind of resource with more than zero.
[[nodiscard]] bool overlaps(const wire::Resources& a, const wire::Resources& b);
[[nodiscard]] bool is_zero(const wire::Resources& amounts);

/// "2 CPUs, 0.5 GPU, 1048576 bytes of memory, 1 tpu", for messages.
[[nodiscard]] std::string describe(const wire::Resources& amounts);

}  // namespace manta::raylet

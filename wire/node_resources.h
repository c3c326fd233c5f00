// Arithmetic on what a node has, device by device, as its raylet does it: a demand below one GPU goes to the fullest device
// that still takes it, whole GPUs come out of idle devices, and nothing is ever split over devices.
//
// Pure functions; each is O(devices + custom resources).
#pragma once

#include "wire/cluster.h"

#include <map>
#include <string>

namespace manta::wire {

[[nodiscard]] bool fits(const NodeResources& capacity, const NodeResources& free, const Resources& demand);

/// Takes `demand` out of `free`. What does not fit makes amounts negative: it is owed until others end.
void take(const NodeResources& capacity, NodeResources& free, const Resources& demand);

/// What both have together.
void add(NodeResources& to, const NodeResources& amounts);

/// Whether there is more of anything in `now` than there was in `before`.
[[nodiscard]] bool has_more(const NodeResources& now, const NodeResources& before);

/// The largest share in use of any kind of resource that the node has: 0 is idle, 1 full, more is owed.
[[nodiscard]] double used_share(const NodeResources& capacity, const NodeResources& free);

/// What the demand lacks: "needs 4 CPUs, has 2"; empty when it fits. `kinds_lacking` counts them, to find who is nearest.
[[nodiscard]] std::string lacks(const NodeResources& capacity, const NodeResources& free, const Resources& demand,
                                int* kinds_lacking = nullptr);

/// kInvalid when an amount is negative or absurdly large, or GPUs are neither a part of one nor a whole number.
[[nodiscard]] Status validate(const Resources& demand);

/// The same of what a node says that it has.
[[nodiscard]] Status validate(const NodeResources& resources);

/// Whether every label that is wanted is there, with that value.
[[nodiscard]] bool has_labels(const std::map<std::string, std::string>& labels,
                              const std::map<std::string, std::string>& wanted);

[[nodiscard]] bool wants_devices(const Resources& demand);

}  // namespace manta::wire

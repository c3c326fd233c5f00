// The GPUs of one node as the scheduler sees them: what each device has left, and where a demand fits.
//
// A demand below one device goes to the fullest device that still takes it (best fit), which keeps idle devices whole; a
// demand of whole devices takes idle ones, neighbours first. A demand is never split over devices: a scheduler that adds up
// what two half-used GPUs have left grants work that can run on neither.
//
// Pure: no I/O, no clock, no locks. Owned by the raylet's event loop. Every call is O(devices).
#pragma once

#include "wire/message_types.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace manta::raylet {

/// One device of the node, or the part of one that a placement group's bundle has. A logical device has no hardware behind
/// it: the CPU twin computes in its place.
struct DeviceSpec {
  int64_t memory_bytes = 0;
  std::string uuid = {};  ///< What CUDA_VISIBLE_DEVICES takes; empty for a logical device.
  int64_t share = wire::kWhole;
  int32_t name = -1;  ///< What texts call it; -1: its place in the pool.
};

/// What work asks of the GPUs: below one device (`share` in 1/10,000), or a whole number of devices.
struct DeviceDemand {
  int64_t share = 0;
  int64_t memory_bytes = 0;  ///< On each device taken; 0 asks for none in particular.

  [[nodiscard]] bool wants_any() const { return share > 0 || memory_bytes > 0; }
};

/// What was granted. Give it back with DevicePool::release, exactly once.
struct DeviceGrant {
  std::vector<int32_t> devices;  ///< Ascending indices; empty when no device was asked for.
  int64_t share_each = 0;
  int64_t memory_each_bytes = 0;
};

/// Invariants, asserted on every change:
///   1. 0 <= free share <= its share and 0 <= free memory <= the device's memory, on each device.
///   2. With nothing granted, every device is whole.
class DevicePool {
 public:
  explicit DevicePool(std::vector<DeviceSpec> devices);

  /// Takes devices for `demand`, or nothing when it does not fit now (which is no error: the demand waits).
  /// Precondition: is_valid(demand).
  [[nodiscard]] std::optional<DeviceGrant> acquire(const DeviceDemand& demand);

  /// Gives a grant back. Dies on one that was not outstanding: that is a bug here, never bad input.
  void release(const DeviceGrant& grant);

  /// Whether the demand would fit with nothing else running.
  [[nodiscard]] bool is_feasible(const DeviceDemand& demand) const;

  /// Why the demand waits or never fits, in one sentence that names the nearest device and what it lacks.
  [[nodiscard]] std::string explain(const DeviceDemand& demand) const;

  /// Nothing negative; a share is below one device or a whole number of devices.
  [[nodiscard]] static bool is_valid(const DeviceDemand& demand);

  [[nodiscard]] int count() const { return static_cast<int>(devices_.size()); }
  [[nodiscard]] const DeviceSpec& spec(int index) const { return devices_[static_cast<size_t>(index)].spec; }
  [[nodiscard]] int64_t free_share_of(int index) const { return devices_[static_cast<size_t>(index)].free_share; }
  [[nodiscard]] int64_t free_memory_bytes_of(int index) const {
    return devices_[static_cast<size_t>(index)].free_memory_bytes;
  }
  [[nodiscard]] int64_t free_share() const;  ///< Summed over the devices, for reports.
  [[nodiscard]] int64_t free_memory_bytes() const;
  [[nodiscard]] int64_t memory_bytes() const;
  [[nodiscard]] int64_t share() const;

 private:
  struct Device {
    DeviceSpec spec;
    int64_t free_share = 0;
    int64_t free_memory_bytes = 0;
  };

  std::optional<DeviceGrant> acquire_share(const DeviceDemand& demand);
  std::optional<DeviceGrant> acquire_whole(const DeviceDemand& demand);
  DeviceGrant take(std::vector<int32_t> devices, int64_t share_each, int64_t memory_each_bytes);
  [[nodiscard]] int idle_count(int64_t memory_bytes) const;

  std::vector<Device> devices_;
};

}  // namespace manta::raylet

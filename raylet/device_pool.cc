#include "raylet/device_pool.h"

#include "common/check.h"

#include <algorithm>

namespace manta::raylet {
namespace {

using wire::kWhole;

bool is_share(const DeviceDemand& demand) { return demand.share < kWhole; }
int64_t devices_wanted(const DeviceDemand& demand) { return is_share(demand) ? 1 : demand.share / kWhole; }

std::string amount(int64_t fixed_point) {
  std::string text = std::to_string(fixed_point / kWhole);
  if (int64_t rest = fixed_point % kWhole; rest != 0) {
    std::string digits = std::to_string(kWhole + rest).substr(1);
    digits.erase(digits.find_last_not_of('0') + 1);
    text += "." + digits;
  }
  return text;
}

}  // namespace

DevicePool::DevicePool(std::vector<DeviceSpec> devices) {
  for (DeviceSpec& spec : devices) {
    const int64_t memory_bytes = spec.memory_bytes;
    const int64_t share = spec.share;
    devices_.push_back({std::move(spec), share, memory_bytes});
  }
}

bool DevicePool::is_valid(const DeviceDemand& demand) {
  if (demand.share < 0 || demand.memory_bytes < 0) return false;
  return is_share(demand) || demand.share % kWhole == 0;
}

std::optional<DeviceGrant> DevicePool::acquire(const DeviceDemand& demand) {
  MANTA_CHECK(is_valid(demand), demand.share, demand.memory_bytes);
  if (!demand.wants_any()) return DeviceGrant{};
  return is_share(demand) ? acquire_share(demand) : acquire_whole(demand);
}

std::optional<DeviceGrant> DevicePool::acquire_share(const DeviceDemand& demand) {
  int32_t best = -1;
  for (int32_t i = 0; i < count(); ++i) {
    const Device& device = devices_[static_cast<size_t>(i)];
    if (device.free_share < demand.share || device.free_memory_bytes < demand.memory_bytes) continue;
    if (best < 0 || device.free_share < devices_[static_cast<size_t>(best)].free_share) best = i;
  }
  if (best < 0) return std::nullopt;
  return take({best}, demand.share, demand.memory_bytes);
}

std::optional<DeviceGrant> DevicePool::acquire_whole(const DeviceDemand& demand) {
  const auto wanted = static_cast<size_t>(devices_wanted(demand));
  std::vector<int32_t> idle;
  for (int32_t i = 0; i < count(); ++i) {
    const Device& device = devices_[static_cast<size_t>(i)];
    if (device.free_share == kWhole && device.free_memory_bytes == device.spec.memory_bytes &&
        device.spec.memory_bytes >= demand.memory_bytes)
      idle.push_back(i);
  }
  if (idle.size() < wanted) return std::nullopt;
  // Neighbouring indices are neighbours on the board as a rule: take the window that spans the least.
  size_t best = 0;
  for (size_t start = 0; start + wanted <= idle.size(); ++start)
    if (idle[start + wanted - 1] - idle[start] < idle[best + wanted - 1] - idle[best]) best = start;
  const auto first = idle.begin() + static_cast<std::ptrdiff_t>(best);
  return take({first, first + static_cast<std::ptrdiff_t>(wanted)}, kWhole, demand.memory_bytes);
}

DeviceGrant DevicePool::take(std::vector<int32_t> devices, int64_t share_each, int64_t memory_each_bytes) {
  for (int32_t index : devices) {
    Device& device = devices_.at(static_cast<size_t>(index));
    device.free_share -= share_each;
    device.free_memory_bytes -= memory_each_bytes;
    MANTA_CHECK(device.free_share >= 0, index, device.free_share, share_each);
    MANTA_CHECK(device.free_memory_bytes >= 0, index, device.free_memory_bytes, memory_each_bytes);
  }
  return {std::move(devices), share_each, memory_each_bytes};
}

void DevicePool::release(const DeviceGrant& grant) {
  for (int32_t index : grant.devices) {
    Device& device = devices_.at(static_cast<size_t>(index));
    device.free_share += grant.share_each;
    device.free_memory_bytes += grant.memory_each_bytes;
    MANTA_CHECK(device.free_share <= device.spec.share, "released twice", index, device.free_share);
    MANTA_CHECK(device.free_memory_bytes <= device.spec.memory_bytes, "released twice", index, device.free_memory_bytes);
  }
}

bool DevicePool::is_feasible(const DeviceDemand& demand) const {
  if (!is_valid(demand)) return false;
  if (!demand.wants_any()) return true;
  const int64_t share_each = std::min(demand.share, kWhole);
  const auto large_enough = std::ranges::count_if(devices_, [&](const Device& device) {
    return device.spec.memory_bytes >= demand.memory_bytes && device.spec.share >= share_each;
  });
  return large_enough >= devices_wanted(demand);
}

int DevicePool::idle_count(int64_t memory_bytes) const {
  return static_cast<int>(std::ranges::count_if(devices_, [&](const Device& device) {
    return device.free_share == kWhole && device.free_memory_bytes >= memory_bytes;
  }));
}

std::string DevicePool::explain(const DeviceDemand& demand) const {
  const std::string asked = amount(demand.share) + " GPU" +
                            (demand.memory_bytes > 0 ? " with " + std::to_string(demand.memory_bytes) + " bytes" : "");
  if (!is_valid(demand)) return asked + " is neither a part of one GPU nor a whole number of GPUs";
  if (devices_.empty()) return "needs " + asked + ", this node has no GPU";
  if (!is_feasible(demand)) {
    const auto largest = std::ranges::max_element(devices_, {}, [](const Device& d) { return d.spec.memory_bytes; });
    return "needs " + asked + ", there is " + amount(share()) + " on " + std::to_string(count()) + " of at most " +
           std::to_string(largest->spec.memory_bytes) + " bytes";
  }
  if (!is_share(demand))
    return "needs " + amount(demand.share) + " idle GPUs, " + std::to_string(idle_count(demand.memory_bytes)) + " of " +
           std::to_string(count()) + " are idle";
  const auto nearest = std::ranges::max_element(devices_, {}, [&](const Device& device) {
    return std::pair(device.free_memory_bytes >= demand.memory_bytes, device.free_share);
  });
  const auto place = nearest->spec.name >= 0 ? nearest->spec.name : nearest - devices_.begin();
  return "needs " + asked + ", the nearest (GPU " + std::to_string(place) + ") has " + amount(nearest->free_share) +
         " and " + std::to_string(nearest->free_memory_bytes) + " bytes free";
}

int64_t DevicePool::free_share() const {
  int64_t sum = 0;
  for (const Device& device : devices_) sum += device.free_share;
  return sum;
}

int64_t DevicePool::free_memory_bytes() const {
  int64_t sum = 0;
  for (const Device& device : devices_) sum += device.free_memory_bytes;
  return sum;
}

int64_t DevicePool::share() const {
  int64_t sum = 0;
  for (const Device& device : devices_) sum += device.spec.share;
  return sum;
}

int64_t DevicePool::memory_bytes() const {
  int64_t sum = 0;
  for (const Device& device : devices_) sum += device.spec.memory_bytes;
  return sum;
}

}  // namespace manta::raylet

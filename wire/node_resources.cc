#include "wire/node_resources.h"

#include <algorithm>
#include <cstdio>
#include <numeric>

namespace manta::wire {
namespace {

constexpr int64_t kMaxAmount = int64_t{1} << 56;  // a hundred of them still add up
constexpr size_t kMaxKinds = 1000;

bool is_sane(int64_t amount) { return amount >= 0 && amount <= kMaxAmount; }

int64_t find_or_zero(const std::map<std::string, int64_t>& amounts, const std::string& name) {
  const auto it = amounts.find(name);
  return it == amounts.end() ? 0 : it->second;
}

bool is_idle(const DeviceAmount& capacity, const DeviceAmount& free) { return free == capacity && free.share == kWhole; }

bool takes_share(const DeviceAmount& free, const Resources& demand) {
  return free.share >= demand.gpus && free.memory_bytes >= demand.gpu_memory_bytes;
}

bool devices_fit(const NodeResources& capacity, const NodeResources& free, const Resources& demand) {
  if (!wants_devices(demand)) return true;
  if (demand.gpus < kWhole)
    return std::ranges::any_of(free.devices, [&](const auto& one) { return takes_share(one, demand); });
  int64_t idle = 0;
  for (size_t i = 0; i < std::min(free.devices.size(), capacity.devices.size()); ++i)
    if (is_idle(capacity.devices[i], free.devices[i]) && free.devices[i].memory_bytes >= demand.gpu_memory_bytes) ++idle;
  return idle >= demand.gpus / kWhole;
}

void take_share(NodeResources& free, const Resources& demand) {
  DeviceAmount* best = nullptr;
  for (DeviceAmount& one : free.devices)
    if (takes_share(one, demand) && (best == nullptr || one.share < best->share)) best = &one;
  if (best == nullptr) best = &*std::ranges::max_element(free.devices, {}, &DeviceAmount::share);
  best->share -= demand.gpus;
  best->memory_bytes -= demand.gpu_memory_bytes;
}

// Which of several idle devices a raylet takes makes no difference to what is left but for their sizes: the smallest that
// do.
void take_whole(const NodeResources& capacity, NodeResources& free, const Resources& demand) {
  std::vector<size_t> order(std::min(free.devices.size(), capacity.devices.size()));
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::stable_sort(order, {}, [&](size_t i) {
    const bool does =
        is_idle(capacity.devices[i], free.devices[i]) && free.devices[i].memory_bytes >= demand.gpu_memory_bytes;
    return std::tuple(!does, does ? 0 : -free.devices[i].share, free.devices[i].memory_bytes);
  });
  const auto wanted = std::min(order.size(), static_cast<size_t>(demand.gpus / kWhole));
  for (size_t i = 0; i < wanted; ++i) {
    free.devices[order[i]].share -= kWhole;
    free.devices[order[i]].memory_bytes -= demand.gpu_memory_bytes;
  }
}

double used_of(int64_t capacity, int64_t free) {
  return capacity <= 0 ? 0 : 1.0 - static_cast<double>(free) / static_cast<double>(capacity);
}

std::string decimal(int64_t fixed_point) {
  char text[64];
  std::snprintf(text, sizeof text, "%.15g", static_cast<double>(fixed_point) / static_cast<double>(kWhole));
  return text;
}

std::string devices_lack(const NodeResources& capacity, const NodeResources& free, const Resources& demand) {
  std::string asked = decimal(demand.gpus) + " GPU";
  if (demand.gpu_memory_bytes > 0) asked += " with " + std::to_string(demand.gpu_memory_bytes) + " bytes";
  if (capacity.devices.empty()) return "needs " + asked + ", has none";
  const auto largest = std::ranges::max_element(free.devices, {}, &DeviceAmount::share);
  return "needs " + asked + ", has " + std::to_string(capacity.devices.size()) + " GPU of which the freest has " +
         decimal(std::max<int64_t>(0, largest->share)) + " and " + std::to_string(largest->memory_bytes) + " bytes free";
}

}  // namespace

bool has_labels(const std::map<std::string, std::string>& labels, const std::map<std::string, std::string>& wanted) {
  return std::ranges::all_of(wanted, [&](const auto& label) {
    const auto it = labels.find(label.first);
    return it != labels.end() && it->second == label.second;
  });
}

bool wants_devices(const Resources& demand) { return demand.gpus > 0 || demand.gpu_memory_bytes > 0; }

bool fits(const NodeResources& capacity, const NodeResources& free, const Resources& demand) {
  if (demand.cpus > 0 && free.cpus < demand.cpus) return false;
  if (demand.memory_bytes > 0 && free.memory_bytes < demand.memory_bytes) return false;
  for (const auto& [name, amount] : demand.custom)
    if (amount > 0 && find_or_zero(free.custom, name) < amount) return false;
  return devices_fit(capacity, free, demand);
}

void take(const NodeResources& capacity, NodeResources& free, const Resources& demand) {
  free.cpus -= demand.cpus;
  free.memory_bytes -= demand.memory_bytes;
  for (const auto& [name, amount] : demand.custom)
    if (amount > 0) free.custom[name] -= amount;
  if (!wants_devices(demand) || free.devices.empty()) return;
  return demand.gpus < kWhole ? take_share(free, demand) : take_whole(capacity, free, demand);
}

void add(NodeResources& to, const NodeResources& amounts) {
  to.cpus += amounts.cpus;
  to.memory_bytes += amounts.memory_bytes;
  for (const auto& [name, amount] : amounts.custom) to.custom[name] += amount;
  if (to.devices.size() < amounts.devices.size()) to.devices.resize(amounts.devices.size());
  for (size_t i = 0; i < amounts.devices.size(); ++i) {
    to.devices[i].share += amounts.devices[i].share;
    to.devices[i].memory_bytes += amounts.devices[i].memory_bytes;
  }
}

bool has_more(const NodeResources& now, const NodeResources& before) {
  if (now.cpus > before.cpus || now.memory_bytes > before.memory_bytes || now.devices.size() > before.devices.size())
    return true;
  for (size_t i = 0; i < now.devices.size(); ++i)
    if (now.devices[i].share > before.devices[i].share || now.devices[i].memory_bytes > before.devices[i].memory_bytes)
      return true;
  return std::ranges::any_of(now.custom,
                             [&](const auto& entry) { return entry.second > find_or_zero(before.custom, entry.first); });
}

double used_share(const NodeResources& capacity, const NodeResources& free) {
  double most = std::max({0.0, used_of(capacity.cpus, free.cpus), used_of(capacity.memory_bytes, free.memory_bytes)});
  for (const auto& [name, amount] : capacity.custom) most = std::max(most, used_of(amount, find_or_zero(free.custom, name)));
  if (capacity.devices.empty()) return most;
  int64_t free_share = 0;
  for (const DeviceAmount& one : free.devices) free_share += one.share;
  return std::max(most, used_of(static_cast<int64_t>(capacity.devices.size()) * kWhole, free_share));
}

std::string lacks(const NodeResources& capacity, const NodeResources& free, const Resources& demand, int* kinds_lacking) {
  std::string text;
  int kinds = 0;
  const auto add = [&](const std::string& what) {
    text += (text.empty() ? "" : "; ") + what;
    ++kinds;
  };
  if (demand.cpus > 0 && free.cpus < demand.cpus)
    add("needs " + decimal(demand.cpus) + " CPUs, has " + decimal(std::max<int64_t>(0, free.cpus)));
  if (demand.memory_bytes > 0 && free.memory_bytes < demand.memory_bytes)
    add("needs " + std::to_string(demand.memory_bytes) + " bytes of memory, has " +
        std::to_string(std::max<int64_t>(0, free.memory_bytes)));
  for (const auto& [name, amount] : demand.custom)
    if (amount > 0 && find_or_zero(free.custom, name) < amount)
      add("needs " + decimal(amount) + " " + name + ", has " +
          decimal(std::max<int64_t>(0, find_or_zero(free.custom, name))));
  if (!devices_fit(capacity, free, demand)) add(devices_lack(capacity, free, demand));
  if (kinds_lacking != nullptr) *kinds_lacking = kinds;
  return text;
}

Status validate(const Resources& demand) {
  const bool is_whole_or_part = demand.gpus < kWhole || demand.gpus % kWhole == 0;
  const bool sane = is_sane(demand.cpus) && is_sane(demand.gpus) && is_sane(demand.gpu_memory_bytes) &&
                    is_sane(demand.memory_bytes) && demand.custom.size() <= kMaxKinds &&
                    std::ranges::all_of(demand.custom, [](const auto& entry) { return is_sane(entry.second); });
  if (!sane) return Status(Code::kInvalid, "an amount is negative or absurdly large");
  if (!is_whole_or_part)
    return Status(Code::kInvalid, decimal(demand.gpus) + " GPUs: ask for a part of one GPU or for a whole number of GPUs");
  return {};
}

// What is left may be less than nothing: CPUs are lent to others while a worker waits.
Status validate(const NodeResources& resources) {
  const auto is_bounded = [](int64_t amount) { return amount >= -kMaxAmount && amount <= kMaxAmount; };
  const bool sane = is_bounded(resources.cpus) && is_bounded(resources.memory_bytes) &&
                    resources.custom.size() <= kMaxKinds && resources.devices.size() <= kMaxKinds &&
                    std::ranges::all_of(resources.custom, [&](const auto& entry) { return is_bounded(entry.second); }) &&
                    std::ranges::all_of(resources.devices, [&](const DeviceAmount& one) {
                      return one.share >= 0 && one.share <= kWhole && is_bounded(one.memory_bytes);
                    });
  return sane ? Status() : Status(Code::kInvalid, "a node says that it has absurd amounts");
}

}  // namespace manta::wire

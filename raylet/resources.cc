#include "raylet/resources.h"

#include "common/check.h"

#include <algorithm>

namespace manta::raylet {
namespace {

using wire::kWhole;
using wire::Resources;

constexpr int64_t kMaxAmount = int64_t{1} << 56;  // sums of a million of them still fit

DeviceDemand device_demand(const Resources& demand) { return {demand.gpus, demand.gpu_memory_bytes}; }

std::string decimal(int64_t fixed_point) {
  const bool negative = fixed_point < 0;
  const int64_t size = negative ? -fixed_point : fixed_point;
  std::string text = negative ? "-" : "";
  text += std::to_string(size / kWhole);
  if (int64_t rest = size % kWhole; rest != 0) {
    std::string digits = std::to_string(kWhole + rest).substr(1);
    digits.erase(digits.find_last_not_of('0') + 1);
    text += "." + digits;
  }
  return text;
}

int64_t find_or_zero(const std::map<std::string, int64_t>& amounts, const std::string& name) {
  const auto it = amounts.find(name);
  return it == amounts.end() ? 0 : it->second;
}

Resources total_of(const NodeCapacity& capacity) {
  Resources total{.cpus = capacity.cpus,
                  .gpus = 0,
                  .gpu_memory_bytes = 0,
                  .memory_bytes = capacity.memory_bytes,
                  .custom = capacity.custom};
  for (const DeviceSpec& device : capacity.devices) {
    total.gpus += device.share;
    total.gpu_memory_bytes += device.memory_bytes;
  }
  return total;
}

}  // namespace

ResourcePool::ResourcePool(NodeCapacity capacity)
    : capacity_(total_of(capacity)), free_(capacity_), devices_(std::move(capacity.devices)) {
  free_.gpus = 0;
  free_.gpu_memory_bytes = 0;
}

Status ResourcePool::validate(const Resources& demand) {
  const auto is_sane = [](int64_t amount) { return amount >= 0 && amount <= kMaxAmount; };
  const bool sane = is_sane(demand.cpus) && is_sane(demand.gpus) && is_sane(demand.gpu_memory_bytes) &&
                    is_sane(demand.memory_bytes) &&
                    std::ranges::all_of(demand.custom, [&](const auto& entry) { return is_sane(entry.second); });
  if (!sane) return Status(Code::kInvalid, "an amount is negative or absurdly large: " + describe(demand));
  if (!DevicePool::is_valid(device_demand(demand)))
    return Status(Code::kInvalid, decimal(demand.gpus) + " GPUs: ask for a part of one GPU or for a whole number of GPUs");
  return {};
}

std::optional<Grant> ResourcePool::acquire(const Resources& demand) {
  if ((demand.cpus > 0 && free_.cpus < demand.cpus) || free_.memory_bytes < demand.memory_bytes) return std::nullopt;
  for (const auto& [name, amount] : demand.custom)
    if (find_or_zero(free_.custom, name) < amount) return std::nullopt;
  std::optional<DeviceGrant> devices = devices_.acquire(device_demand(demand));
  if (!devices) return std::nullopt;
  free_.cpus -= demand.cpus;
  free_.memory_bytes -= demand.memory_bytes;
  for (const auto& [name, amount] : demand.custom)
    if (amount > 0) free_.custom[name] -= amount;
  return Grant{demand, std::move(*devices), false};
}

void ResourcePool::release(const Grant& grant) {
  devices_.release(grant.devices);
  if (!grant.cpus_are_lent) free_.cpus += grant.amounts.cpus;
  free_.memory_bytes += grant.amounts.memory_bytes;
  for (const auto& [name, amount] : grant.amounts.custom)
    if (amount > 0) free_.custom[name] += amount;
  MANTA_CHECK(free_.cpus <= capacity_.cpus, "CPUs released twice", free_.cpus, capacity_.cpus);
  MANTA_CHECK(free_.memory_bytes <= capacity_.memory_bytes, "memory released twice", free_.memory_bytes);
}

void ResourcePool::lend_cpus(Grant& grant) {
  MANTA_CHECK(!grant.cpus_are_lent);
  grant.cpus_are_lent = true;
  free_.cpus += grant.amounts.cpus;
  MANTA_CHECK(free_.cpus <= capacity_.cpus, free_.cpus, capacity_.cpus);
}

void ResourcePool::take_back_cpus(Grant& grant) {
  MANTA_CHECK(grant.cpus_are_lent);
  grant.cpus_are_lent = false;
  free_.cpus -= grant.amounts.cpus;
}

bool ResourcePool::is_feasible(const Resources& demand) const {
  if (!validate(demand).ok()) return false;
  if (demand.cpus > capacity_.cpus || demand.memory_bytes > capacity_.memory_bytes) return false;
  for (const auto& [name, amount] : demand.custom)
    if (find_or_zero(capacity_.custom, name) < amount) return false;
  return devices_.is_feasible(device_demand(demand));
}

std::string ResourcePool::explain(const Resources& demand) const {
  std::string text;
  const auto lacks = [&](const std::string& what) { text += (text.empty() ? "" : "; ") + what; };
  if (demand.cpus > 0 && free_.cpus < demand.cpus)
    lacks("needs " + decimal(demand.cpus) + " CPUs, " + decimal(std::max<int64_t>(0, free_.cpus)) + " of " +
          decimal(capacity_.cpus) + " are free");
  if (free_.memory_bytes < demand.memory_bytes)
    lacks("needs " + std::to_string(demand.memory_bytes) + " bytes of memory, " + std::to_string(free_.memory_bytes) +
          " of " + std::to_string(capacity_.memory_bytes) + " are free");
  for (const auto& [name, amount] : demand.custom)
    if (find_or_zero(free_.custom, name) < amount)
      lacks("needs " + decimal(amount) + " " + name + ", " + decimal(find_or_zero(free_.custom, name)) + " of " +
            decimal(find_or_zero(capacity_.custom, name)) + " are free");
  if (DevicePool probe = devices_; device_demand(demand).wants_any() &&
                                   (!DevicePool::is_valid(device_demand(demand)) || !probe.acquire(device_demand(demand))))
    lacks(devices_.explain(device_demand(demand)));
  return text.empty() ? "it fits now" : text;
}

Resources ResourcePool::available() const {
  Resources now = free_;
  now.gpus = devices_.free_share();
  now.gpu_memory_bytes = devices_.free_memory_bytes();
  return now;
}

wire::NodeResources ResourcePool::left() const {
  wire::NodeResources now{.cpus = free_.cpus, .memory_bytes = free_.memory_bytes, .custom = free_.custom, .devices = {}};
  for (int i = 0; i < devices_.count(); ++i)
    now.devices.push_back({devices_.free_share_of(i), devices_.free_memory_bytes_of(i)});
  return now;
}

NodeCapacity ResourcePool::spec() const {
  NodeCapacity spec{
      .cpus = capacity_.cpus, .memory_bytes = capacity_.memory_bytes, .custom = capacity_.custom, .devices = {}};
  for (int i = 0; i < devices_.count(); ++i) spec.devices.push_back(devices_.spec(i));
  return spec;
}

bool ResourcePool::is_whole() const { return available() == capacity_; }

Resources amounts_of(const Grant& grant) {
  Resources amounts = grant.amounts;
  if (grant.cpus_are_lent) amounts.cpus = 0;
  amounts.gpus = grant.devices.share_each * static_cast<int64_t>(grant.devices.devices.size());
  amounts.gpu_memory_bytes = grant.devices.memory_each_bytes * static_cast<int64_t>(grant.devices.devices.size());
  return amounts;
}

Resources shortage(const Resources& demand, const Resources& free) {
  const auto lack = [](int64_t wanted, int64_t have) { return wanted > 0 ? std::max<int64_t>(0, wanted - have) : 0; };
  Resources out{.cpus = lack(demand.cpus, free.cpus),
                .gpus = lack(demand.gpus, free.gpus),
                .gpu_memory_bytes = lack(demand.gpu_memory_bytes, free.gpu_memory_bytes),
                .memory_bytes = lack(demand.memory_bytes, free.memory_bytes),
                .custom = {}};
  for (const auto& [name, amount] : demand.custom)
    if (int64_t missing = lack(amount, find_or_zero(free.custom, name)); missing > 0) out.custom[name] = missing;
  return out;
}

void add(Resources& to, const Resources& amounts) {
  to.cpus += amounts.cpus;
  to.gpus += amounts.gpus;
  to.gpu_memory_bytes += amounts.gpu_memory_bytes;
  to.memory_bytes += amounts.memory_bytes;
  for (const auto& [name, amount] : amounts.custom) to.custom[name] += amount;
}

void subtract(Resources& from, const Resources& amounts) {
  from.cpus -= amounts.cpus;
  from.gpus -= amounts.gpus;
  from.gpu_memory_bytes -= amounts.gpu_memory_bytes;
  from.memory_bytes -= amounts.memory_bytes;
  for (const auto& [name, amount] : amounts.custom) from.custom[name] -= amount;
}

bool overlaps(const Resources& a, const Resources& b) {
  if ((a.cpus > 0 && b.cpus > 0) || (a.gpus > 0 && b.gpus > 0) || (a.memory_bytes > 0 && b.memory_bytes > 0) ||
      (a.gpu_memory_bytes > 0 && b.gpu_memory_bytes > 0))
    return true;
  return std::ranges::any_of(a.custom,
                             [&](const auto& entry) { return entry.second > 0 && find_or_zero(b.custom, entry.first) > 0; });
}

bool is_zero(const Resources& amounts) {
  return amounts.cpus == 0 && amounts.gpus == 0 && amounts.gpu_memory_bytes == 0 && amounts.memory_bytes == 0 &&
         std::ranges::all_of(amounts.custom, [](const auto& entry) { return entry.second == 0; });
}

std::string describe(const Resources& amounts) {
  std::string text = decimal(amounts.cpus) + (amounts.cpus == kWhole ? " CPU" : " CPUs");
  if (amounts.gpus != 0) text += ", " + decimal(amounts.gpus) + " GPU";
  if (amounts.gpu_memory_bytes != 0) text += ", " + std::to_string(amounts.gpu_memory_bytes) + " bytes of GPU memory";
  if (amounts.memory_bytes != 0) text += ", " + std::to_string(amounts.memory_bytes) + " bytes of memory";
  for (const auto& [name, amount] : amounts.custom) text += ", " + decimal(amount) + " " + name;
  return text;
}

}  // namespace manta::raylet

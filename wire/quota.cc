#include "wire/quota.h"

#include "wire/list_page.h"

#include <algorithm>
#include <charconv>
#include <cmath>

namespace manta::wire {
namespace {

constexpr int64_t kMostAmount = int64_t{1} << 53;
constexpr size_t kMostKinds = 100;
constexpr const char* kCpus = "cpus";
constexpr const char* kGpus = "gpus";
constexpr const char* kGpuMemory = "gpu_memory";
constexpr const char* kMemory = "memory";

bool is_in_bytes(std::string_view kind) { return kind == kMemory || kind == kGpuMemory; }

int64_t of_kind(const Amounts& amounts, const std::string& kind) {
  const auto it = amounts.find(kind);
  return it == amounts.end() ? 0 : it->second;
}

std::string describe_one(const std::string& kind, int64_t amount) {
  const bool is_one = amount == kWhole;
  if (kind == kCpus) return amount_text(amount) + (is_one ? " CPU" : " CPUs");
  if (kind == kGpus) return amount_text(amount) + (is_one ? " GPU" : " GPUs");
  if (kind == kMemory) return std::to_string(amount) + " bytes of memory";
  if (kind == kGpuMemory) return std::to_string(amount) + " bytes of GPU memory";
  return amount_text(amount) + " " + kind;
}

}  // namespace

Result<Amounts> parse_quota(std::string_view text) {
  Amounts quota;
  while (!text.empty()) {
    const std::string_view entry = text.substr(0, text.find(','));
    text.remove_prefix(std::min(text.size(), entry.size() + 1));
    const size_t equals = entry.find('=');
    const std::string kind(entry.substr(0, std::min(equals, entry.size())));
    double value = -1;
    if (equals != std::string_view::npos) {
      const std::string_view number = entry.substr(equals + 1);
      const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), value);
      if (error != std::errc() || end != number.data() + number.size()) value = -1;
    }
    const double scaled = is_in_bytes(kind) ? value : value * static_cast<double>(kWhole);
    if (kind.empty() || !(value >= 0 && scaled <= static_cast<double>(kMostAmount)) || quota.size() >= kMostKinds)
      return Status(Code::kInvalid, "a quota: '" + std::string(entry) +
                                        "' is not KIND=AMOUNT, as in cpus=8,gpus=2,memory=4000000000 (bytes) or a custom "
                                        "resource of the nodes");
    quota[kind] = std::llround(scaled);
  }
  return quota;
}

std::string describe_amounts(const Amounts& amounts) {
  std::string text;
  for (const auto& [kind, amount] : amounts) text += (text.empty() ? "" : ", ") + describe_one(kind, amount);
  return text.empty() ? "nothing" : text;
}

Amounts limited_part(const Amounts& quota, const Resources& demand) {
  Amounts part;
  for (const auto& [kind, most] : quota) {
    int64_t amount = 0;
    if (kind == kCpus) {
      amount = demand.cpus;
    } else if (kind == kGpus) {
      amount = demand.gpus;
    } else if (kind == kMemory) {
      amount = demand.memory_bytes;
    } else if (kind == kGpuMemory) {
      amount = demand.gpu_memory_bytes;
    } else {
      amount = of_kind(demand.custom, kind);
    }
    if (amount > 0) part[kind] = amount;
  }
  return part;
}

void add_amounts(Amounts& to, const Amounts& more) {
  for (const auto& [kind, amount] : more) to[kind] += amount;
  std::erase_if(to, [](const auto& entry) { return entry.second == 0; });
}

void subtract_amounts(Amounts& from, const Amounts& less) {
  for (const auto& [kind, amount] : less) from[kind] -= amount;
  std::erase_if(from, [](const auto& entry) { return entry.second == 0; });
}

std::string kind_above(const Amounts& quota, const Amounts& held, const Amounts& more) {
  for (const auto& [kind, amount] : more) {
    const auto most = quota.find(kind);
    if (amount > 0 && most != quota.end() && amount > most->second - of_kind(held, kind)) return kind;
  }
  return "";
}

Amounts tighter(Amounts quota, const Amounts& other) {
  for (const auto& [kind, most] : other) {
    const auto [it, is_new] = quota.emplace(kind, most);
    if (!is_new) it->second = std::min(it->second, most);
  }
  return quota;
}

bool is_sane(const Amounts& amounts) {
  return amounts.size() <= kMostKinds &&
         std::ranges::all_of(amounts, [](const auto& entry) { return entry.second >= 0 && entry.second <= kMostAmount; });
}

Status beyond_quota(const Amounts& quota, const Amounts& demand) {
  const std::string kind = kind_above(quota, {}, demand);
  if (kind.empty()) return {};
  return Status(Code::kInvalid, "it is more than the whole quota of its job: asks for " +
                                    describe_one(kind, of_kind(demand, kind)) + ", the quota is " +
                                    describe_one(kind, of_kind(quota, kind)) + " (manta submit --quota, MANTA_QUOTA, or " +
                                    "the head's --job-quota)");
}

std::string explain_quota(const Amounts& quota, const Amounts& held, const Amounts& demand) {
  const std::string kind = kind_above(quota, held, demand);
  if (kind.empty()) return "the head is asked whether it is within its job's quota of " + describe_amounts(quota);
  return "it waits for its job's quota: it asks for " + describe_one(kind, of_kind(demand, kind)) + ", the quota is " +
         describe_one(kind, of_kind(quota, kind)) + ", the job holds " + describe_one(kind, of_kind(held, kind)) +
         "; it goes on when tasks or actors of the job end, or with a larger quota";
}

}  // namespace manta::wire

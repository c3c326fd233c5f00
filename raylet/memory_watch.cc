#include "raylet/memory_watch.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

namespace manta::raylet {
namespace {

/// The number behind `key` in a file of "key value" lines; -1 when there is none.
int64_t number_of(const std::string& path, const std::string& key) {
  std::ifstream file(path);
  std::string word;
  while (file >> word) {
    int64_t value = -1;
    if (word == key && file >> value) return value;
    std::getline(file, word);
  }
  return -1;
}

/// -1 for a missing file and for "max".
int64_t only_number(const std::string& path) {
  std::ifstream file(path);
  int64_t value = -1;
  return file >> value ? value : -1;
}

}  // namespace

MemoryWatch::MemoryWatch(int64_t limit_bytes, std::string proc, std::string cgroups)
    : limit_bytes_(limit_bytes), proc_(std::move(proc)) {
  std::ifstream groups(proc_ + "/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    const std::string path = line.substr(line.rfind(':') + 1);
    if (const std::string v2 = cgroups + path; line.starts_with("0::") && std::filesystem::exists(v2 + "/memory.max")) {
      usage_file_ = v2 + "/memory.current", limit_file_ = v2 + "/memory.max", stat_file_ = v2 + "/memory.stat";
      inactive_key_ = "inactive_file";
    }
    const std::string v1 = cgroups + "/memory" + path;
    if (line.find(":memory:") != std::string::npos && std::filesystem::exists(v1 + "/memory.limit_in_bytes")) {
      usage_file_ = v1 + "/memory.usage_in_bytes", limit_file_ = v1 + "/memory.limit_in_bytes";
      stat_file_ = v1 + "/memory.stat", inactive_key_ = "total_inactive_file";
    }
  }
}

std::optional<MemoryWatch::Usage> MemoryWatch::machine() const {
  const std::string path = proc_ + "/meminfo";
  const int64_t total_kib = number_of(path, "MemTotal:");
  const int64_t available_kib = number_of(path, "MemAvailable:");
  if (total_kib <= 0 || available_kib < 0) return std::nullopt;
  return Usage{(total_kib - available_kib) * 1024, total_kib * 1024};
}

std::optional<MemoryWatch::Usage> MemoryWatch::cgroup() const {
  if (usage_file_.empty()) return std::nullopt;
  const int64_t limit = only_number(limit_file_);
  const int64_t usage = only_number(usage_file_);
  if (limit <= 0 || usage < 0) return std::nullopt;
  // Files that nobody used lately are given back before anything is killed.
  return Usage{std::max<int64_t>(0, usage - std::max<int64_t>(0, number_of(stat_file_, inactive_key_))), limit};
}

int64_t MemoryWatch::own_bytes(int32_t pid) const {
  std::ifstream file(proc_ + "/" + std::to_string(pid) + "/statm");
  int64_t size = 0, resident = 0, shared = 0;
  if (!(file >> size >> resident >> shared)) return 0;
  return std::max<int64_t>(0, resident - shared) * sysconf(_SC_PAGESIZE);
}

int64_t MemoryWatch::peak_bytes(int32_t pid) const {
  return std::max<int64_t>(0, number_of(proc_ + "/" + std::to_string(pid) + "/status", "VmHWM:")) * 1024;
}

std::optional<MemorySampled> MemoryWatch::sample(const Workers& workers) {
  MemorySampled sampled{.used_bytes = 0, .limit_bytes = limit_bytes_, .whose = "the node's workers", .workers = {}};
  if (limit_bytes_ == 0) {
    std::optional<Usage> usage = machine();
    if (!usage) return std::nullopt;
    sampled.whose = "the machine";
    if (const std::optional<Usage> group = cgroup(); group && group->limit_bytes < usage->limit_bytes) {
      const auto share = [](const Usage& one) {
        return static_cast<double>(one.used_bytes) / static_cast<double>(one.limit_bytes);
      };
      if (share(*group) > share(*usage)) {
        usage = group;
        sampled.whose = "the memory cgroup";
      }
    }
    sampled.used_bytes = usage->used_bytes;
    sampled.limit_bytes = usage->limit_bytes;
    if (sampled.used_bytes < sampled.limit_bytes / 2) return sampled;
  }
  int64_t sum = 0;
  for (const auto& [token, pid] : workers) {
    const int64_t bytes = own_bytes(pid);
    sum += bytes;
    sampled.workers.push_back({token, bytes, 0});
  }
  if (limit_bytes_ != 0) sampled.used_bytes = sum;
  // The peak costs more and is only for the message.
  if (sampled.used_bytes > sampled.limit_bytes / 10 * 9)
    for (WorkerMemory& worker : sampled.workers) worker.peak_bytes = peak_bytes(workers.at(worker.token));
  return sampled;
}

}  // namespace manta::raylet

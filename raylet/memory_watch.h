// Reads how much memory is used, for raylet_core's memory monitor.
//
// With a limit of the node's own, what counts is the sum over its workers; without, the machine (or the memory cgroup this
// process is in, whichever is fuller). A worker's own memory is what it has resident and shares with no file or segment.
//
// Used by one thread. Cost of a sample: two small files, and with a limit (or when less than half of it is free) one more a
// worker, about 10 us each.
#pragma once

#include "raylet/core_types.h"

#include <functional>
#include <optional>
#include <string>
#include <unordered_map>

namespace manta::raylet {

class MemoryWatch {
 public:
  /// `limit_bytes` of all workers together; 0 for the machine's. `folder` and `cgroups` are where /proc and /sys/fs/cgroup
  /// are, for tests.
  explicit MemoryWatch(int64_t limit_bytes, std::string proc = "/proc", std::string cgroups = "/sys/fs/cgroup");

  using Workers = std::unordered_map<WorkerToken, int32_t>;  ///< Their pids.
  /// Nothing when the numbers cannot be read.
  std::optional<MemorySampled> sample(const Workers& workers);

  /// How long to wait until the next sample, so that sampling stays under 1 % of a core.
  [[nodiscard]] static int64_t interval_us(size_t workers) { return 250'000 + static_cast<int64_t>(workers) * 1'000; }

 private:
  struct Usage {
    int64_t used_bytes = 0;
    int64_t limit_bytes = 0;
  };
  [[nodiscard]] std::optional<Usage> machine() const;
  [[nodiscard]] std::optional<Usage> cgroup() const;
  [[nodiscard]] int64_t own_bytes(int32_t pid) const;
  [[nodiscard]] int64_t peak_bytes(int32_t pid) const;

  int64_t limit_bytes_;
  std::string proc_;
  std::string usage_file_;  // of the cgroup, when there is one with a limit
  std::string limit_file_;
  std::string inactive_key_;
  std::string stat_file_;
};

}  // namespace manta::raylet

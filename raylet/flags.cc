#include "raylet/flags.h"

#include "common/check.h"
#include "common/processors.h"

#include <unistd.h>

#include <charconv>
#include <cmath>
#include <filesystem>

namespace manta::raylet {
namespace {

constexpr int64_t kLogicalDeviceBytes = int64_t{16} << 30;
constexpr int kMaxLogicalDevices = 1024;

Status invalid(std::string_view flag, std::string_view value, const std::string& wanted) {
  return Status(Code::kInvalid, std::string(flag) + ": '" + std::string(value) + "' is not " + wanted);
}

Result<int64_t> parse_integer(std::string_view flag, std::string_view text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 0) return invalid(flag, text, "a whole number");
  return value;
}

Result<std::map<std::string, int64_t>> parse_resources(std::string_view text) {
  std::map<std::string, int64_t> resources;
  while (!text.empty()) {
    const std::string_view entry = text.substr(0, text.find(','));
    text.remove_prefix(std::min(text.size(), entry.size() + 1));
    const size_t equals = entry.find('=');
    if (equals == 0 || equals == std::string_view::npos) return invalid("--resources", entry, "name=amount");
    MANTA_ASSIGN_OR_RETURN(resources[std::string(entry.substr(0, equals))], parse_amount(entry.substr(equals + 1)));
  }
  return resources;
}

Result<std::map<std::string, std::string>> parse_labels(std::string_view text) {
  std::map<std::string, std::string> labels;
  while (!text.empty()) {
    const std::string_view entry = text.substr(0, text.find(','));
    text.remove_prefix(std::min(text.size(), entry.size() + 1));
    const size_t equals = entry.find('=');
    if (equals == 0 || equals == std::string_view::npos) return invalid("--labels", entry, "name=value");
    labels[std::string(entry.substr(0, equals))] = entry.substr(equals + 1);
  }
  return labels;
}

/// False when the flag is not one of a cluster.
Result<bool> apply(ClusterFlags& cluster, std::string_view flag, std::string_view value) {
  if (flag == "--address") {
    cluster.address = value;
  } else if (flag == "--listen") {
    cluster.listen = value;
  } else if (flag == "--advertise") {
    cluster.advertise = value;
  } else if (flag == "--state-dir") {
    cluster.state_dir = value;
  } else if (flag == "--keys") {
    cluster.keys_dir = value;
  } else if (flag == "--join-token") {
    cluster.join_token = value;
  } else if (flag == "--labels") {
    MANTA_ASSIGN_OR_RETURN(cluster.labels, parse_labels(value));
  } else {
    return false;
  }
  return true;
}

Status apply(NodeOptions& options, std::string_view flag, std::string_view value) {
  if (flag == "--session-dir") {
    options.session_dir = value;
  } else if (flag == "--driver-fd") {
    MANTA_ASSIGN_OR_RETURN(const int64_t fd, parse_integer(flag, value));
    options.driver_fd = static_cast<int>(fd);
  } else if (flag == "--cpus") {
    MANTA_ASSIGN_OR_RETURN(options.capacity.cpus, parse_amount(value));
  } else if (flag == "--gpus") {
    MANTA_ASSIGN_OR_RETURN(const int64_t count, parse_integer(flag, value));
    if (count > kMaxLogicalDevices) return invalid(flag, value, "at most " + std::to_string(kMaxLogicalDevices));
    options.capacity.devices.assign(static_cast<size_t>(count), {.memory_bytes = kLogicalDeviceBytes, .uuid = {}});
  } else if (flag == "--memory") {
    MANTA_ASSIGN_OR_RETURN(options.capacity.memory_bytes, parse_integer(flag, value));
    options.memory_limit_bytes = options.capacity.memory_bytes;
  } else if (flag == "--store-bytes") {
    MANTA_ASSIGN_OR_RETURN(const int64_t bytes, parse_integer(flag, value));
    options.store_bytes = static_cast<uint64_t>(bytes);
  } else if (flag == "--store-warm-bytes") {
    MANTA_ASSIGN_OR_RETURN(const int64_t bytes, parse_integer(flag, value));
    options.store_warm_bytes = static_cast<uint64_t>(bytes);
  } else if (flag == "--drain-deadline") {
    MANTA_ASSIGN_OR_RETURN(const int64_t seconds, parse_integer(flag, value));
    constexpr int64_t kMostSeconds = int64_t{7} * 86'400;
    if (seconds > kMostSeconds) return invalid(flag, value, "at most a week of seconds");
    options.drain_us = seconds * 1'000'000;
  } else if (flag == "--job-user") {
    MANTA_ASSIGN_OR_RETURN(options.job_user, find_job_user(std::string(value)));
    std::error_code error;
    const auto own = std::filesystem::read_symlink("/proc/self/exe", error);
    if (!error) MANTA_RETURN_IF_ERROR(check_may_run(*options.job_user, own.string()));
  } else if (flag == "--spill-dir") {
    options.spill_dir = value;
  } else if (flag == "--spill-bytes") {
    MANTA_ASSIGN_OR_RETURN(const int64_t bytes, parse_integer(flag, value));
    options.spill_bytes = static_cast<uint64_t>(bytes);
  } else if (flag == "--job-quota") {
    MANTA_ASSIGN_OR_RETURN(options.job_quota, wire::parse_quota(value));
  } else if (flag == "--resources") {
    MANTA_ASSIGN_OR_RETURN(options.capacity.custom, parse_resources(value));
  } else {
    return Status(Code::kInvalid, "unknown flag " + std::string(flag));
  }
  return {};
}

int64_t machine_memory_bytes() { return int64_t{sysconf(_SC_PHYS_PAGES)} * sysconf(_SC_PAGESIZE); }

}  // namespace

Result<int64_t> parse_amount(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !(value >= 0 && value <= 1e9))
    return invalid("amount", text, "a number from 0 to a billion");
  return std::llround(value * static_cast<double>(wire::kWhole));
}

Result<Flags> parse_flags(int argc, char** argv) {
  Flags flags;
  NodeOptions& options = flags.node;
  options.capacity.cpus = int64_t{processors()} * wire::kWhole;
  options.capacity.memory_bytes = machine_memory_bytes();
  ClusterFlags cluster;
  bool is_local = false;
  for (int i = 1; i < argc; ++i) {
    const std::string_view flag = argv[i];
    if (flag == "--local" || flag == "--head") {
      (flag == "--local" ? is_local : cluster.is_head) = true;
      continue;
    }
    if (i + 1 == argc) return Status(Code::kInvalid, std::string(flag) + " needs a value, or is unknown");
    MANTA_ASSIGN_OR_RETURN(const bool is_of_cluster, apply(cluster, flag, argv[i + 1]));
    if (!is_of_cluster) MANTA_RETURN_IF_ERROR(apply(options, flag, argv[i + 1]));
    ++i;
  }
  if (options.store_bytes == 0) options.store_bytes = static_cast<uint64_t>(machine_memory_bytes()) / 10 * 3;
  const bool has_driver = options.driver_fd >= 0 && !options.session_dir.empty();
  if (options.job_user && options.driver_fd >= 0)
    return Status(Code::kInvalid, "--job-user is for nodes of a cluster: a driver's own node serves its driver only");
  if (is_local && has_driver && !cluster.is_head && cluster.address.empty()) return flags;
  if (is_local || cluster.is_head == !cluster.address.empty() || (cluster.is_head && options.driver_fd >= 0) ||
      (options.driver_fd >= 0 && options.session_dir.empty()))
    return Status(Code::kInvalid,
                  "start it with --head (the first node of a cluster) or with --address tcp://HEAD:PORT (any other); "
                  "--local --driver-fd N --session-dir DIR is for a program of Manta that starts its own node");
  if (has_driver) options.capacity = {};
  flags.cluster = std::move(cluster);
  return flags;
}

}  // namespace manta::raylet

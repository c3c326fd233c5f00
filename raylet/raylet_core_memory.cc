// Memory: which worker ends before the kernel picks a process of its own choice.
#include "raylet/raylet_core.h"

#include <algorithm>
#include <cstdio>
#include <map>
#include <tuple>

namespace manta::raylet {
namespace {

/// What is kept free: a twentieth of the limit, a gigabyte at most.
int64_t margin_bytes(int64_t limit_bytes) { return std::min(limit_bytes / 20, int64_t{1} << 30); }

std::string in_gib(int64_t bytes) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2f GiB", static_cast<double>(bytes) / (1 << 30));
  return text;
}

}  // namespace

// First what has more than it asked for. Then work that is done again comes before work that is lost: tasks, then actors
// that restart, then others. Within that the owner whose workers have the most memory, and of those the newest, which loses
// the least; but not one that has so little that its end would not help.
Worker* RayletCore::choose_victim(const MemorySampled& sample, int64_t& its_peak_bytes) {
  struct Candidate {
    const WorkerMemory* memory;
    const Lease* lease;
    int rank;
  };
  std::vector<Candidate> candidates;
  std::map<std::pair<int, ProcessId>, int64_t> bytes_of;  // by rank and owner
  for (const WorkerMemory& memory : sample.workers) {
    const Worker* worker = workers_.find(memory.token);
    const Lease* lease = worker == nullptr || worker->state != WorkerState::kBusy ? nullptr : leases_.find(worker->lease);
    if (lease == nullptr || lease->is_ended) continue;
    const int64_t asked_bytes = lease->claim.demand().memory_bytes;
    int rank = !lease->is_actor() ? 1 : lease->claim.may_restart ? 2 : 3;
    if (asked_bytes > 0 && memory.bytes > asked_bytes) rank = 0;
    candidates.push_back({&memory, lease, rank});
    bytes_of[{rank, lease->claim.owner}] += memory.bytes;
  }
  const int64_t worthwhile_bytes = margin_bytes(sample.limit_bytes) / 4;
  const Candidate* chosen = nullptr;
  const auto order = [&](const Candidate& one) {
    return std::tuple(-one.rank, bytes_of.at({one.rank, one.lease->claim.owner}), one.lease->active_since_us, one.lease->id);
  };
  for (const Candidate& one : candidates)
    if (one.memory->bytes >= worthwhile_bytes && (chosen == nullptr || order(*chosen) < order(one))) chosen = &one;
  if (chosen == nullptr) return nullptr;
  its_peak_bytes = std::max(chosen->memory->bytes, chosen->memory->peak_bytes);
  return workers_.find(chosen->memory->token);
}

void RayletCore::on(MemorySampled& event) {
  if (is_ending_ || event.limit_bytes <= 0) return;
  if (event.used_bytes <= event.limit_bytes - margin_bytes(event.limit_bytes)) return;
  // One at a time: what the last one had comes back when its process has ended.
  for (const WorkerToken token : workers_.in(WorkerState::kEnding))
    if (workers_.at(token).is_killed_for_memory) return;
  int64_t peak_bytes = 0;
  Worker* worker = choose_victim(event, peak_bytes);
  if (worker == nullptr) return;
  const int64_t percent = event.used_bytes * 100 / event.limit_bytes;
  worker->is_killed_for_memory = true;
  kill(*worker, "peak " + in_gib(peak_bytes) + ", " + event.whose + " used " + in_gib(event.used_bytes) + " of " +
                    in_gib(event.limit_bytes) + " (" + std::to_string(percent) + "%)");
}

}  // namespace manta::raylet

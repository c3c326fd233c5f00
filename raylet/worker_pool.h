// The worker processes of a node: which are starting, idle, at work or ending, and what environment each was started with.
//
//   spawn --> STARTING --hello--> IDLE <==take / give back==> BUSY
//                |                 |  \                         |
//                |                 |   released (goodbye)       | killed, dedicated lease over
//                +-- dies ---------+-----> ENDING <-------------+
//                                             |
//                                          exit: forgotten
//
// A worker serves one environment for its life; a dedicated worker (it has GPUs in its environment) serves one lease or
// actor. Pure; owned by raylet_core.
#pragma once

#include "raylet/core_types.h"

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>

namespace manta::raylet {

/// What a worker is started for: workers of one environment stand in for each other.
struct Environment {
  JobId job;
  std::map<std::string, std::string> variables;  ///< Of the scheduling class, without what the raylet adds.
  auto operator<=>(const Environment&) const = default;
};

enum class WorkerState : uint8_t { kStarting, kIdle, kBusy, kEnding };

struct Worker {
  WorkerToken token;
  ProcessId process;  ///< None until its Hello.
  int32_t pid = 0;
  WorkerState state = WorkerState::kStarting;
  Environment env;
  LeaseId dedicated_to;  ///< Only this lease may use it.
  LeaseId lease;         ///< While busy.
  bool is_blocked = false;
  bool was_asked_to_leave = false;
  bool is_killed_for_memory = false;
  bool is_preempted = false;  ///< Killed because the node's time is up: not its own doing.
  int64_t since_us = 0;       ///< Since when it is in this state.
  std::string kill_reason;    ///< Why the raylet kills it; empty if it does not.
};

class WorkerPool {
 public:
  /// After this many failures to start in a row, those who wait for that environment are told.
  static constexpr int kMaxStartFailures = 3;

  Worker& add(const Environment& env, LeaseId dedicated_to, int64_t now_us);
  void remove(WorkerToken token);

  [[nodiscard]] Worker* find(WorkerToken token);
  [[nodiscard]] Worker* find(ProcessId process);
  void set_process(Worker& worker, ProcessId process);

  /// Moves it to another state: the only way, since the pool keeps them by state. Cost: O(log workers).
  void enter(Worker& worker, WorkerState state, int64_t since_us);

  /// The idle worker for this environment, never `owner` itself (it would call itself): one that `is_preferred` if any is
  /// idle, else the one that was busy last (warmest).
  [[nodiscard]] Worker* pick_idle(const Environment& env, ProcessId owner,
                                  const std::function<bool(const Worker&)>& is_preferred);

  /// Starting workers that any lease of this environment may take.
  [[nodiscard]] int starting(const Environment& env) const;
  [[nodiscard]] int count(WorkerState state) const { return static_cast<int>(in(state).size()); }
  /// Those in this state, oldest first.
  [[nodiscard]] const std::set<WorkerToken>& in(WorkerState state) const { return by_state_[static_cast<size_t>(state)]; }
  [[nodiscard]] const Worker& at(WorkerToken token) const { return workers_.at(token); }
  [[nodiscard]] size_t size() const { return workers_.size(); }
  [[nodiscard]] std::map<WorkerToken, Worker>& all() { return workers_; }
  [[nodiscard]] const std::map<WorkerToken, Worker>& all() const { return workers_; }

  /// Counts a failure to start; true when it is the kMaxStartFailures-th in a row, and counting starts again.
  bool note_start_failure(const Environment& env);
  void note_start(const Environment& env) { failures_.erase(env); }

 private:
  std::map<WorkerToken, Worker> workers_;
  std::map<ProcessId, WorkerToken> by_process_;
  std::set<WorkerToken> by_state_[4];
  std::map<Environment, int> failures_;
  uint64_t next_token_ = 1;
};

}  // namespace manta::raylet

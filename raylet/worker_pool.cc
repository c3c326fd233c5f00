#include "raylet/worker_pool.h"

#include <algorithm>

namespace manta::raylet {

Worker& WorkerPool::add(const Environment& env, LeaseId dedicated_to, int64_t now_us) {
  const WorkerToken token{next_token_++};
  Worker& worker = workers_[token] = Worker{.token = token,
                                            .process = {},
                                            .env = env,
                                            .dedicated_to = dedicated_to,
                                            .lease = {},
                                            .since_us = now_us,
                                            .kill_reason = {}};
  by_state_[static_cast<size_t>(worker.state)].insert(token);
  return worker;
}

void WorkerPool::remove(WorkerToken token) {
  const auto it = workers_.find(token);
  if (it == workers_.end()) return;
  by_state_[static_cast<size_t>(it->second.state)].erase(token);
  by_process_.erase(it->second.process);
  workers_.erase(it);
}

void WorkerPool::enter(Worker& worker, WorkerState state, int64_t since_us) {
  by_state_[static_cast<size_t>(worker.state)].erase(worker.token);
  by_state_[static_cast<size_t>(state)].insert(worker.token);
  worker.state = state;
  worker.since_us = since_us;
}

Worker* WorkerPool::find(WorkerToken token) {
  const auto it = workers_.find(token);
  return it == workers_.end() ? nullptr : &it->second;
}

Worker* WorkerPool::find(ProcessId process) {
  const auto it = by_process_.find(process);
  return it == by_process_.end() ? nullptr : find(it->second);
}

void WorkerPool::set_process(Worker& worker, ProcessId process) {
  worker.process = process;
  by_process_[process] = worker.token;
}

Worker* WorkerPool::pick_idle(const Environment& env, ProcessId owner,
                              const std::function<bool(const Worker&)>& is_preferred) {
  Worker* best = nullptr;
  bool best_is_preferred = false;
  for (const WorkerToken token : in(WorkerState::kIdle)) {
    Worker& worker = workers_.at(token);
    if (worker.dedicated_to || worker.process == owner || worker.env != env) continue;
    const bool preferred = is_preferred(worker);
    if (best != nullptr && std::pair(preferred, worker.since_us) <= std::pair(best_is_preferred, best->since_us)) continue;
    best = &worker;
    best_is_preferred = preferred;
  }
  return best;
}

int WorkerPool::starting(const Environment& env) const {
  return static_cast<int>(std::ranges::count_if(in(WorkerState::kStarting), [&](WorkerToken token) {
    const Worker& worker = workers_.at(token);
    return !worker.dedicated_to && worker.env == env;
  }));
}

bool WorkerPool::note_start_failure(const Environment& env) {
  int& failures = failures_[env];
  if (++failures < kMaxStartFailures) return false;
  failures_.erase(env);
  return true;
}

}  // namespace manta::raylet

#include "raylet/worker_pool.h"

#include <algorithm>

namespace manta::raylet {

Worker& WorkerPool::add(const Environment& env, LeaseId dedicated_to, int64_t now_us) {
  const WorkerToken token{next_token_++};
  return workers_[token] = Worker{.token = token,
                                  .process = {},
                                  .env = env,
                                  .dedicated_to = dedicated_to,
                                  .lease = {},
                                  .since_us = now_us,
                                  .kill_reason = {}};
}

void WorkerPool::remove(WorkerToken token) {
  const auto it = workers_.find(token);
  if (it == workers_.end()) return;
  by_process_.erase(it->second.process);
  workers_.erase(it);
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
  for (auto& [token, worker] : workers_) {
    if (worker.state != WorkerState::kIdle || worker.dedicated_to || worker.process == owner || worker.env != env) continue;
    const bool preferred = is_preferred(worker);
    if (best != nullptr && std::pair(preferred, worker.since_us) <= std::pair(best_is_preferred, best->since_us)) continue;
    best = &worker;
    best_is_preferred = preferred;
  }
  return best;
}

int WorkerPool::starting(const Environment& env) const {
  return static_cast<int>(std::ranges::count_if(workers_, [&](const auto& entry) {
    const Worker& worker = entry.second;
    return worker.state == WorkerState::kStarting && !worker.dedicated_to && worker.env == env;
  }));
}

int WorkerPool::count(WorkerState state) const {
  return static_cast<int>(std::ranges::count_if(workers_, [&](const auto& entry) { return entry.second.state == state; }));
}

bool WorkerPool::note_start_failure(const Environment& env) {
  int& failures = failures_[env];
  if (++failures < kMaxStartFailures) return false;
  failures_.erase(env);
  return true;
}

}  // namespace manta::raylet

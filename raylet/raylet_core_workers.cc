// Workers: starting, ending, and what their ends mean.
#include "raylet/raylet_core.h"

#include "common/check.h"

#include <algorithm>

namespace manta::raylet {
namespace {

std::string comma_separated(const std::vector<std::string>& parts) {
  std::string text;
  for (const std::string& part : parts) {
    if (!text.empty()) text += ',';
    text += part;
  }
  return text;
}

}  // namespace

void RayletCore::prestart() {
  const int whole_cpus = static_cast<int>(resources_.capacity().cpus / wire::kWhole);
  const int first = settings_.number == 0 ? cpu_count() : whole_cpus;
  for (int i = 0; i < std::min(first, kMaxPrestart); ++i) spawn({.job = clients_.at(driver_).job, .variables = {}}, nullptr);
  is_prestarted_ = true;
}

Worker* RayletCore::spawn(const Environment& env, Lease* dedicated_to) {
  const JobPlan& plan = *jobs_.at(env.job).plan;
  Worker& worker = workers_.add(env, dedicated_to != nullptr ? dedicated_to->id : LeaseId{}, now_us_);
  if (dedicated_to != nullptr) {
    dedicated_to->worker = worker.token;
    worker.lease = dedicated_to->id;
  }
  emit(Spawn{.token = worker.token,
             .job = env.job,
             .build_id = plan.build_id,
             .program = plan.program,
             .arguments = plan.arguments,
             .working_directory = plan.working_directory,
             .env = worker_environment(worker, dedicated_to),
             .is_first = !is_prestarted_ && env.job.value == driver_.value,
             .may_fork = env.variables.empty() && dedicated_to == nullptr && env.job.value == driver_.value});
  return &worker;
}

std::map<std::string, std::string> RayletCore::worker_environment(const Worker& worker, const Lease* dedicated_to) const {
  std::map<std::string, std::string> env = jobs_.at(worker.env.job).plan->env;
  for (const auto& [name, value] : worker.env.variables) env[name] = value;
  env["MANTA_WORKER_FD"] = std::to_string(kWorkerFd);
  env["MANTA_SPAWN_TOKEN"] = std::to_string(worker.token.value);
  if (dedicated_to == nullptr) return env;
  std::vector<std::string> indices;
  std::vector<std::string> visible;
  for (int32_t index : dedicated_to->grant.devices.devices) {
    const std::string& uuid = resources_.devices().spec(index).uuid;
    indices.push_back(std::to_string(index));
    visible.push_back(uuid.empty() ? std::to_string(index) : uuid);
  }
  env["MANTA_DEVICES"] = comma_separated(indices);
  env["CUDA_VISIBLE_DEVICES"] = comma_separated(visible);
  if (const int64_t limit_bytes = dedicated_to->grant.devices.memory_each_bytes; limit_bytes > 0)
    env["MANTA_GPU_MEMORY_BYTES"] = std::to_string(limit_bytes);
  return env;
}

void RayletCore::on(WorkerSpawned& event) {
  if (Worker* worker = workers_.find(event.token)) worker->pid = event.pid;
}

void RayletCore::on(SpawnFailed& event) {
  Worker* worker = workers_.find(event.token);
  if (worker == nullptr) return;
  const Environment env = worker->env;
  const LeaseId lease = worker->dedicated_to;
  workers_.remove(event.token);
  start_failed(env, lease, event.status.message());
  schedule();
}

void RayletCore::start_failed(const Environment& env, LeaseId dedicated_to, const std::string& reason) {
  if (Lease* lease = leases_.find(dedicated_to)) {
    leases_.unplace(*lease);
    if (lease->is_ended) return release(*lease);
  }
  if (!workers_.note_start_failure(env)) return;
  const Status status(Code::kUnavailable, "workers fail to start, " + std::to_string(WorkerPool::kMaxStartFailures) +
                                              " times in a row; the last one " + reason);
  refuse_leases([&](const Lease& lease) { return lease.claim.environment() == env; }, status);
}

/// Those without a worker.
void RayletCore::refuse_leases(const std::function<bool(const Lease&)>& which, const Status& status) {
  std::vector<LeaseId> hopeless;
  for (const auto& [id, lease] : leases_.all())
    if (!lease.is_active && !lease.is_ended && which(lease) && (!lease.worker || workers_.find(lease.worker) == nullptr))
      hopeless.push_back(id);
  for (LeaseId id : hopeless) {
    Lease& lease = *leases_.find(id);
    refuse(lease.claim, status);
    if (is_remote(lease.claim.owner.value)) lease.claim.is_metered = false;  // it was spilled back
    release(lease);
  }
}

void RayletCore::kill(Worker& worker, const std::string& reason) {
  if (!worker.kill_reason.empty()) return;
  worker.kill_reason = reason;
  workers_.enter(worker, WorkerState::kEnding, now_us_);
  emit(KillWorker{worker.token, reason});
}

void RayletCore::ask_to_leave(Worker& worker) {
  if (worker.state == WorkerState::kEnding) return;
  workers_.enter(worker, WorkerState::kEnding, now_us_);
  worker.was_asked_to_leave = true;
  send(worker.process, wire::Goodbye{});
}

void RayletCore::on(WorkerExited& event) {
  Worker* found = workers_.find(event.token);
  if (found == nullptr) return;
  const Worker worker = *found;
  workers_.remove(event.token);
  const std::string how = how_it_ended(worker, event.cause);
  if (!worker.process) {
    if (is_ending_) return;
    if (drain_) {
      if (Lease* lease = leases_.find(worker.dedicated_to)) release(*lease);
      schedule();
      return end_if_drained();
    }
    if (Lease* lease = leases_.find(worker.dedicated_to); lease != nullptr && lease->is_ended) {
      release(*lease);  // cancelled while its worker started
      return schedule();
    }
    start_failed(worker.env, worker.dedicated_to,
                 how + " before it was ready" + (event.last_words.empty() ? "" : "; it said: ") + event.last_words +
                     missing_library_hint(event.last_words));
    return schedule();
  }
  if (Lease* lease = leases_.find(worker.lease)) {
    if (lease->is_actor() && !lease->is_ended) report_end(*lease, worker, event);
    release(*lease);
  }
  forget_client(worker.process, end_of(worker, event.cause));
  end_if_drained();
}

Status RayletCore::end_of(const Worker& worker, const ExitCause& cause) {
  const std::string how = how_it_ended(worker, cause);
  return worker.is_preempted ? wire::preempted(how) : Status(Code::kDied, how);
}

std::string RayletCore::how_it_ended(const Worker& worker, const ExitCause& cause) {
  if (worker.is_killed_for_memory) return "killed by the memory monitor: " + worker.kill_reason;
  return worker.kill_reason.empty() ? describe(cause) : "killed by Manta: " + worker.kill_reason;
}

void RayletCore::on(Tick&) {
  const auto silent = workers_.in(WorkerState::kStarting);  // copies: a kill moves the worker
  for (const WorkerToken token : silent) {
    Worker& worker = *workers_.find(token);
    if (now_us_ - worker.since_us >= kStartTimeoutUs) kill(worker, "it did not introduce itself in time after its start");
  }
  const auto ending = workers_.in(WorkerState::kEnding);
  for (const WorkerToken token : ending) {
    Worker& worker = *workers_.find(token);
    if (now_us_ - worker.since_us >= kEndTimeoutUs)
      kill(worker, worker.was_asked_to_leave ? "it did not leave when asked" : "it closed its connection and did not exit");
  }
  release_idle_workers();
  place_due_actors();
  if (kept_room_.group != 0 && now_us_ >= kept_room_.until_us) {
    kept_room_ = {};
    schedule();
  }
  look_in_groups();
  report_waiting();
  if (drain_ && now_us_ >= drain_->due_us) cut_off();
}

void RayletCore::release_idle_workers() {
  int surplus = workers_.count(WorkerState::kIdle) - (drain_ ? 0 : cpu_count());
  const auto idle = workers_.in(WorkerState::kIdle);
  for (const WorkerToken token : idle) {
    if (surplus <= 0) return;
    Worker& worker = *workers_.find(token);
    if (now_us_ - worker.since_us < idle_release_us()) continue;
    ask_to_leave(worker);
    --surplus;
  }
}

std::optional<int64_t> RayletCore::next_deadline_us() const {
  std::optional<int64_t> next;
  const auto due = [&next](int64_t when_us) {
    if (!next || when_us < *next) next = when_us;
  };
  for (const WorkerToken token : workers_.in(WorkerState::kStarting)) due(workers_.at(token).since_us + kStartTimeoutUs);
  for (const WorkerToken token : workers_.in(WorkerState::kEnding))
    if (const Worker& worker = workers_.at(token); worker.kill_reason.empty()) due(worker.since_us + kEndTimeoutUs);
  if (workers_.count(WorkerState::kIdle) > (drain_ ? 0 : cpu_count()))
    for (const WorkerToken token : workers_.in(WorkerState::kIdle)) due(workers_.at(token).since_us + idle_release_us());
  if (drain_) due(drain_->due_us + (drain_->is_cut_off ? kEndTimeoutUs : 0));
  if (!later_.empty()) due(later_.begin()->first);
  if (wait_check_us_ != 0) due(wait_check_us_);
  if (kept_room_.group != 0) due(kept_room_.until_us);
  if (look_in_groups_us_ != 0) due(look_in_groups_us_);
  return next;
}

}  // namespace manta::raylet

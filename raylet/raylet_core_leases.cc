// Leases: granting, assigning workers, taking back, ending.
#include "raylet/raylet_core.h"

#include "common/check.h"

#include <algorithm>

namespace manta::raylet {

void RayletCore::on_message(ProcessId from, wire::RequestLease& message) {
  if (is_remote(from.value)) return;  // through its own raylet
  Claim claim{.owner = from,
              .request = message.request,
              .job = clients_.at(from).job,
              .scheduling_class = std::move(message.scheduling_class),
              .actor = {},
              .sequence = next_sequence_++,
              .since_us = now_us_,
              .near = message.near == own_number() ? 0 : message.near};
  if (Status status = ResourcePool::validate(claim.demand()); !status.ok()) return refuse(claim, status);
  if (settings_.number == 0 && claim.scheduling_class.group == 0) {
    if (!claim.scheduling_class.labels.empty())
      return refuse(claim,
                    Status(Code::kInvalid, "a local session is one node without labels: there is no place to choose"));
    if (!resources_.is_feasible(claim.demand())) return refuse(claim, Status(Code::kInvalid, infeasible(claim.demand())));
    if (Result<wire::NodeNumber> there = asked_node(claim.scheduling_class); !there.ok())
      return refuse(claim, there.status());
  }
  Claim refused{.owner = from, .request = message.request, .job = {}, .scheduling_class = {}, .actor = {}};
  if (!quotas_.empty() && claim.scheduling_class.group == 0 && !quotas_.part_of(claim.job, claim.demand()).empty()) {
    if (Status status = push_unadmitted(std::move(claim)); !status.ok()) refuse(refused, status);
    return;  // the step's end admits it, or not
  }
  if (Status status = queue_.push(std::move(claim)); !status.ok()) return refuse(refused, status);
  schedule();
}

std::string RayletCore::infeasible(const wire::Resources& demand) const {
  const std::string devices = demand.gpus > 0 || demand.gpu_memory_bytes > 0
                                  ? " (" + resources_.devices().explain({demand.gpus, demand.gpu_memory_bytes}) + ")"
                                  : "";
  return "this node can never serve it: asked for " + describe(demand) + "; the node has " +
         describe(resources_.capacity()) + devices;
}

void RayletCore::refuse(const Claim& claim, const Status& status) {
  if (!claim.actor && is_remote(claim.owner.value))
    return emit(SpillLease{wire::node_of(claim.owner.value), {claim.owner.value, claim.request, wire::to_wire(status)}});
  if (!claim.actor) {
    is_over(claim);
    return send(claim.owner, wire::LeaseRefused{claim.request, wire::to_wire(status)});
  }
  emit(TellHead{wire::HeadActorEvent{.actor = claim.actor->actor,
                                     .incarnation = claim.actor->incarnation,
                                     .event = static_cast<uint8_t>(wire::ActorEvent::kRefused),
                                     .cause = wire::to_wire(status)}});
}

void RayletCore::on_message(ProcessId from, wire::CancelLeaseRequest& message) {
  if (const auto asked = asked_.find({from, message.request}); asked != asked_.end()) {
    take_back(asked->second.node, from, message.request);
    take_back(asked->second.also, from, message.request);
    asked_.erase(asked);
    return;
  }
  if (unadmitted_.size() != 0 && unadmitted_.cancel(from, message.request)) return quotas_.touch();
  if (const std::optional<Claim> claim = queue_.cancel(from, message.request)) {
    is_over(*claim);
    return schedule();
  }
  if (Lease* lease = leases_.find_waiting(from, message.request)) end_lease(*lease);
}

Lease* RayletCore::active_lease_of(ProcessId owner, uint64_t lease_id) {
  Lease* lease = leases_.find(LeaseId{lease_id});
  const bool is_theirs =
      lease != nullptr && lease->claim.owner == owner && !lease->is_actor() && lease->is_active && !lease->is_ended;
  return is_theirs ? lease : nullptr;
}

// A lease that is unknown here ended with its worker while the message was under way: no error.
void RayletCore::on_message(ProcessId from, wire::ReturnLease& message) {
  if (const auto held = remote_leases_.find(message.lease); held != remote_leases_.end()) {
    // What a placement group has is not in the view.
    if (held->second.what.group == 0) view_.give_back(wire::node_of(message.lease), held->second.what.resources);
    remote_leases_.erase(held);
  }
  if (is_remote(message.lease)) {
    emit(HandOn{wire::node_of(message.lease), from, message});
    ask_as_well();
    return schedule();
  }
  if (Lease* lease = active_lease_of(from, message.lease)) end_lease(*lease);
}

void RayletCore::on_message(ProcessId from, wire::KillLease& message) {
  if (is_remote(message.lease)) return emit(HandOn{wire::node_of(message.lease), from, std::move(message)});
  Lease* lease = active_lease_of(from, message.lease);
  if (lease == nullptr) return;
  if (Worker* worker = workers_.find(lease->worker))
    kill(*worker, message.reason.empty() ? "its owner asked" : message.reason);
}

void RayletCore::on_message(ProcessId from, wire::Blocked& message) {
  Worker* worker = workers_.find(from);
  if (worker == nullptr || worker->is_blocked == message.blocked) return;
  Lease* lease = leases_.find(worker->lease);
  if (lease == nullptr || lease->is_ended) return;
  worker->is_blocked = message.blocked;
  if (lease->grant.bundle) {
    message.blocked ? bundles_.lend_cpus(lease->grant) : bundles_.take_back_cpus(lease->grant);
  } else {
    message.blocked ? resources_.lend_cpus(lease->grant) : resources_.take_back_cpus(lease->grant);
  }
  if (!lease->is_actor()) send(lease->claim.owner, wire::LeaseBlocked{lease->id.value, message.blocked});
  if (lease->claim.is_metered) note_lent(*lease, message.blocked);
  if (message.blocked) schedule();
}

void RayletCore::schedule() {
  if (is_ending_) return;
  while (grant_one()) {
  }
  if (kept_room_.group != 0 && !kept_room_.is_there && is_zero(shortage(kept_room_.amounts, resources_.available()))) {
    kept_room_.is_there = true;
    emit(ReportSoon{});
  }
  spill_out();
  assign_workers();
  send_reclaims();
  if (queue_.size() == 0) {
    wait_check_us_ = 0;
  } else if (wait_check_us_ == 0) {
    wait_check_us_ = now_us_ + kStarvingUs;
  }
}

// Leases come back when they are asked for; what actors hold comes back when they end. Who waits for that should know.
void RayletCore::report_waiting() {
  if (wait_check_us_ == 0 || now_us_ < wait_check_us_) return;
  wait_check_us_ = now_us_ + kStarvingUs;
  if (now_us_ - last_wait_report_us_ < kWaitReportUs) return;
  for (const Claim* front : queue_.fronts(holding())) {
    if (front->actor || front->scheduling_class.group != 0 || now_us_ - front->since_us < kStarvingUs ||
        fits_without_leases(front->demand()))
      continue;
    const Wish wish = wish_of(*front);
    if (view_.could_hold(wish)) continue;  // it waits for others there
    last_wait_report_us_ = now_us_;
    const std::string text = could_be_here(front->scheduling_class)
                                 ? "tasks wait behind actors or placement groups: each " +
                                       resources_.explain(front->demand()) + "; " + held_by_actors() + ", until they end"
                                 : "tasks wait for a node that could hold them: " + view_.explain(wish);
    return send(ProcessId{front->job.value},
                wire::LogLines{.pid = settings_.pid, .is_error_stream = true, .label = "mantad", .lines = {text}});
  }
}

std::string RayletCore::held_by_actors() const {
  wire::Resources held;
  std::map<std::string, int> classes;
  for (const auto& [id, lease] : leases_.all()) {
    if (!lease.is_actor() || lease.is_ended) continue;
    if (!lease.grant.bundle) add(held, lease.grant.amounts);
    ++classes[lease.claim.actor->class_name];
  }
  const std::string groups = bundles_.size() == 0 ? "" : "placement groups hold " + describe(bundles_.amounts());
  if (classes.empty() && !groups.empty()) return groups;
  std::string names;
  for (const auto& [name, count] : classes) names += (names.empty() ? "" : ", ") + std::to_string(count) + " of " + name;
  return "actors hold " + describe(held) + " (" + names + ")" + (groups.empty() ? "" : ", ") + groups;
}

bool RayletCore::fits_without_leases(const wire::Resources& demand) const {
  wire::Resources could_be_free = resources_.available();
  for (const auto& [id, lease] : leases_.all())
    if (!lease.is_actor() && !lease.grant.bundle) add(could_be_free, lease.grant.amounts);
  return is_zero(shortage(demand, could_be_free));
}

LeaseQueue::Holding RayletCore::holding() const {
  return [this](const Claim& claim) { return std::pair(leases_.held_by(claim.job), leases_.held_by(claim.owner)); };
}

bool RayletCore::grant_one() {
  if (queue_.size() == 0) return false;
  // What large claims lack that have waited long: small ones no longer take it from under them. Not devices, of which
  // another may well be free for the small one.
  wire::Resources kept_back;
  for (const Claim* front : queue_.fronts(holding())) {
    const bool is_in_group = front->scheduling_class.group != 0;
    if (!is_in_group && (overlaps(front->demand(), kept_back) || is_kept_for_group(front->demand()) || !is_for_here(*front)))
      continue;
    // Of a node that is drained, only what its own work needs to end and nobody else could run.
    if (drain_ && !is_in_group && (front->actor || could_be_elsewhere(*front))) continue;
    if (std::optional<Grant> grant = acquire(*front)) {
      leases_.add(queue_.pop(*front), std::move(*grant));
      return true;
    }
    if (is_in_group || now_us_ - front->since_us < kStarvingUs || !fits_without_leases(front->demand())) continue;
    wire::Resources missing = shortage(front->demand(), resources_.available());
    missing.gpus = missing.gpu_memory_bytes = 0;
    add(kept_back, missing);
  }
  return false;
}

void RayletCore::assign_workers() {
  // Nothing to give them, and as many workers as may start at a time do.
  if (workers_.count(WorkerState::kIdle) == 0 && workers_.count(WorkerState::kStarting) >= max_starting()) return;
  std::map<Environment, int> needed;
  for (Lease* lease : leases_.unplaced(kMaxPlacedAtOnce)) {
    const Environment env = lease->claim.environment();
    if (!has_plan(env.job)) continue;
    if (lease->needs_dedicated_worker()) {
      if (workers_.count(WorkerState::kStarting) < max_starting()) spawn(env, lease);
      continue;
    }
    Worker* worker = nullptr;
    if (!needed.contains(env))
      worker = workers_.pick_idle(env, lease->claim.owner, [&](const Worker& idle) {
        return channels_.contains({lease->claim.owner, idle.process});
      });
    if (worker != nullptr) {
      activate(*lease, *worker);
    } else {
      ++needed[env];
    }
  }
  for (const auto& [env, count] : needed)
    for (int missing = count - workers_.starting(env); missing > 0; --missing)
      if (workers_.count(WorkerState::kStarting) < max_starting()) spawn(env, nullptr);
}

void RayletCore::activate(Lease& lease, Worker& worker) {
  MANTA_CHECK(worker.state == WorkerState::kIdle && !lease.is_active, worker.token.value, lease.id.value);
  workers_.enter(worker, WorkerState::kBusy, now_us_);
  worker.lease = lease.id;
  lease.worker = worker.token;
  lease.is_active = true;
  lease.active_since_us = now_us_;
  if (lease.is_actor()) {
    wire::StartActor start = *lease.claim.actor;
    start.devices = lease.grant.devices.devices;
    lease.claim.actor->arguments.clear();  // the head has them, should there be a next incarnation
    lease.claim.actor->state.clear();
    return send(worker.process, std::move(start));
  }
  const Connected connected = connect(lease.claim.owner, worker, lease.grant.devices.devices);
  send(lease.claim.owner, wire::LeaseGranted{.request = lease.claim.request,
                                             .lease = lease.id.value,
                                             .worker = worker.process.value,
                                             .worker_pid = worker.pid,
                                             .channel = connected.channel.value,
                                             .new_channel = connected.is_new,
                                             .devices = lease.grant.devices.devices});
  if (drain_ && !lease.grant.bundle) ask_back(lease);
}

void RayletCore::ask_back(Lease& lease) {
  lease.is_reclaimed = true;
  send(lease.claim.owner, wire::ReclaimLease{lease.id.value});
}

void RayletCore::send_reclaims() {
  if (queue_.size() == 0 && kept_room_.group == 0) return;
  // Each placement group is a pool of its own; 0 is the node.
  std::map<uint64_t, std::vector<const Claim*>> by_group;
  Claim of_group{.owner = {}, .job = {}, .scheduling_class = {}, .actor = {}};
  of_group.scheduling_class.resources = kept_room_.amounts;
  if (kept_room_.group != 0) by_group[0].push_back(&of_group);
  for (const Claim* front : queue_.fronts(holding())) by_group[front->scheduling_class.group].push_back(front);
  for (const auto& [group, fronts] : by_group) {
    if (group != 0 && !bundles_.serves(group)) continue;
    wire::SchedulingClass anywhere;
    anywhere.group = group;
    const wire::Resources free = group == 0 ? resources_.available() : bundles_.available(anywhere);
    for (LeaseId id : leases_.choose_reclaims(fronts, free, group)) ask_back(*leases_.find(id));
  }
}

// The owner is done with it. A dedicated worker still holds its devices' memory until it has exited, so they stay taken
// until then.
void RayletCore::end_lease(Lease& lease) {
  Worker* worker = workers_.find(lease.worker);
  if (worker != nullptr && worker->dedicated_to) {
    lease.is_ended = true;
    if (worker->state == WorkerState::kStarting) return kill(*worker, "its lease was cancelled");
    return ask_to_leave(*worker);
  }
  if (worker != nullptr) {
    worker->lease = {};
    worker->is_blocked = false;
    workers_.enter(*worker, worker->state == WorkerState::kBusy ? WorkerState::kIdle : worker->state, now_us_);
  }
  release(lease);
  schedule();
}

void RayletCore::release(Lease& lease) {
  release(lease.grant);
  is_over(lease.claim);
  leases_.remove(lease.id);
}

// Their owner died. A worker may be in the middle of a task that nobody waits for, so it does not go back to the pool.
void RayletCore::drop_leases_of(ProcessId owner) {
  for (const uint64_t request : queue_.drop_leases_of(owner)) is_over(owner, request);
  if (unadmitted_.size() != 0) {
    (void)unadmitted_.drop_leases_of(owner);
    quotas_.touch();
  }
  std::vector<LeaseId> theirs;
  for (const auto& [id, lease] : leases_.all())
    if (!lease.is_actor() && !lease.is_ended && lease.claim.owner == owner) theirs.push_back(id);
  for (LeaseId id : theirs) {
    Lease& lease = *leases_.find(id);
    Worker* worker = workers_.find(lease.worker);
    if (worker == nullptr) {
      release(lease);
      continue;
    }
    lease.is_ended = true;
    kill(*worker, "the process that called it ended");
  }
}

}  // namespace manta::raylet

// Actors: placing what the head decides on workers of their own, and telling the head what became of it.
#include "raylet/raylet_core.h"

namespace manta::raylet {

void RayletCore::on_message(ProcessId from, wire::CreateActor& message) {
  if (message.actor.owner != from.value) return break_with(from, "an actor is created by its owner");
  message.job = clients_.at(from).job.value;
  watches_[from].insert(message.actor);
  emit(TellHead{wire::HeadRequest{from.value, std::move(message)}});
}
void RayletCore::on_message(ProcessId from, wire::WatchActor& message) {
  watches_[from].insert(message.actor);
  emit(TellHead{wire::HeadRequest{from.value, message}});
}
void RayletCore::on_message(ProcessId from, wire::KillActor& message) {
  emit(TellHead{wire::HeadRequest{from.value, std::move(message)}});
}
void RayletCore::on_message(ProcessId from, wire::FindActor& message) {
  emit(TellHead{wire::HeadRequest{from.value, std::move(message)}});
}
void RayletCore::on_message(ProcessId from, wire::ReleaseActor& message) {
  emit(TellHead{wire::HeadRequest{from.value, message}});
}
void RayletCore::on_message(ProcessId from, wire::LogLineage& message) {
  emit(TellHead{wire::HeadRequest{from.value, std::move(message)}});
}

void RayletCore::on_message(ProcessId from, wire::SaveActorState& message) {
  if (hosted_actor(from, message.actor, message.incarnation) == nullptr) return;  // of an incarnation that ended meanwhile
  emit(TellHead{wire::HeadRequest{from.value, std::move(message)}});
}

Lease* RayletCore::hosted_actor(ProcessId process, const wire::ActorKey& actor, uint32_t incarnation) {
  const Worker* worker = workers_.find(process);
  Lease* lease = worker == nullptr ? nullptr : leases_.find(worker->lease);
  const bool is_it = lease != nullptr && lease->is_actor() && !lease->is_ended && lease->claim.actor->actor == actor &&
                     lease->claim.actor->incarnation == incarnation;
  return is_it ? lease : nullptr;
}

void RayletCore::on_message(ProcessId from, wire::ActorStarted& message) {
  Lease* lease = hosted_actor(from, message.actor, message.incarnation);
  if (lease == nullptr) return;
  const Status status = wire::from_wire(message.status);
  lease->is_started = status.ok();
  if (status.ok()) return tell_head(*lease, wire::ActorEvent::kStarted, status);
  tell_head(*lease, wire::ActorEvent::kRefused, status);
  lease->is_ended = true;
  kill(*workers_.find(from), "its actor could not be constructed");
}

void RayletCore::tell_head(const Lease& lease, wire::ActorEvent event, const Status& cause) {
  Worker* worker = workers_.find(lease.worker);
  emit(TellHead{wire::HeadActorEvent{.actor = lease.claim.actor->actor,
                                     .incarnation = lease.claim.actor->incarnation,
                                     .event = static_cast<uint8_t>(event),
                                     .worker = worker != nullptr ? worker->process.value : 0,
                                     .worker_pid = worker != nullptr ? worker->pid : 0,
                                     .cause = wire::to_wire(cause),
                                     .lived_us = lease.is_active ? now_us_ - lease.active_since_us : 0}});
}

void RayletCore::report_end(const Lease& lease, const Worker& worker, const WorkerExited& event) {
  const bool left = lease.is_stopping && !event.cause.by_signal && event.cause.code == 0;
  tell_head(lease, left ? wire::ActorEvent::kLeft : wire::ActorEvent::kEnded, end_of(worker, event.cause));
}

void RayletCore::on(HeadSays& event) {
  if (is_ending_) return;
  // What is about members and the view is for the I/O around the core.
  std::visit(
      [this](auto& message) {
        if constexpr (requires { on_head(message); }) on_head(message);
      },
      event.message);
}

void RayletCore::place_due_actors() {
  while (!later_.empty() && later_.begin()->first <= now_us_) {
    auto due = later_.extract(later_.begin());
    on_head(due.mapped());
  }
}

void RayletCore::on_head(wire::PlaceActor& message) {
  if (const int64_t delay_us = std::exchange(message.delay_us, 0); delay_us > 0) {
    later_.emplace(now_us_ + delay_us, std::move(message));
    return;
  }
  Claim claim{.owner = ProcessId{message.owner},
              .job = settings_.number == 0 ? JobId{driver_.value} : JobId{message.job},
              .scheduling_class = std::move(message.scheduling_class),
              .actor = std::move(message.start),
              .may_restart = message.may_restart,
              .is_metered = message.is_metered,
              .sequence = next_sequence_++,
              .since_us = now_us_};
  const wire::Resources demand = claim.demand();
  if (Status status = ResourcePool::validate(demand); !status.ok()) return refuse(claim, status);
  const bool is_in_group = claim.scheduling_class.group != 0;  // then the head knows that its bundle is large enough
  if (!is_in_group && !resources_.is_feasible(demand)) return refuse(claim, Status(Code::kInvalid, infeasible(demand)));
  const wire::SchedulingClass what = claim.scheduling_class;
  wire::HeadActorEvent waiting{.actor = claim.actor->actor,
                               .incarnation = claim.actor->incarnation,
                               .event = static_cast<uint8_t>(wire::ActorEvent::kWaiting),
                               .cause = {}};
  Claim named{.owner = claim.owner, .job = {}, .scheduling_class = {}, .actor = wire::StartActor{}};
  named.actor->actor = waiting.actor;
  named.actor->incarnation = waiting.incarnation;
  if (Status status = queue_.push(std::move(claim)); !status.ok()) return refuse(named, status);
  schedule();
  if (leases_.find_actor(waiting.actor, waiting.incarnation) != nullptr) return;
  const std::string lacks = is_in_group ? bundles_.explain(what) : resources_.explain(demand);
  waiting.cause = wire::to_wire(Status(Code::kUnavailable, "waits for resources: " + lacks));
  emit(TellHead{std::move(waiting)});
}

void RayletCore::on_head(wire::EndActor& message) {
  const size_t delayed = std::erase_if(later_, [&](const auto& entry) {
    return entry.second.start.actor == message.actor && entry.second.start.incarnation == message.incarnation;
  });
  if (delayed > 0) return;
  if (queue_.cancel_actor(message.actor, message.incarnation)) return schedule();
  Lease* lease = leases_.find_actor(message.actor, message.incarnation);
  if (lease == nullptr || lease->is_ended) return;
  if (!lease->is_active) return end_lease(*lease);
  Worker* worker = workers_.find(lease->worker);
  if (worker == nullptr) return;
  if (!message.drain) return kill(*worker, message.reason.empty() ? "its actor was killed" : message.reason);
  if (std::exchange(lease->is_stopping, true)) return;
  send(worker->process, wire::StopActor{message.actor, true});
}

void RayletCore::on_head(wire::ActorNotice& message) {
  wire::ActorUpdate& update = message.update;
  const ProcessId to{message.to};
  if (!clients_.contains(to) && !is_remote(to.value)) return;
  if (static_cast<wire::ActorPhase>(update.phase) == wire::ActorPhase::kDead)
    if (const auto watching = watches_.find(to); watching != watches_.end()) watching->second.erase(update.actor);
  if (static_cast<wire::ActorPhase>(update.phase) == wire::ActorPhase::kAlive) {
    // If it ended meanwhile, the head hears of it and the watcher of what comes next.
    const Lease* lease = leases_.find_actor(update.actor, update.incarnation);
    const Worker* worker = lease == nullptr || !lease->is_active ? nullptr : workers_.find(lease->worker);
    if (worker == nullptr) return;
    const Connected connected = connect(to, *worker, lease->grant.devices.devices);
    update.worker = worker->process.value;
    update.worker_pid = worker->pid;
    update.channel = connected.channel.value;
    update.new_channel = connected.is_new;
  }
  send(to, std::move(update));
}

// Clients, and actors that ended unheard, are put in by whoever keeps what the head was told.
void RayletCore::on_head(wire::HeadRestarted&) {
  wire::HeadNodeReturns returns;
  const auto add = [&](const wire::StartActor& actor, const Worker* worker) {
    returns.actors.push_back({.actor = actor.actor,
                              .incarnation = actor.incarnation,
                              .worker = worker != nullptr ? worker->process.value : 0,
                              .worker_pid = worker != nullptr ? worker->pid : 0});
  };
  for (const auto& [id, lease] : leases_.all())
    if (lease.is_actor() && !lease.is_ended)
      add(*lease.claim.actor, lease.is_started ? workers_.find(lease.worker) : nullptr);
  for (const Claim* claim : queue_.all())
    if (claim->actor) add(*claim->actor, nullptr);
  for (const auto& [when_us, place] : later_) add(place.start, nullptr);
  for (const auto& [watcher, keys] : watches_)
    for (const wire::ActorKey& key : keys) returns.watches.push_back({watcher.value, key});
  returns.bundles = bundles_.held();
  returns.quotas = quotas_.returns(quota_wants());
  emit(TellHead{std::move(returns)});
  for (const auto& [number, group] : groups_.all())
    for (const ProcessId client : group.clients)
      emit(TellHead{wire::HeadRequest{client.value, wire::GetPlacementGroup{.request = 0, .group = number}}});
}

void RayletCore::on_head(wire::ActorAnswer& message) { send(ProcessId{message.to}, std::move(message.found)); }

}  // namespace manta::raylet

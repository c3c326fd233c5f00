#include "head/head_core.h"

#include "common/check.h"
#include "head/records.h"

#include <algorithm>

namespace manta::head {

using wire::ActorKey;
using wire::ActorPhase;

HeadEffects HeadCore::step(wire::ToHead message) {
  std::visit([this](auto& one) { on(one); }, message);
  return std::exchange(effects_, {});
}

const HeadCore::Actor* HeadCore::find(const ActorKey& actor) const {
  const auto it = actors_.find(actor);
  return it == actors_.end() ? nullptr : &it->second;
}

// ---------------------------------------------------------------------------------------------------- clients

void HeadCore::on(wire::HeadClientJoined& message) {
  processes_.insert(message.process);
  if (static_cast<wire::Role>(message.role) != wire::Role::kDriver) return;
  jobs_[message.process] = message.job_name;
  effects_.records.push_back(to_record(JobRecord{message.process, message.job_name}));
}

void HeadCore::on(wire::HeadClientGone& message) {
  processes_.erase(message.process);
  forgotten_up_to_.erase(message.process);
  if (jobs_.erase(message.process) > 0) effects_.records.push_back(removal(JobRecord{message.process, {}}));
  for (auto it = early_watches_.begin(); it != early_watches_.end();) {
    early_watch_count_ -= it->second.erase(message.process);
    if (it->first.owner == message.process) {
      for (uint64_t watcher : it->second) tell_missing(it->first, watcher);
      early_watch_count_ -= it->second.size();
      it->second.clear();
    }
    it = it->second.empty() ? early_watches_.erase(it) : std::next(it);
  }
  const Status cause = wire::from_wire(message.cause).with_context("its owner ended");
  if (const auto watched = watched_.extract(message.process)) {
    for (const ActorKey& key : watched.mapped()) actors_.at(key).watchers.erase(message.process);
  }
  std::vector<ActorKey> orphans;
  for (auto it = actors_.lower_bound({message.process, 0}); it != actors_.end() && it->first.owner == message.process; ++it)
    if (!it->second.spec.detached && it->second.phase != ActorPhase::kDead) orphans.push_back(it->first);
  for (const ActorKey& key : orphans) {
    Actor& actor = actors_.at(key);
    end_worker(actor, false, "the owner of its actor ended");
    bury(actor, wire::to_wire(Status(Code::kDied, cause.message())));
  }
}

void HeadCore::on(wire::HeadRequest& message) {
  if (!processes_.contains(message.from)) return;
  std::visit([&](auto& request) { on_request(message.from, request); }, message.request);
}

// ---------------------------------------------------------------------------------------------------- requests

Status HeadCore::check(const wire::CreateActor& spec) const {
  if (spec.actor.sequence == 0) return Status(Code::kInvalid, "an actor's sequence number starts at 1");
  if (spec.arguments.size() > settings_.max_argument_bytes)
    return Status(Code::kInvalid, "the arguments of the constructor take " + std::to_string(spec.arguments.size()) +
                                      " bytes, at most " + std::to_string(settings_.max_argument_bytes) +
                                      " are carried: put() the large ones");
  if (actors_.size() - dead_.size() >= settings_.max_actors) return Status(Code::kFull, "too many actors");
  const auto named = names_.find({spec.name_space, spec.name});
  if (!spec.name.empty() && named != names_.end())
    return Status(Code::kExists, "an actor named '" + spec.name + "' lives already in name space '" + spec.name_space + "'");
  return {};
}

void HeadCore::refuse_creation(uint64_t from, const wire::CreateActor& spec, const Status& status) {
  effects_.messages.push_back(wire::ActorNotice{from, wire::ActorUpdate{.actor = spec.actor,
                                                                        .phase = static_cast<uint8_t>(ActorPhase::kDead),
                                                                        .cause = wire::to_wire(status),
                                                                        .class_name = spec.class_name,
                                                                        .instead_of = {}}});
}

void HeadCore::on_request(uint64_t from, wire::CreateActor& message) {
  if (const auto known = actors_.find(message.actor); known != actors_.end()) {
    watch(known->second, from);
    return tell(known->second, from);
  }
  if (const auto named = names_.find({message.name_space, message.name});
      message.get_if_exists && !message.name.empty() && named != names_.end()) {
    Actor& actor = actors_.at(named->second);
    watch(actor, from);
    return tell(actor, from, message.actor);
  }
  if (Status status = check(message); !status.ok()) return refuse_creation(from, message, status);
  const ActorKey key = message.actor;
  Actor& actor = actors_[key];
  actor.spec = std::move(message);
  watch(actor, from);
  if (const auto early = early_watches_.find(key); early != early_watches_.end()) {
    early_watch_count_ -= early->second.size();
    for (uint64_t watcher : early->second) watch(actor, watcher);
    early_watches_.erase(early);
  }
  if (!actor.spec.name.empty()) names_[{actor.spec.name_space, actor.spec.name}] = key;
  write(actor);
  tell_watchers(actor);
  place(actor);
}

void HeadCore::on_request(uint64_t from, wire::WatchActor& message) {
  if (const auto it = actors_.find(message.actor); it != actors_.end()) {
    watch(it->second, from);
    return tell(it->second, from);
  }
  // The handle may have come faster than its owner's CreateActor: both travel, by different ways.
  const auto forgotten = forgotten_up_to_.find(message.actor.owner);
  const bool is_forgotten = forgotten != forgotten_up_to_.end() && message.actor.sequence <= forgotten->second;
  if (is_forgotten || !processes_.contains(message.actor.owner) || early_watch_count_ >= settings_.max_early_watches)
    return tell_missing(message.actor, from);
  if (early_watches_[message.actor].insert(from).second) ++early_watch_count_;
}

void HeadCore::on_request(uint64_t, wire::KillActor& message) {
  const auto it = actors_.find(message.actor);
  if (it == actors_.end() || it->second.phase == ActorPhase::kDead) return;
  Actor& actor = it->second;
  const bool is_placed = actor.phase == ActorPhase::kAlive;
  if (message.drain) {
    actor.may_restart = false;
    actor.is_draining = true;
    if (is_placed) end_worker(actor, true, "its last handle is gone");
    return;
  }
  const std::string reason = message.reason.empty() ? "somebody asked" : message.reason;
  if (message.no_restart) {
    end_worker(actor, false, reason);
    return bury(actor, wire::to_wire(Status(Code::kDied, "killed by Manta: " + reason)));
  }
  if (is_placed) end_worker(actor, false, reason);
}

void HeadCore::on_request(uint64_t from, wire::FindActor& message) {
  wire::ActorFound found{.request = message.request, .status = {}, .actor = {}, .class_name = {}};
  const auto named = names_.find({message.name_space, message.name});
  if (named == names_.end()) {
    found.status = wire::to_wire(
        Status(Code::kNotFound, "no actor is named '" + message.name + "' in name space '" + message.name_space + "'"));
  } else {
    found.actor = named->second;
    found.class_name = actors_.at(named->second).spec.class_name;
  }
  effects_.messages.push_back(wire::ActorAnswer{from, std::move(found)});
}

void HeadCore::on_request(uint64_t, wire::SaveActorState& message) {
  const auto it = actors_.find(message.actor);
  if (it == actors_.end() || it->second.phase == ActorPhase::kDead || it->second.incarnation != message.incarnation) return;
  it->second.has_state = true;
  it->second.state = std::move(message.state);
  effects_.records.push_back(to_record(ActorStateRecord{message.actor, it->second.state}));
}

void HeadCore::on_request(uint64_t from, wire::LogLineage& message) {
  const size_t count = std::min(message.task_sequences.size(), message.specs.size());
  for (size_t i = 0; i < count; ++i) {
    const TaskKey key{from, message.task_sequences[i]};
    if (lineage_.contains(key) || message.specs[i].size() > settings_.max_lineage_bytes) continue;
    lineage_bytes_ += message.specs[i].size();
    lineage_order_.push_back(key);
    effects_.records.push_back(to_record(LineageRecord{key.first, key.second, message.specs[i]}));
    lineage_.emplace(key, std::move(message.specs[i]));
  }
  for (uint64_t sequence : message.dropped) drop_lineage({from, sequence});
  while (lineage_bytes_ > settings_.max_lineage_bytes) {
    drop_lineage(lineage_order_.front());
    lineage_order_.pop_front();
  }
  // Keys dropped one by one leave holes in the order; close them when they are the most of it.
  if (lineage_order_.size() > 2 * lineage_.size() + 64)
    std::erase_if(lineage_order_, [this](const TaskKey& key) { return !lineage_.contains(key); });
}

void HeadCore::drop_lineage(const TaskKey& key) {
  const auto it = lineage_.find(key);
  if (it == lineage_.end()) return;
  lineage_bytes_ -= it->second.size();
  lineage_.erase(it);
  effects_.records.push_back(removal(LineageRecord{key.first, key.second, {}}));
}

// ---------------------------------------------------------------------------------------------------- the life of an actor

void HeadCore::on(wire::HeadActorEvent& message) {
  const auto it = actors_.find(message.actor);
  if (it == actors_.end() || it->second.phase == ActorPhase::kDead || it->second.incarnation != message.incarnation) return;
  Actor& actor = it->second;
  switch (static_cast<wire::ActorEvent>(message.event)) {
    case wire::ActorEvent::kWaiting: actor.cause = message.cause; return tell_watchers(actor);
    case wire::ActorEvent::kStarted:
      actor.phase = ActorPhase::kAlive;
      actor.worker = message.worker;
      actor.worker_pid = message.worker_pid;
      actor.cause = {};
      write(actor);
      tell_watchers(actor);
      if (actor.is_draining) end_worker(actor, true, "its last handle is gone");
      return;
    case wire::ActorEvent::kRefused: return bury(actor, message.cause);
    case wire::ActorEvent::kEnded:
      if (message.lived_us >= kLongLifeUs) actor.quick_deaths = 0;
      return restart_or_bury(actor, message.cause);
    case wire::ActorEvent::kLeft:
      return bury(actor, wire::to_wire(Status(Code::kDied, "it ended when its last handle was gone")));
  }
}

void HeadCore::watch(Actor& actor, uint64_t watcher) {
  actor.watchers.insert(watcher);
  watched_[watcher].insert(actor.spec.actor);
}

void HeadCore::place(Actor& actor, int64_t delay_us) {
  const wire::CreateActor& spec = actor.spec;
  const bool may_restart = actor.may_restart && (spec.max_restarts < 0 || actor.restarts_used < spec.max_restarts);
  effects_.messages.push_back(wire::PlaceActor{.owner = spec.actor.owner,
                                               .scheduling_class = spec.scheduling_class,
                                               .start = {.actor = spec.actor,
                                                         .incarnation = actor.incarnation,
                                                         .class_key = spec.class_key,
                                                         .class_name = spec.class_name,
                                                         .arguments = spec.arguments,
                                                         .max_concurrency = spec.max_concurrency,
                                                         .concurrency_groups = spec.concurrency_groups,
                                                         .has_state = actor.has_state,
                                                         .state = actor.state,
                                                         .devices = {}},
                                               .delay_us = delay_us,
                                               .may_restart = may_restart});
}

void HeadCore::restart_or_bury(Actor& actor, const wire::WireStatus& cause) {
  const int32_t allowed = actor.spec.max_restarts;
  if (!actor.may_restart || (allowed >= 0 && actor.restarts_used >= allowed)) return bury(actor, cause);
  ++actor.restarts_used;
  ++actor.incarnation;
  actor.phase = ActorPhase::kRestarting;
  actor.worker = 0;
  actor.worker_pid = 0;
  actor.cause = cause;
  write(actor);
  tell_watchers(actor);
  place(actor, restart_delay_us(actor.quick_deaths++));
}

int64_t HeadCore::restart_delay_us(int quick_deaths) {
  if (quick_deaths <= 0) return 0;
  constexpr int kDoublings = 16;  // far past the longest delay
  return std::min(kFirstRestartDelayUs << std::min(quick_deaths - 1, kDoublings), kMaxRestartDelayUs);
}

void HeadCore::bury(Actor& actor, wire::WireStatus cause) {
  MANTA_CHECK(actor.phase != ActorPhase::kDead, "an actor dies once");
  actor.phase = ActorPhase::kDead;
  actor.cause = std::move(cause);
  if (!actor.spec.name.empty()) names_.erase({actor.spec.name_space, actor.spec.name});
  effects_.records.push_back(removal(ActorRecord{.spec = actor.spec}));
  if (actor.has_state) effects_.records.push_back(removal(ActorStateRecord{actor.spec.actor, {}}));
  actor.spec.arguments = {};
  actor.state = {};
  actor.has_state = false;
  tell_watchers(actor);
  dead_.push_back(actor.spec.actor);
  if (dead_.size() <= settings_.max_dead_actors) return;
  uint64_t& forgotten = forgotten_up_to_[dead_.front().owner];
  forgotten = std::max(forgotten, dead_.front().sequence);
  if (!processes_.contains(dead_.front().owner)) forgotten_up_to_.erase(dead_.front().owner);
  for (uint64_t watcher : actors_.at(dead_.front()).watchers) watched_[watcher].erase(dead_.front());
  actors_.erase(dead_.front());
  dead_.pop_front();
}

void HeadCore::end_worker(const Actor& actor, bool drain, const std::string& reason) {
  effects_.messages.push_back(
      wire::EndActor{.actor = actor.spec.actor, .incarnation = actor.incarnation, .drain = drain, .reason = reason});
}

void HeadCore::tell(const Actor& actor, uint64_t watcher, const ActorKey& instead_of) {
  effects_.messages.push_back(wire::ActorNotice{watcher, wire::ActorUpdate{.actor = actor.spec.actor,
                                                                           .phase = static_cast<uint8_t>(actor.phase),
                                                                           .incarnation = actor.incarnation,
                                                                           .worker = actor.worker,
                                                                           .worker_pid = actor.worker_pid,
                                                                           .cause = actor.cause,
                                                                           .class_name = actor.spec.class_name,
                                                                           .instead_of = instead_of}});
}

void HeadCore::tell_watchers(const Actor& actor) {
  for (uint64_t watcher : actor.watchers) tell(actor, watcher);
}

void HeadCore::tell_missing(const ActorKey& actor, uint64_t watcher) {
  const Status status(Code::kNotFound, "the actor ended long ago or never was");
  effects_.messages.push_back(wire::ActorNotice{watcher, wire::ActorUpdate{.actor = actor,
                                                                           .phase = static_cast<uint8_t>(ActorPhase::kDead),
                                                                           .cause = wire::to_wire(status),
                                                                           .class_name = {},
                                                                           .instead_of = {}}});
}

// ---------------------------------------------------------------------------------------------------- durable

void HeadCore::write(const Actor& actor) {
  effects_.records.push_back(
      to_record(ActorRecord{actor.spec, static_cast<uint8_t>(actor.phase), actor.incarnation, actor.restarts_used}));
}

std::vector<Record> HeadCore::snapshot() const {
  std::vector<Record> records;
  for (const auto& [process, name] : jobs_) records.push_back(to_record(JobRecord{process, name}));
  for (const auto& [key, actor] : actors_) {
    if (actor.phase == ActorPhase::kDead) continue;
    records.push_back(
        to_record(ActorRecord{actor.spec, static_cast<uint8_t>(actor.phase), actor.incarnation, actor.restarts_used}));
    if (actor.has_state) records.push_back(to_record(ActorStateRecord{key, actor.state}));
  }
  for (const auto& [key, spec] : lineage_) records.push_back(to_record(LineageRecord{key.first, key.second, spec}));
  std::ranges::sort(records);
  return records;
}

Status HeadCore::replay(const std::vector<Record>& records) {
  for (const Record& record : records) MANTA_RETURN_IF_ERROR(replay_one(record));
  return {};
}

Status HeadCore::replay_one(const Record& record) {
  switch (record.table) {
    case Table::kNodes: return {};
    case Table::kJobs: {
      MANTA_ASSIGN_OR_RETURN(JobRecord job, from_record<JobRecord>(record));
      jobs_[job.driver] = std::move(job.name);
      return {};
    }
    case Table::kActors: {
      MANTA_ASSIGN_OR_RETURN(ActorRecord stored, from_record<ActorRecord>(record));
      if (stored.phase >= static_cast<uint8_t>(ActorPhase::kDead))
        return Status(Code::kInvalid, "a dead actor is not stored");
      Actor& actor = actors_[stored.spec.actor];
      actor.phase = static_cast<ActorPhase>(stored.phase);
      actor.incarnation = stored.incarnation;
      actor.restarts_used = stored.restarts_used;
      actor.spec = std::move(stored.spec);
      if (!actor.spec.name.empty()) names_[{actor.spec.name_space, actor.spec.name}] = actor.spec.actor;
      return {};
    }
    case Table::kActorStates: {
      MANTA_ASSIGN_OR_RETURN(ActorStateRecord stored, from_record<ActorStateRecord>(record));
      const auto it = actors_.find(stored.actor);
      if (it == actors_.end()) return Status(Code::kInvalid, "a saved state belongs to no actor");
      it->second.has_state = true;
      it->second.state = std::move(stored.state);
      return {};
    }
    case Table::kLineage: {
      MANTA_ASSIGN_OR_RETURN(LineageRecord stored, from_record<LineageRecord>(record));
      const TaskKey key{stored.owner, stored.sequence};
      lineage_bytes_ += stored.spec.size();
      lineage_order_.push_back(key);
      lineage_[key] = std::move(stored.spec);
      return {};
    }
  }
  return Status(Code::kInvalid, "a record of an unknown table");
}

void HeadCore::check_invariants() const {
  size_t dead = 0;
  for (const auto& [key, actor] : actors_) {
    MANTA_CHECK(actor.incarnation == static_cast<uint32_t>(actor.restarts_used) + 1, actor.incarnation);
    MANTA_CHECK(actor.spec.max_restarts < 0 || actor.restarts_used <= actor.spec.max_restarts, actor.restarts_used);
    dead += actor.phase == ActorPhase::kDead ? 1 : 0;
  }
  size_t watches = 0;
  for (const auto& [watcher, keys] : watched_) {
    for (const ActorKey& key : keys) MANTA_CHECK(find(key) != nullptr && find(key)->watchers.contains(watcher), watcher);
    watches += keys.size();
  }
  for (const auto& [key, actor] : actors_) watches -= actor.watchers.size();
  MANTA_CHECK(watches == 0, "each watch is known from both ends", watches);
  MANTA_CHECK(dead == dead_.size() && dead <= settings_.max_dead_actors, dead);
  for (const auto& [name, key] : names_) {
    const Actor* actor = find(key);
    MANTA_CHECK(actor != nullptr && actor->phase != ActorPhase::kDead && actor->spec.name == name.second, name.second);
  }
  size_t bytes = 0;
  for (const auto& [key, spec] : lineage_) bytes += spec.size();
  MANTA_CHECK(bytes == lineage_bytes_ && bytes <= settings_.max_lineage_bytes, bytes);
  MANTA_CHECK(early_watch_count_ <= settings_.max_early_watches, early_watch_count_);
}

}  // namespace manta::head

#include "head/head_core.h"

#include "head/records.h"
#include "wire/node_resources.h"

#include <algorithm>

namespace manta::head {

using wire::ActorKey;
using wire::ActorPhase;

HeadEffects HeadCore::step(wire::NodeNumber from, wire::ToHead message, int64_t now_us, uint64_t number) {
  now_us_ = now_us;
  from_ = from;
  if (!may_speak(from, message)) return std::exchange(effects_, {});
  if (number != 0) {
    Heard& heard = heard_[from];
    if (number <= heard.up_to) return {};
    heard.up_to = number;
    is_repeat_ = number <= heard.durable;
  }
  std::visit([this](auto& one) { on(one); }, message);
  note_growth();
  settle_quotas();
  if (number != 0 && !std::exchange(is_repeat_, false) && !effects_.records.empty()) {
    if (const auto heard = heard_.find(from); heard != heard_.end()) {
      heard->second.durable = number;
      effects_.records.push_back(to_record(HeardRecord{from, number}));
    }
  }
  return std::exchange(effects_, {});
}

const HeadCore::Actor* HeadCore::find(const ActorKey& actor) const {
  const auto it = actors_.find(actor);
  return it == actors_.end() ? nullptr : &it->second;
}

// ---------------------------------------------------------------------------------------------------- clients

void HeadCore::on(wire::HeadClientJoined& message) {
  if (const auto [known, is_new] = processes_.emplace(message.process, Process{from_, message.job});
      !is_new && known->second.node != from_)
    return;
  if (static_cast<wire::Role>(message.role) != wire::Role::kDriver) return;
  JobRecord& job = jobs_[message.process];
  if (job.ended != 0) return;
  job.driver = message.process;
  job.name = message.job_name;
  if (const Membership::Member* member = members_.find(from_)) job.submission = submission_of(member->info);
  job.quota = message.quota;
  begin_quota(job);
  effects_.records.push_back(to_record(job));
}

bool HeadCore::is_running(uint64_t job) const {
  const auto it = jobs_.find(job);
  return it != jobs_.end() && it->second.ended == 0;
}

void HeadCore::end_job(uint64_t driver, const wire::WireStatus& cause) {
  if (is_running(driver)) {
    JobRecord& job = jobs_.at(driver);
    job.ended = ended_jobs_.empty() ? 1 : ended_jobs_.rbegin()->first + 1;
    job.cause = cause;
    ended_jobs_[job.ended] = driver;
    quotas_.end(driver);
    effects_.records.push_back(to_record(job));
  }
  if (ended_jobs_.size() > settings_.max_ended_jobs) {
    const auto oldest = jobs_.extract(ended_jobs_.extract(ended_jobs_.begin()).mapped());
    effects_.records.push_back(removal(oldest.mapped()));
  }
}

void HeadCore::on(wire::HeadClientGone& message) {
  if (node_of_process(message.process) == from_) end_process(message.process, message.cause);
}

void HeadCore::end_process(uint64_t process, const wire::WireStatus& why) {
  processes_.erase(process);
  forgotten_up_to_.erase(process);
  end_job(process, why);
  GroupStep step{policy_, now_us_, &quotas_};
  groups_.job_ended(process, step);
  carry_out(step);
  for (auto it = early_watches_.begin(); it != early_watches_.end();) {
    early_watch_count_ -= it->second.erase(process);
    if (it->first.owner == process) {
      for (uint64_t watcher : it->second) tell_missing(it->first, watcher);
      early_watch_count_ -= it->second.size();
      it->second.clear();
    }
    it = it->second.empty() ? early_watches_.erase(it) : std::next(it);
  }
  const Status cause =
      why.code == 0 ? Status(Code::kDied, "its owner ended") : wire::from_wire(why).with_context("its owner ended");
  if (const auto watched = watched_.extract(process)) {
    for (const ActorKey& key : watched.mapped()) {
      actors_.at(key).watchers.erase(process);
      no_longer_awaits(actors_.at(key), process);
    }
  }
  std::vector<ActorKey> orphans;
  for (auto it = actors_.lower_bound({process, 0}); it != actors_.end() && it->first.owner == process; ++it)
    if (!it->second.spec.detached && it->second.phase != ActorPhase::kDead) orphans.push_back(it->first);
  for (const ActorKey& key : orphans) {
    Actor& actor = actors_.at(key);
    end_worker(actor, false, "the owner of its actor ended");
    bury(actor, wire::to_wire(Status(Code::kDied, cause.message())));
  }
  retry_for_quota(process);  // detached actors that waited for their job's
}

void HeadCore::on(wire::HeadRequest& message) {
  const auto known = processes_.find(message.from);
  if (known == processes_.end() || known->second.node != from_) return;
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
  if (is_alone() && !(spec.scheduling_class.labels.empty() && spec.scheduling_class.node <= wire::kHeadNode))
    return Status(Code::kInvalid, "a local session is one node without labels: there is no place to choose");
  if (spec.scheduling_class.group == 0) MANTA_RETURN_IF_ERROR(quotas_.check(spec.job, spec.scheduling_class.resources));
  return is_alone() ? Status() : validate(spec.scheduling_class.resources);
}

void HeadCore::refuse_creation(uint64_t from, const wire::CreateActor& spec, const Status& status) {
  say(node_of_process(from), wire::ActorNotice{from, wire::ActorUpdate{.actor = spec.actor,
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
  if (is_repeat_) return tell_missing(message.actor, from);
  if (Status status = check(message); !status.ok()) return refuse_creation(from, message, status);
  const ActorKey key = message.actor;
  Actor& actor = actors_[key];
  ++in_phase_[static_cast<size_t>(actor.phase)];
  actor.spec = std::move(message);
  watch(actor, from);
  if (const auto early = early_watches_.find(key); early != early_watches_.end()) {
    early_watch_count_ -= early->second.size();
    for (uint64_t watcher : early->second) watch(actor, watcher);
    early_watches_.erase(early);
  }
  if (!actor.spec.name.empty()) names_[{actor.spec.name_space, actor.spec.name}] = key;
  if (const uint64_t group = actor.spec.scheduling_class.group; group != 0) in_group_[group].insert(key);
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
    write(actor);
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
  say(node_of_process(from), wire::ActorAnswer{from, std::move(found)});
}

void HeadCore::on_request(uint64_t from, wire::SaveActorState& message) {
  const auto it = actors_.find(message.actor);
  if (it == actors_.end() || it->second.phase == ActorPhase::kDead || it->second.incarnation != message.incarnation) return;
  if (it->second.node != node_of_process(from)) return;
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

}  // namespace manta::head

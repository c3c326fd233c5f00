// The durable tables: written, listed, taken up again, checked.
#include "head/head_core.h"

#include "common/check.h"
#include "head/records.h"

#include <algorithm>

namespace manta::head {

using wire::ActorKey;
using wire::ActorPhase;

namespace {

Record record_of(const HeadCore::Actor& actor) {
  return to_record(ActorRecord{.spec = actor.spec,
                               .phase = static_cast<uint8_t>(actor.phase),
                               .incarnation = actor.incarnation,
                               .restarts_used = actor.restarts_used,
                               .node = actor.node,
                               .worker = actor.worker,
                               .worker_pid = actor.worker_pid,
                               .bundle = actor.bundle,
                               .is_draining = actor.is_draining});
}

}  // namespace

void HeadCore::write(const Actor& actor) { effects_.records.push_back(record_of(actor)); }

std::vector<Record> HeadCore::snapshot() const {
  std::vector<Record> records;
  if (!cluster_.empty()) records.push_back(to_record(ClusterRecord{cluster_, members_.next(), life_}));
  for (const auto& [number, member] : members_.members())
    records.push_back(to_record(NodeRecord{member.info, member.nonce}));
  for (const auto& [number, heard] : heard_)
    if (heard.durable != 0) records.push_back(to_record(HeardRecord{number, heard.durable}));
  for (const auto& [number, group] : groups_.groups()) records.push_back(to_record(PlacementGroups::row_of(group)));
  std::ranges::move(jobs_table_.snapshot(), std::back_inserter(records));
  for (const auto& [driver, job] : jobs_) records.push_back(to_record(job));
  for (const auto& [key, actor] : actors_) {
    if (actor.phase == ActorPhase::kDead) continue;
    records.push_back(record_of(actor));
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
    case Table::kNodes: return replay_node(record);
    case Table::kPlacementGroups: {
      MANTA_ASSIGN_OR_RETURN(PlacementGroupRecord stored, from_record<PlacementGroupRecord>(record));
      return groups_.replay(std::move(stored));
    }
    case Table::kSubmittedJobs: {
      MANTA_ASSIGN_OR_RETURN(SubmittedJobRecord stored, from_record<SubmittedJobRecord>(record));
      return jobs_table_.replay(std::move(stored));
    }
    case Table::kJobs: {
      MANTA_ASSIGN_OR_RETURN(JobRecord job, from_record<JobRecord>(record));
      if (job.ended != 0) ended_jobs_[job.ended] = job.driver;
      jobs_[job.driver] = std::move(job);
      return {};
    }
    case Table::kActors: {
      MANTA_ASSIGN_OR_RETURN(ActorRecord stored, from_record<ActorRecord>(record));
      if (stored.phase >= static_cast<uint8_t>(ActorPhase::kDead))
        return Status(Code::kInvalid, "a dead actor is not stored");
      const auto [entry, is_new] = actors_.try_emplace(stored.spec.actor);
      Actor& actor = entry->second;
      if (is_new) ++in_phase_[static_cast<size_t>(actor.phase)];
      enter(actor, static_cast<ActorPhase>(stored.phase));
      actor.incarnation = stored.incarnation;
      actor.restarts_used = stored.restarts_used;
      actor.worker = stored.worker;
      actor.worker_pid = stored.worker_pid;
      actor.is_draining = stored.is_draining;
      actor.may_restart = !stored.is_draining;
      actor.spec = std::move(stored.spec);
      const wire::SchedulingClass& what = actor.spec.scheduling_class;
      if (what.group != 0) in_group_[what.group].insert(actor.spec.actor);
      set_node(actor, stored.node, stored.bundle);
      if (stored.node == 0) unplaced_.insert(actor.spec.actor);
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

Status HeadCore::replay_node(const Record& record) {
  if (record.key == ClusterRecord::kKey) {
    MANTA_ASSIGN_OR_RETURN(ClusterRecord stored, from_record<ClusterRecord>(record));
    cluster_ = std::move(stored.cluster);
    life_ = stored.life;
    members_.replay_next(stored.next_node);
    return {};
  }
  if (record.key.starts_with(HeardRecord::kPrefix)) {
    MANTA_ASSIGN_OR_RETURN(const HeardRecord heard, from_record<HeardRecord>(record));
    heard_[heard.node].durable = heard.up_to;
    return {};
  }
  MANTA_ASSIGN_OR_RETURN(const NodeRecord stored, from_record<NodeRecord>(record));
  members_.replay(stored.info, stored.nonce);
  return {};
}

void HeadCore::check_invariants() const {
  members_.check_invariants();
  groups_.check_invariants();
  jobs_table_.check_invariants();
  quotas_.check_invariants();
  size_t dead = 0;
  std::array<uint64_t, 4> in_phase{};
  for (const auto& [key, actor] : actors_) {
    ++in_phase[static_cast<size_t>(actor.phase)];
    MANTA_CHECK(actor.incarnation > static_cast<uint32_t>(actor.restarts_used), actor.incarnation);
    if (actor.phase == ActorPhase::kDead) {
      MANTA_CHECK(actor.node == 0 && !unplaced_.contains(key) && !actor.waits_for_quota, key.sequence);
    } else {
      MANTA_CHECK(unplaced_.contains(key) == (actor.node == 0), key.sequence);
      MANTA_CHECK(actor.node == 0 || is_alone() || members_.find(actor.node) != nullptr, key.sequence, actor.node);
    }
    if (actor.node != 0) MANTA_CHECK(on_node_.at(actor.node).contains(key), key.sequence);
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
  MANTA_CHECK(in_phase == in_phase_, "phases are counted");
  MANTA_CHECK(dead == dead_.size() && dead <= settings_.max_dead_actors, dead);
  for (const auto& [name, key] : names_) {
    const Actor* actor = find(key);
    MANTA_CHECK(actor != nullptr && actor->phase != ActorPhase::kDead && actor->spec.name == name.second, name.second);
  }
  for (const auto& [order, driver] : ended_jobs_) MANTA_CHECK(jobs_.at(driver).ended == order, driver);
  MANTA_CHECK(ended_jobs_.size() <= settings_.max_ended_jobs, ended_jobs_.size());
  size_t bytes = 0;
  for (const auto& [key, spec] : lineage_) bytes += spec.size();
  MANTA_CHECK(bytes == lineage_bytes_ && bytes <= settings_.max_lineage_bytes, bytes);
  MANTA_CHECK(early_watch_count_ <= settings_.max_early_watches, early_watch_count_);
}

}  // namespace manta::head

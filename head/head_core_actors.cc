// The life of an actor: placed, started, restarted, buried, and who hears of it.
#include "head/head_core.h"

#include "common/check.h"
#include "head/records.h"
#include "wire/node_resources.h"

#include <algorithm>

namespace manta::head {

using wire::ActorKey;
using wire::ActorPhase;
using wire::NodeNumber;

void HeadCore::on(wire::HeadActorEvent& message) {
  const auto it = actors_.find(message.actor);
  if (it == actors_.end() || it->second.phase == ActorPhase::kDead || it->second.incarnation != message.incarnation) return;
  if (it->second.node != from_) return;
  Actor& actor = it->second;
  switch (static_cast<wire::ActorEvent>(message.event)) {
    case wire::ActorEvent::kWaiting:
      actor.cause = message.cause;
      note_waits(actor);
      return tell_watchers(actor);
    case wire::ActorEvent::kStarted:
      enter(actor, ActorPhase::kAlive);
      waiting_.remove(actor.spec.actor);
      actor.worker = message.worker;
      actor.worker_pid = message.worker_pid;
      actor.cause = {};
      write(actor);
      tell_watchers(actor);
      if (actor.is_draining) return end_worker(actor, true, "its last handle is gone");
      if (const Membership::Member* member = members_.find(from_); member != nullptr && member->is_draining)
        move_away(actor);
      return;
    case wire::ActorEvent::kRefused: return bury(actor, message.cause);
    case wire::ActorEvent::kEnded:
      if (message.lived_us >= kLongLifeUs) actor.quick_deaths = 0;
      return restart_or_bury(actor, message.cause);
    case wire::ActorEvent::kLeft:
      if (actor.is_moving && !actor.is_draining)
        return restart_or_bury(actor, wire::to_wire(wire::preempted("its node is drained")));
      return bury(actor, wire::to_wire(Status(Code::kDied, "it ended when its last handle was gone")));
    case wire::ActorEvent::kLent:
    case wire::ActorEvent::kTookBack:
      return quotas_.lend(actor.spec.job, {message.actor.owner, message.actor.sequence},
                          static_cast<wire::ActorEvent>(message.event) == wire::ActorEvent::kLent);
  }
}

void HeadCore::enter(Actor& actor, ActorPhase phase) {
  --in_phase_[static_cast<size_t>(actor.phase)];
  ++in_phase_[static_cast<size_t>(phase)];
  actor.phase = phase;
}

void HeadCore::watch(Actor& actor, uint64_t watcher) {
  actor.watchers.insert(watcher);
  watched_[watcher].insert(actor.spec.actor);
}

PlacementPolicy::Choice HeadCore::choose(const Actor& actor, int32_t& bundle) const {
  const wire::SchedulingClass& what = actor.spec.scheduling_class;
  if (what.group != 0) {
    const PlacementGroups::Place place = groups_.place_of(what);
    bundle = place.bundle;
    if (place.node == 0 || is_alone() || policy_.find(place.node) != nullptr)
      return {.node = place.node, .is_hopeless = place.is_hopeless, .why = place.why};
    return {.why = "the node of its bundle has not returned yet"};
  }
  if (is_alone()) return {.node = wire::kHeadNode, .why = {}};
  return policy_.choose(what, node_of_process(actor.spec.actor.owner));
}

void HeadCore::set_node(Actor& actor, NodeNumber node, int32_t bundle) {
  waiting_.remove(actor.spec.actor);
  const uint64_t group = actor.spec.scheduling_class.group;
  if (actor.node != 0) {
    policy_.count_actor(actor.node, -1);
    groups_.count_actor(group, actor.bundle, -1);
    on_node_[actor.node].erase(actor.spec.actor);
  }
  const JobQuotas::Key key{actor.spec.actor.owner, actor.spec.actor.sequence};
  if (node == 0) {
    quotas_.refund(actor.spec.job, key);
  } else if (group == 0) {
    quotas_.charge(actor.spec.job, key, actor.spec.scheduling_class.resources);
  }
  actor.node = node;
  actor.bundle = node == 0 ? -1 : bundle;
  if (node == 0) return;
  policy_.count_actor(node, 1);
  groups_.count_actor(group, actor.bundle, 1);
  on_node_[node].insert(actor.spec.actor);
}

void HeadCore::place(Actor& actor, int64_t delay_us) {
  const wire::CreateActor& spec = actor.spec;
  int32_t bundle = -1;
  const std::string lacks =
      spec.scheduling_class.group != 0
          ? ""
          : quotas_.lacks(spec.job, {spec.actor.owner, spec.actor.sequence}, spec.scheduling_class.resources);
  const PlacementPolicy::Choice choice = lacks.empty() ? choose(actor, bundle) : PlacementPolicy::Choice{.why = lacks};
  note_quota_wait(actor, !lacks.empty());
  set_node(actor, choice.node, bundle);
  if (choice.is_hopeless) return bury(actor, wire::to_wire(Status(Code::kInvalid, choice.why)));
  if (choice.node == 0) {
    unplaced_.insert(spec.actor);
    actor.cause = wire::to_wire(Status(Code::kUnavailable, "waits: " + choice.why));
  } else {
    unplaced_.erase(spec.actor);
  }
  write(actor);
  tell_watchers(actor);
  if (choice.node == 0) return;
  const bool may_restart = actor.may_restart && (spec.max_restarts < 0 || actor.restarts_used < spec.max_restarts);
  wire::SchedulingClass there = spec.scheduling_class;
  there.bundle = actor.bundle;
  // What a group has reserved is counted already.
  std::vector<wire::Resources> amounts;
  if (there.group == 0) amounts.push_back(there.resources);
  say(choice.node, wire::PlaceActor{.owner = spec.actor.owner,
                                    .scheduling_class = std::move(there),
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
                                    .may_restart = may_restart,
                                    .number = policy_.charge(choice.node, std::move(amounts), now_us_),
                                    .job = spec.job,
                                    .is_metered = actor.bundle < 0 && quotas_.is_limited(spec.job)});
}

// Only those that this node could ever hold are looked at: there may be very many.
void HeadCore::retry_unplaced(NodeNumber node) {
  const PlacementPolicy::Node* candidate = policy_.find(node);
  if (candidate == nullptr || !candidate->takes_work) return;
  std::vector<ActorKey> could;
  for (const ActorKey& key : unplaced_) {
    if (actors_.at(key).waits_for_quota) continue;
    const wire::SchedulingClass& what = actors_.at(key).spec.scheduling_class;
    const wire::NodeResources& capacity = candidate->info.capacity;
    if (what.group == 0 && wire::has_labels(candidate->info.labels, what.labels) && fits(capacity, capacity, what.resources))
      could.push_back(key);
  }
  for (const ActorKey& key : could) place(actors_.at(key));
}

void HeadCore::note_growth() {
  if (!policy_.take_growth()) return;
  groups_.room_grew(now_us_);
  waiting_.room_grew();
}

// Those of a group wait for their bundle, and those that name a node for that.
void HeadCore::note_waits(const Actor& actor) {
  const wire::SchedulingClass& what = actor.spec.scheduling_class;
  if (!is_alone() && what.group == 0 && what.node == 0) waiting_.add(actor.spec.actor, what, now_us_);
}

// The other node may be starting it this moment: what it says of this incarnation has no effect any more.
void HeadCore::move_waiting() {
  const std::optional<int64_t> due_us = waiting_.next_look_us();
  if (!due_us || *due_us > now_us_) return;
  waiting_.look(
      now_us_, [this](const wire::SchedulingClass& what) { return policy_.has_room(what); },
      [this](const ActorKey& key) {
        Actor& actor = actors_.at(key);
        end_worker(actor, false, "another node has room for it");
        ++actor.incarnation;
        place(actor);
      });
}

void HeadCore::restart_or_bury(Actor& actor, const wire::WireStatus& cause) {
  const int32_t allowed = actor.spec.max_restarts;
  const bool is_free = wire::is_preempted(cause);
  const bool may = is_free ? allowed != 0 || actor.has_state : allowed < 0 || actor.restarts_used < allowed;
  if (!actor.may_restart || !may) return bury(actor, cause);
  if (!is_free) ++actor.restarts_used;
  ++actor.incarnation;
  actor.is_moving = false;
  actor.awaited.clear();
  enter(actor, ActorPhase::kRestarting);
  actor.worker = 0;
  actor.worker_pid = 0;
  actor.cause = cause;
  place(actor, is_free ? 0 : restart_delay_us(actor.quick_deaths++));
}

int64_t HeadCore::restart_delay_us(int quick_deaths) {
  if (quick_deaths <= 0) return 0;
  constexpr int kDoublings = 16;  // far past the longest delay
  return std::min(kFirstRestartDelayUs << std::min(quick_deaths - 1, kDoublings), kMaxRestartDelayUs);
}

void HeadCore::bury(Actor& actor, wire::WireStatus cause) {
  MANTA_CHECK(actor.phase != ActorPhase::kDead, "an actor dies once");
  actor.is_moving = false;
  actor.awaited.clear();
  enter(actor, ActorPhase::kDead);
  actor.cause = std::move(cause);
  if (!actor.spec.name.empty()) names_.erase({actor.spec.name_space, actor.spec.name});
  set_node(actor, 0);
  note_quota_wait(actor, false);
  unplaced_.erase(actor.spec.actor);
  if (const auto group = in_group_.find(actor.spec.scheduling_class.group); group != in_group_.end()) {
    group->second.erase(actor.spec.actor);
    if (group->second.empty()) in_group_.erase(group);
  }
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
  --in_phase_[static_cast<size_t>(ActorPhase::kDead)];
  dead_.pop_front();
}

void HeadCore::end_worker(const Actor& actor, bool drain, const std::string& reason) {
  if (actor.node == 0) return;
  say(actor.node,
      wire::EndActor{.actor = actor.spec.actor, .incarnation = actor.incarnation, .drain = drain, .reason = reason});
}

void HeadCore::tell(const Actor& actor, uint64_t watcher, const ActorKey& instead_of) {
  const ActorPhase phase = actor.is_moving ? ActorPhase::kMoving : actor.phase;
  const NodeNumber to = phase == ActorPhase::kAlive ? actor.node : node_of_process(watcher);
  say(to, wire::ActorNotice{watcher, wire::ActorUpdate{.actor = actor.spec.actor,
                                                       .phase = static_cast<uint8_t>(phase),
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
  say(node_of_process(watcher),
      wire::ActorNotice{watcher, wire::ActorUpdate{.actor = actor,
                                                   .phase = static_cast<uint8_t>(ActorPhase::kDead),
                                                   .cause = wire::to_wire(status),
                                                   .class_name = {},
                                                   .instead_of = {}}});
}

}  // namespace manta::head

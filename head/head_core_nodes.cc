// Nodes that come, speak, fall silent and return, and what goes with them.
#include "head/head_core.h"

#include "common/check.h"
#include "head/records.h"
#include "wire/node_resources.h"

#include <algorithm>

namespace manta::head {

using wire::ActorKey;
using wire::ActorPhase;
using wire::kHeadNode;
using wire::NodeNumber;

// ---------------------------------------------------------------------------------------------------- who may speak

bool HeadCore::may_speak(NodeNumber from, wire::ToHead& message) {
  const bool is_join = std::holds_alternative<wire::Join>(message);
  if (is_join) return from == 0 || from == kHeadNode;
  if (is_alone() || !has_begun_) return from == kHeadNode;
  const Membership::Member* member = members_.find(from);
  if (member == nullptr) {
    // It was given up and lives: it must know, to end what it runs. Only what it repeats anyway is worth an answer.
    if (from != 0 && std::holds_alternative<wire::Heartbeat>(message))
      effects_.messages.push_back(
          {from, wire::Members{.joined = {}, .gone = {{from, wire::to_wire(Status(Code::kDied, "the head gave it up"))}}}});
    return false;
  }
  if (member->state != Membership::State::kAway) return true;
  if (std::holds_alternative<wire::HeadNodeReturns>(message) || std::holds_alternative<wire::HeadNodeLeaves>(message))
    return true;
  // The rest it says again when it has returned.
  if (std::holds_alternative<wire::Heartbeat>(message)) say(from, wire::HeadRestarted{life_});
  return false;
}

void HeadCore::say(NodeNumber to, wire::FromHead message) {
  if (is_alone() ? to == kHeadNode : members_.find(to) != nullptr) effects_.messages.push_back({to, std::move(message)});
}

void HeadCore::say_all(const wire::FromHead& message, NodeNumber except) {
  for (const auto& [number, member] : members_.members())
    if (number != except) say(number, message);
}

NodeNumber HeadCore::node_of_process(uint64_t process) const {
  if (is_alone()) return kHeadNode;
  const auto known = processes_.find(process);
  return known != processes_.end() ? known->second.node : wire::node_of(process);
}

// ---------------------------------------------------------------------------------------------------- coming

void HeadCore::begin_life(const wire::Join& own) {
  has_begun_ = true;
  ++life_;
  if (cluster_.empty()) cluster_ = detail::hex64(own.nonce);
  policy_.start(life_);
  members_.start(life_, now_us_);
  groups_.start(life_, false);
  jobs_table_.start(now_us_);
  charge_all();
  note_all_there();
}

void HeadCore::on(wire::Join& message) {
  const bool own = from_ == kHeadNode;
  const auto refuse = [&](const Status& status) {
    effects_.messages.push_back(
        {own ? kHeadNode : 0, wire::JoinRefused{message.nonce, wire::to_wire(status), message.info.endpoint}});
  };
  if (!own && !has_begun_) return refuse(Status(Code::kUnavailable, "the head is not ready to take nodes"));
  if (own && !has_begun_) take_up_members();
  if (const Status status = check_job_label(message.info); !status.ok()) return refuse(status);
  if (const Membership::Member* before = members_.find(kHeadNode);
      own && before != nullptr && before->nonce != message.nonce)
    node_gone(kHeadNode, Status(Code::kDied, "its mantad was started again"));
  const Result<Membership::JoinResult> joined = members_.join(message, own, now_us_);
  if (!joined.ok()) return refuse(joined.status());
  if (joined->is_new) {
    if (joined->replaced != 0 && joined->replaced != joined->number)
      node_gone(joined->replaced, Status(Code::kDied, "another mantad has its endpoint now"));
    if (own && !has_begun_) begin_life(message);
    const Membership::Member& member = *members_.find(joined->number);
    effects_.records.push_back(to_record(ClusterRecord{cluster_, members_.next(), life_}));
    effects_.records.push_back(to_record(NodeRecord{member.info, member.nonce}));
    policy_.add(member.info, now_us_);
    say_all(wire::Members{.joined = {member.info}, .gone = {}}, own ? 0 : joined->number);
  }
  greet(joined->number, message.nonce);
  if (!joined->is_new) return;
  jobs_table_.room_grew();
  retry_unplaced(joined->number);
}

/// The head's own raylet must know the members of an earlier life before anything is said to them.
void HeadCore::take_up_members() {
  wire::Members known;
  for (wire::NodeInfo& info : members_.infos())
    if (info.number != kHeadNode) known.joined.push_back(std::move(info));
  if (!known.joined.empty()) effects_.messages.push_back({kHeadNode, std::move(known)});
}

void HeadCore::greet(NodeNumber number, uint64_t nonce) {
  say(number, wire::Joined{.nonce = nonce,
                           .number = number,
                           .cluster = cluster_,
                           .members = members_.infos(),
                           .life = life_,
                           .job_quota = settings_.job_quota});
}

void HeadCore::on(wire::Heartbeat& message) {
  if (is_alone()) return groups_.room_grew(now_us_);
  const bool was_draining = members_.find(from_)->is_draining;
  (void)members_.hear(from_, message, now_us_);
  const Membership::Member& member = *members_.find(from_);
  if (message.has_resources) {
    policy_.report(from_, member.available, member.waiting, message.placed_up_to, now_us_);
    const size_t devices = message.leased.devices.size();
    if (validate(message.leased).ok() && (devices == 0 || devices == member.info.capacity.devices.size()))
      policy_.note_leased(from_, message.leased);
  }
  note_takes_work(from_);
  if (member.is_draining && !was_draining) node_drains(from_);
  const auto heard = heard_.find(from_);
  say(from_, wire::Heartbeat{.sequence = message.sequence,
                             .view_version = members_.version(),
                             .available = {},
                             .heard_up_to = heard == heard_.end() ? 0 : heard->second.up_to});
  if (message.view_version == members_.version()) return;
  wire::View view = members_.view_since(message.view_version, from_);
  if (!view.changed.empty()) say(from_, std::move(view));
}

void HeadCore::note_takes_work(NodeNumber number) {
  const Membership::Member& member = *members_.find(number);
  const bool takes_work = member.state == Membership::State::kAlive && !member.is_draining && !member.info.is_driver;
  const PlacementPolicy::Node* node = policy_.find(number);
  if (node == nullptr || node->takes_work == takes_work) return;
  policy_.set_takes_work(number, takes_work);
  if (!takes_work) return;
  jobs_table_.room_grew();
  retry_unplaced(number);
}

// ---------------------------------------------------------------------------------------------------- going

HeadEffects HeadCore::tick(int64_t now_us) {
  now_us_ = now_us;
  const Membership::Overdue overdue = members_.tick(now_us);
  for (NodeNumber number : overdue.suspects) note_takes_work(number);
  for (const wire::NodeGone& gone : overdue.gone)
    policy_.set_takes_work(gone.number, false);  // of several, none is a refuge
  for (const wire::NodeGone& gone : overdue.gone)
    if (members_.find(gone.number) != nullptr)
      node_gone(gone.number, wire::from_wire(gone.cause));  // else it went with another
  GroupStep step{policy_, now_us, &quotas_};
  groups_.tick(step);
  carry_out(step);
  note_growth();
  move_waiting();
  settle_quotas();
  tick_jobs();
  return std::exchange(effects_, {});
}

void HeadCore::on(wire::HeadNodeLeaves& message) {
  if (message.number != from_ || is_alone() || from_ == kHeadNode) return;
  const std::string why = message.reason.empty() ? "" : ": " + message.reason;
  node_gone(from_, message.is_drained ? wire::preempted("it was drained" + why) : Status(Code::kDied, "it left" + why),
            true);
}

void HeadCore::on(wire::HeadNodeLost& message) {
  if (from_ != kHeadNode || message.number == kHeadNode) return;
  if (members_.find(message.number) != nullptr) node_gone(message.number, Status(Code::kDied, message.why));
}

// The node is no member any more when its processes are ended: nothing is said to it.
std::optional<int64_t> HeadCore::next_deadline_us() const {
  const std::optional<int64_t> of_members = members_.next_deadline_us();
  const std::optional<int64_t> of_groups = groups_.next_deadline_us();
  const std::optional<int64_t> of_jobs = has_begun_ ? jobs_table_.next_deadline_us() : std::nullopt;
  std::optional<int64_t> first;
  for (const std::optional<int64_t>& one : {of_members, of_groups, of_jobs, waiting_.next_look_us()})
    if (one) first = std::min(first.value_or(*one), *one);
  return first;
}

void HeadCore::node_gone(NodeNumber number, const Status& why, bool in_order) {
  const wire::NodeInfo info = members_.find(number)->info;
  const wire::WireStatus cause = wire::to_wire(why.with_context("node " + info.name + " was lost"));
  members_.remove(number);
  policy_.remove(number);
  quotas_.node_lost(number);
  note_all_there();
  effects_.records.push_back(removal(NodeRecord{info, 0}));
  if (const auto heard = heard_.extract(number); heard && heard.mapped().durable != 0)
    effects_.records.push_back(removal(HeardRecord{number, 0}));
  if (const auto waiting = drains_.extract(number)) {
    for (const auto& [client, request] : waiting.mapped())
      say(node_of_process(client),
          wire::DrainNotice{client, {.request = request, .status = {}, .is_gone = true, .how = why.message()}});
  }
  say_all(wire::Members{.joined = {}, .gone = {{number, cause}}});
  std::vector<uint64_t> ended;
  for (const auto& [process, node] : processes_)
    if (node.node == number) ended.push_back(process);
  for (uint64_t process : ended) end_process(process, cause);
  end_strangers_of(number, cause);
  GroupStep step{policy_, now_us_, &quotas_};
  groups_.node_lost(number, step);
  carry_out(step);
  jobs_of_node_lost(number, cause, in_order);
  const auto placed = on_node_.extract(number);
  if (!placed) return;
  for (const ActorKey& key : placed.mapped()) {
    Actor& actor = actors_.at(key);
    const bool had_started = actor.phase == ActorPhase::kAlive;
    groups_.count_actor(actor.spec.scheduling_class.group, actor.bundle, -1);
    waiting_.remove(key);
    actor.node = 0;
    actor.bundle = -1;
    actor.quick_deaths = 0;  // not its own doing
    if (had_started) {
      restart_or_bury(actor, cause);
    } else {
      ++actor.incarnation;  // the node may be starting this one, unheard
      place(actor);
    }
  }
}

void HeadCore::end_strangers_of(NodeNumber number, const wire::WireStatus& cause) {
  const auto is_strange = [&](uint64_t process) {
    return wire::node_of(process) == number && !processes_.contains(process);
  };
  std::set<uint64_t> strangers;
  for (const auto& [driver, job] : jobs_)
    if (job.ended == 0 && is_strange(driver)) strangers.insert(driver);
  for (const auto& [watcher, keys] : watched_)
    if (is_strange(watcher)) strangers.insert(watcher);
  for (auto it = actors_.lower_bound({wire::first_id_of(number), 0});
       it != actors_.end() && wire::node_of(it->first.owner) == number; ++it)
    if (is_strange(it->first.owner)) strangers.insert(it->first.owner);
  for (uint64_t process : strangers) end_process(process, cause);
}

// ---------------------------------------------------------------------------------------------------- returning

void HeadCore::on(wire::HeadNodeReturns& message) {
  if (message.info.number != from_ || !members_.bring_back(message.info, now_us_)) return;
  policy_.add(members_.find(from_)->info, now_us_);
  if (const auto placed = on_node_.find(from_); placed != on_node_.end())
    policy_.count_actor(from_, static_cast<int32_t>(placed->second.size()));
  greet(from_, members_.find(from_)->nonce);
  for (wire::HeadClientJoined& client : message.clients) on(client);
  for (wire::QuotaReport& report : message.quotas) on(report);
  note_all_there();
  end_strangers_of(from_, wire::to_wire(Status(Code::kDied, "it ended while the head was away")));
  GroupStep step{policy_, now_us_, &quotas_};
  groups_.node_returned(from_, message.bundles, step);
  carry_out(step);
  take_actors_back(message);
  jobs_table_.node_returned(from_, now_us_);
  for (const wire::ActorWatch& one : message.watches) {
    wire::WatchActor watch{one.actor};
    if (processes_.contains(one.watcher)) on_request(one.watcher, watch);
  }
  retry_unplaced(from_);
  std::vector<uint64_t> groups;
  for (const auto& [group, actors] : in_group_) groups.push_back(group);
  for (uint64_t group : groups) retry_actors_of(group);
}

void HeadCore::take_actors_back(const wire::HeadNodeReturns& message) {
  std::set<ActorKey> reported;
  for (const wire::LiveActor& live : message.actors) {
    const auto it = actors_.find(live.actor);
    const bool is_it = it != actors_.end() && it->second.phase != ActorPhase::kDead && it->second.node == from_ &&
                       it->second.incarnation == live.incarnation;
    if (!is_it) {
      say(from_, wire::EndActor{.actor = live.actor, .incarnation = live.incarnation, .reason = "it was replaced or ended"});
      continue;
    }
    reported.insert(live.actor);
    if (it->second.phase == ActorPhase::kAlive && it->second.is_draining)
      end_worker(it->second, true, "its last handle is gone");
    if (it->second.phase == ActorPhase::kAlive) continue;
    if (live.worker == 0) {
      note_waits(it->second);
      continue;
    }
    wire::HeadActorEvent started{.actor = live.actor,
                                 .incarnation = live.incarnation,
                                 .event = static_cast<uint8_t>(wire::ActorEvent::kStarted),
                                 .worker = live.worker,
                                 .worker_pid = live.worker_pid,
                                 .cause = {}};
    on(started);
  }
  const std::set<ActorKey> here = on_node_[from_];
  for (const ActorKey& key : here) {
    if (reported.contains(key)) continue;
    Actor& actor = actors_.at(key);
    const wire::WireStatus cause = wire::to_wire(Status(Code::kDied, "it ended while the head was away"));
    if (actor.phase == ActorPhase::kAlive) {
      restart_or_bury(actor, cause);
    } else {
      place(actor);  // the order to start it was lost with the head's earlier life
    }
  }
}

}  // namespace manta::head

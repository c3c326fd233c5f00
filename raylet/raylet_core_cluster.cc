// Other nodes: leases there for clients here, leases here for clients there, and what becomes of both when a process, a node
// or a job ends.
#include "raylet/raylet_core.h"

#include "common/check.h"

#include <algorithm>

namespace manta::raylet {
namespace {

AskLease order_of(wire::NodeNumber node, const Claim& claim, bool may_wait) {
  return {node,
          {.owner = claim.owner.value,
           .job = claim.job.value,
           .request = {.request = claim.request, .scheduling_class = claim.scheduling_class, .backlog = 0},
           .may_wait = may_wait,
           .is_metered = claim.is_metered}};
}

}  // namespace

RayletCore::Client& RayletCore::meet(ProcessId remote) {
  Client& client = clients_[remote];
  client.is_remote = true;
  client.role = wire::Role::kWorker;
  return client;
}

bool RayletCore::is_handed_on(const ClientMessage& message) const {
  if (const auto* one = std::get_if<wire::ReturnLease>(&message)) return !is_remote(one->lease);
  if (const auto* one = std::get_if<wire::KillLease>(&message)) return !is_remote(one->lease);
  if (const auto* one = std::get_if<wire::WatchProcess>(&message)) return !is_remote(one->process);
  return std::holds_alternative<wire::CancelLeaseRequest>(message) || std::holds_alternative<wire::ListRequest>(message);
}

wire::Resources RayletCore::cluster_capacity() const {
  wire::Resources sum = view_.capacity();
  add(sum, resources_.capacity());
  return sum;
}

// ---------------------------------------------------------------------------------------------------- leases elsewhere

void RayletCore::spill_out() {
  if (view_.all().empty() && queue_.in_groups() == 0) return;
  const auto next = [&]() -> bool {
    for (const Claim* front : queue_.fronts(holding())) {
      if (front->actor || is_remote(front->owner.value)) continue;  // the head placed it; it was asked for to wait here
      if (front->scheduling_class.group != 0 ? spill_out_of_group(*front) : spill_out(*front)) return true;
    }
    return false;
  };
  while (next()) {
  }
}

// True when it was taken out of the queue.
bool RayletCore::spill_out(const Claim& front) {
  const Result<wire::NodeNumber> only = asked_node(front.scheduling_class);
  if (!only.ok()) return refuse(queue_.pop(front), only.status()), true;
  if (*only == own_number()) return false;
  Wish wish = wish_of(front);
  if (*only == 0 && front.near != 0) {
    wish.only = front.near;
    if (const auto node = view_.take_room(wish)) return ask(*node, queue_.pop(front), false), true;
    wish.only = 0;
  }
  if (const auto node = view_.take_room(wish)) return ask(*node, queue_.pop(front), false), true;
  if (!drain_ && could_be_here(front.scheduling_class) && *only == 0) return false;
  if (waits_elsewhere(front)) return false;
  if (const auto node = view_.least_waiting(wish)) return ask(*node, queue_.pop(front), true), true;
  return false;
}

void RayletCore::ask(wire::NodeNumber node, Claim claim, bool may_wait) {
  emit(order_of(node, claim, may_wait));
  const RequestKey key{claim.owner, claim.request};
  if (claim.is_metered) {
    quotas_.arrived(key, node);
    quotas_.left(key, 0);
  }
  asked_.insert_or_assign(key, Asked{std::move(claim), node, may_wait});
}

// One of a line is enough: the next goes where there is room by then.
bool RayletCore::waits_elsewhere(const Claim& like) const {
  return std::ranges::any_of(asked_, [&](const auto& entry) {
    const Claim& claim = entry.second.claim;
    return entry.second.waits_there && claim.owner == like.owner && claim.scheduling_class == like.scheduling_class;
  });
}

// What waits at one node while another has room would wait for ever if what has the one's room ends only after it. It keeps
// its place there until the other has granted it.
void RayletCore::ask_as_well() {
  for (auto& [key, asked] : asked_) {
    if (!asked.waits_there || asked.also != 0 || asked.claim.scheduling_class.group != 0) continue;
    const Wish wish = wish_of(asked.claim);
    const std::optional<wire::NodeNumber> room = view_.find_room(wish);
    if (!room || *room == asked.node) continue;
    (void)view_.take_room(wish);
    ask_as_well(asked, *room);
  }
}

void RayletCore::ask_as_well(Asked& asked, wire::NodeNumber node) {
  asked.also = node;
  if (asked.claim.is_metered) quotas_.arrived({asked.claim.owner, asked.claim.request}, node);
  emit(order_of(node, asked.claim, false));
}

/// False when no other node was asked as well.
bool RayletCore::is_still_asked(Asked& asked, wire::NodeNumber without) {
  if (asked.also == 0 || (asked.node != without && asked.also != without)) return false;
  if (asked.node == without) {
    asked.node = asked.also;
    asked.waits_there = false;
  }
  asked.also = 0;
  return true;
}

void RayletCore::take_back(wire::NodeNumber node, ProcessId owner, uint64_t request) {
  if (node != 0) emit(HandOn{node, owner, wire::CancelLeaseRequest{request}});
}

void RayletCore::on(LeaseSpilledBack& event) {
  const RequestKey key{ProcessId{event.message.owner}, event.message.request};
  if (!quotas_.empty()) quotas_.left(key, event.from);
  const auto it = asked_.find(key);
  if (it == asked_.end()) return;
  const bool was_waiting = it->second.node == event.from && it->second.waits_there;
  if (is_still_asked(it->second, event.from)) {
    // What a placement group has is not in the view.
    if (it->second.claim.scheduling_class.group == 0) view_.note_full(event.from, was_waiting);
    return schedule();
  }
  if (it->second.node != event.from) return;
  Claim claim = std::move(it->second.claim);
  asked_.erase(it);
  if (claim.scheduling_class.group != 0) return on_group_spilled_back(std::move(claim), event.from, event.message.why);
  const Status why = wire::from_wire(event.message.why);
  if (why.code() != Code::kFull) {
    send(claim.owner, wire::LeaseRefused{claim.request, event.message.why});
    return schedule();
  }
  view_.note_full(event.from, was_waiting);
  requeue(std::move(claim));
  schedule();
}

void RayletCore::requeue(Claim claim) {
  if (claim.is_metered) quotas_.arrived({claim.owner, claim.request}, 0);
  const Claim named{.owner = claim.owner, .request = claim.request, .job = {}, .scheduling_class = {}, .actor = {}};
  if (Status status = queue_.push(std::move(claim)); !status.ok()) refuse(named, status);
}

void RayletCore::on(PeerMet& event) {
  const auto client = clients_.find(event.client);
  if (client == clients_.end()) return;
  RemotePeer& peer = remote_peers_[event.remote];
  peer.pid = event.pid;
  peer.interested.insert(event.client);
  client->second.remote_peers.insert(event.remote);
  const auto asked = asked_.find({event.client, event.request});
  if (event.lease == 0 || asked == asked_.end()) return;
  remote_leases_[event.lease] = {event.client, asked->second.claim.scheduling_class, event.request};
  const wire::NodeNumber there = wire::node_of(event.lease);
  if (const wire::NodeNumber also = asked->second.also; also != 0) {
    if (also != there && asked->second.claim.scheduling_class.group == 0)
      view_.give_back(also, asked->second.claim.demand());
    take_back(also == there ? asked->second.node : also, event.client, event.request);
  }
  asked_.erase(asked);
  schedule();
}

void RayletCore::take_back_asked(const std::function<bool(const Asked&)>& which) {
  for (auto it = asked_.begin(); it != asked_.end();) {
    if (!which(it->second)) {
      ++it;
      continue;
    }
    Claim claim = std::move(it->second.claim);
    it = asked_.erase(it);
    claim.tried.clear();
    requeue(std::move(claim));
  }
}

void RayletCore::forget_remote_peers(ProcessId client) {
  std::erase_if(asked_, [&](const auto& entry) { return entry.first.first == client; });
  std::erase_if(remote_leases_, [&](const auto& entry) { return entry.second.owner == client; });
  for (auto it = remote_peers_.begin(); it != remote_peers_.end();) {
    it->second.interested.erase(client);
    it = it->second.interested.empty() ? remote_peers_.erase(it) : std::next(it);
  }
}

// ---------------------------------------------------------------------------------------------------- leases for others

void RayletCore::on(LeaseAsked& event) {
  Claim claim{.owner = ProcessId{event.message.owner},
              .request = event.message.request.request,
              .job = JobId{event.message.job},
              .scheduling_class = std::move(event.message.request.scheduling_class),
              .actor = {},
              .is_metered = event.message.is_metered,
              .sequence = next_sequence_++,
              .since_us = now_us_};
  if (wire::node_of(event.message.owner) != event.from) return;  // nobody asks in another node's name
  if (Status status = ResourcePool::validate(claim.demand()); !status.ok()) return refuse(claim, status);
  if (claim.scheduling_class.group != 0) return on_lease_asked_in_group(std::move(claim), event.message.may_wait);
  if (!resources_.is_feasible(claim.demand())) return refuse(claim, Status(Code::kInvalid, infeasible(claim.demand())));
  meet(claim.owner).job = claim.job;
  if (drain_) return refuse(claim, Status(Code::kFull, "the node is drained"));
  const bool may_have = !is_ending_ && !is_kept_for_group(claim.demand());
  if (std::optional<Grant> grant = may_have ? resources_.acquire(claim.demand()) : std::nullopt) {
    leases_.add(std::move(claim), std::move(*grant));
    return assign_workers();
  }
  ++refusals_;
  const Status full(Code::kFull, "no room now: " + resources_.explain(claim.demand()));
  if (!event.message.may_wait || is_ending_) return refuse(claim, full);
  const Claim named{.owner = claim.owner, .request = claim.request, .job = {}, .scheduling_class = {}, .actor = {}};
  if (Status status = queue_.push(std::move(claim)); !status.ok()) return refuse(named, status);
  schedule();
}

// ---------------------------------------------------------------------------------------------------- jobs

bool RayletCore::has_plan(JobId job) {
  JobEntry& entry = jobs_[job];
  if (!entry.plan && !std::exchange(entry.is_asked_for, true)) emit(FetchJob{job});
  return entry.plan.has_value();
}

void RayletCore::on(JobFetched& event) {
  const auto it = jobs_.find(event.job);
  if (it == jobs_.end()) return;
  it->second.is_asked_for = false;
  if (event.status.ok()) {
    quotas_.begin(event.job, event.plan.quota);
    it->second.plan = std::move(event.plan);
    return schedule();
  }
  refuse_leases([&](const Lease& lease) { return lease.claim.job == event.job; },
                event.status.with_context("this node cannot get the job's program"));
  drop_job_if_unused(event.job);
  schedule();
}

// Detached actors outlive their job: the head ends the others.
void RayletCore::end_job(JobId job) {
  quotas_.end(job);
  quota_reclaims_.erase(job);
  queue_.forget(job);
  unadmitted_.forget(job);
  if (!jobs_.contains(job)) return;
  for (auto& [token, worker] : workers_.all()) {
    const Lease* lease = leases_.find(worker.lease);
    if (worker.env.job == job && (lease == nullptr || !lease->is_actor())) kill(worker, "its job ended");
  }
  drop_job_if_unused(job);
}

void RayletCore::drop_job_if_unused(JobId job) {
  const auto is_of_job = [&](const auto& entry) { return entry.second.env.job == job; };
  if (job.value == driver_.value || std::ranges::any_of(workers_.all(), is_of_job)) return;
  if (jobs_.erase(job) > 0) emit(DropJob{job});
}

// ---------------------------------------------------------------------------------------------------- ends

void RayletCore::on(RemoteProcessGone& event) {
  const ProcessId process{event.message.process};
  if (!is_remote(process.value)) return;
  const wire::ProcessDied died{.process = process.value, .pid = event.message.pid, .cause = event.message.cause};
  if (const auto peer = remote_peers_.extract(process); !peer.empty()) {
    for (const ProcessId client : peer.mapped().interested) {
      send(client, died);
      if (const auto it = clients_.find(client); it != clients_.end()) it->second.remote_peers.erase(process);
    }
  }
  forget_client(process, wire::from_wire(event.message.cause));
  end_job(JobId{process.value});
}

void RayletCore::on(MembersChanged& event) {
  wire::ClusterCapacity change;
  for (wire::NodeInfo& info : event.members.joined) {
    if (info.number == settings_.number) continue;
    if (info.ids_from != 0) change.back_nodes[info.number] = info.ids_from;
    view_.add(std::move(info));
  }
  for (const wire::NodeGone& gone : event.members.gone) {
    if (gone.number == settings_.number) continue;
    view_.remove(gone.number);
    change.lost_nodes[gone.number] = gone.cause;
  }
  // First: an owner that hears of dead workers next knows already that what they made is gone with them.
  change.capacity = cluster_capacity();
  for (const auto& [process, client] : clients_)
    if (!client.is_remote && client.role != wire::Role::kObserver) send(process, change);
  for (const wire::NodeGone& gone : event.members.gone) {
    if (gone.number != settings_.number) {
      lose_node(gone.number, wire::from_wire(gone.cause));
    } else if (!std::exchange(is_ending_, true)) {
      // The cluster went on without this node: what it still did would be stale.
      emit(EndNode{.is_given_up = true, .reason = wire::from_wire(gone.cause).message()});
    }
  }
  ask_as_well();
  schedule();
  move_objects();
}

void RayletCore::lose_node(wire::NodeNumber number, const Status& cause) {
  quotas_.node_lost(number);
  for (auto& [key, asked] : asked_) (void)is_still_asked(asked, number);
  take_back_asked([&](const Asked& asked) { return asked.node == number; });
  std::erase_if(remote_leases_, [&](const auto& entry) { return wire::node_of(entry.first) == number; });
  std::set<ProcessId> theirs;
  for (const auto& [process, peer] : remote_peers_)
    if (wire::node_of(process.value) == number) theirs.insert(process);
  for (const auto& [process, client] : clients_)
    if (wire::node_of(process.value) == number) theirs.insert(process);
  for (const auto& [job, entry] : jobs_)
    if (wire::node_of(job.value) == number) theirs.insert(ProcessId{job.value});
  for (const ProcessId process : theirs) {
    const auto peer = remote_peers_.find(process);
    RemoteProcessGone gone{{.process = process.value,
                            .pid = peer == remote_peers_.end() ? 0 : peer->second.pid,
                            .cause = wire::to_wire(cause)}};
    on(gone);
  }
}

void RayletCore::on(ViewChanged& event) {
  for (const wire::NodeView& view : event.view.changed) view_.update(view);
  ask_as_well();
  schedule();
  move_objects();
}

}  // namespace manta::raylet

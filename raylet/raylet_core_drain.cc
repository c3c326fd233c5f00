// A node that is drained: it takes nothing new, ends what it has, and goes.
//
//   ACTIVE --DrainAsked, BeginDrain--> DRAINING --no worker, no object that others need--> GONE (EndNode)
//                                         |                                                  ^
//                                         +-- its time is up: the rest is cut off, preempted --+
#include "raylet/raylet_core.h"

#include <algorithm>

namespace manta::raylet {

void RayletCore::on_head(wire::BeginDrain& message) {
  DrainAsked asked{message.deadline_us, std::move(message.reason)};
  on(asked);
}

void RayletCore::on_head(wire::DrainNotice& message) { send(ProcessId{message.to}, std::move(message.progress)); }

void RayletCore::on(DrainAsked& event) {
  if (is_ending_) return;
  const int64_t due_us = now_us_ + std::clamp<int64_t>(event.deadline_us, 0, kLongestDrainUs);
  if (drain_) {
    drain_->due_us = std::min(drain_->due_us, due_us);
    return;
  }
  drain_ = Drain{.due_us = due_us, .reason = std::move(event.reason)};
  emit(ReportSoon{});  // the head places nothing here any more, and sees to the actors
  move_objects();
  hand_back_what_waits();
  for (auto& [id, lease] : leases_.all())
    if (!lease.is_actor() && !lease.grant.bundle && lease.is_active && !lease.is_ended && !lease.is_reclaimed)
      ask_back(lease);
  schedule();
  release_idle_workers();
  end_if_drained();
}

// Others' requests go back to their own nodes, which ask elsewhere; so do those that were granted and have no worker yet.
// Actors that wait are the head's to place anew. What is in a placement group stays: its bundles are here.
void RayletCore::hand_back_what_waits() {
  const Status why(Code::kFull, "the node is drained");
  for (const Claim& claim :
       queue_.take_of_group(0, [this](const Claim& one) { return !one.actor && is_remote(one.owner.value); }))
    refuse(claim, why);
  std::vector<LeaseId> without;
  for (const auto& [id, lease] : leases_.all())
    if (!lease.grant.bundle && !lease.is_active && !lease.is_ended) without.push_back(id);
  for (const LeaseId id : without) {
    Lease& lease = *leases_.find(id);
    const Claim claim = lease.claim;
    if (Worker* worker = workers_.find(lease.worker)) {
      lease.is_ended = true;
      kill(*worker, "the node is drained");
    } else {
      release(lease);
    }
    if (!claim.actor && is_remote(claim.owner.value)) {
      refuse(claim, why);
      continue;
    }
    requeue(claim);
  }
  const auto starting = workers_.in(WorkerState::kStarting);
  for (const WorkerToken token : starting) kill(*workers_.find(token), "the node is drained");
}

// To the nodes that stay, as far as is known; a driver's goes with it.
void RayletCore::move_objects() {
  if (!drain_) return;
  std::vector<wire::NodeNumber> to;
  for (const auto& [number, node] : view_.all())
    if (node.takes_work && !node.info.is_driver) to.push_back(number);
  if (to == drain_->receivers) return;
  drain_->receivers = to;
  emit(MoveObjects{std::move(to)});
}

bool RayletCore::could_be_elsewhere(const Claim& claim) const {
  const Result<wire::NodeNumber> only = asked_node(claim.scheduling_class);
  return (!only.ok() || *only != own_number()) && view_.could_hold(wish_of(claim));
}

void RayletCore::on(ObjectsLeft& event) {
  if (!drain_) return;
  drain_->objects_left = event.count;
  end_if_drained();
}

void RayletCore::cut_off() {
  if (!std::exchange(drain_->is_cut_off, true)) {
    for (auto& [token, worker] : workers_.all()) {
      worker.is_preempted = worker.kill_reason.empty() || worker.is_preempted;
      kill(worker, "the node was drained and its time was up");
    }
  }
  end_if_drained();
}

void RayletCore::end_if_drained() {
  if (!drain_ || is_ending_) return;
  const bool must = drain_->is_cut_off && now_us_ >= drain_->due_us + kEndTimeoutUs;
  if (!must && workers_.size() != 0) return;
  if (!drain_->is_cut_off && drain_->objects_left != 0) return;
  is_ending_ = true;
  emit(EndNode{.is_drained = true, .reason = drain_->reason});
}

}  // namespace manta::raylet

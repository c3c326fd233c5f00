// Placement groups: bundles that the head has this node set aside, and the leases and actors that run in them.
#include "raylet/raylet_core.h"
#include "wire/node_resources.h"

#include <algorithm>

namespace manta::raylet {

// ---------------------------------------------------------------------------------------------------- clients and the head

void RayletCore::on_message(ProcessId from, wire::CreatePlacementGroup& message) {
  emit(TellHead{wire::HeadRequest{from.value, std::move(message)}});
}
void RayletCore::on_message(ProcessId from, wire::RemovePlacementGroup& message) {
  emit(TellHead{wire::HeadRequest{from.value, message}});
}
void RayletCore::on_message(ProcessId from, wire::GetPlacementGroup& message) {
  (void)groups_.watch(message.group, from);
  emit(TellHead{wire::HeadRequest{from.value, message}});
}

void RayletCore::on_head(wire::GroupNotice& message) {
  const ProcessId to{message.to};
  if (!clients_.contains(to)) return;
  const wire::PlacementGroupUpdate update = message.update;
  groups_.hear(to, update);
  send(to, std::move(message.update));
  if (queue_.size() == 0) return;
  if (static_cast<wire::PlacementGroupState>(update.state) == wire::PlacementGroupState::kRemoved && update.group != 0) {
    const Status why = wire::from_wire(update.why).with_context("its placement group");
    for (const Claim& claim :
         queue_.take_of_group(update.group, [this](const Claim& one) { return !one.actor && !is_remote(one.owner.value); }))
      refuse(claim, why);
  }
  schedule();
}

void RayletCore::on_head(wire::PrepareBundles& message) {
  if (is_ending_ || bundles_.is_stale(message)) return;
  end_bundles(message.group, message.attempt - 1, "its placement group is reserved anew");
  const Status status = bundles_.prepare(message);
  emit(TellHead{wire::BundlesPrepared{message.group, message.attempt, wire::to_wire(status)}});
  if (status.code() == Code::kUnavailable) return note_refused(message);
  if (status.ok()) has_room_kept(message.group, message.is_commit);
  if (status.ok() && queue_.size() > 0) schedule();
}

// The head's picture of this node was too good. It hears now what there is, and at once when there is more.
void RayletCore::note_refused(const wire::PrepareBundles& order) {
  too_little_ = available();
  if (settings_.number != 0) emit(ReportSoon{});
  keep_room_for(order);
}

// Else a group would wait for ever behind tasks that come one after the other. It holds nothing: whoever has room to give
// back is asked to, and what comes back is there when the head asks again.
void RayletCore::keep_room_for(const wire::PrepareBundles& order) {
  if (kept_room_.group != 0 && kept_room_.group != order.group) return;  // one after the other
  wire::Resources amounts;
  for (const wire::Bundle& bundle : order.bundles) add(amounts, bundle.resources);
  if (!fits_without_leases(amounts)) return;  // it waits for actors and other groups
  kept_room_ = {.group = order.group, .amounts = std::move(amounts), .until_us = now_us_ + kKeptForGroupUs};
  schedule();
}

// It has the room now, but may have to wait for that of other nodes without it: then it is kept on.
void RayletCore::has_room_kept(uint64_t group, bool for_good) {
  if (kept_room_.group != group) return;
  if (for_good) {
    kept_room_ = {};
  } else {
    kept_room_.until_us = now_us_ + kKeptForGroupUs;
  }
}

bool RayletCore::is_kept_for_group(const wire::Resources& demand) const {
  if (kept_room_.group == 0 || !overlaps(demand, kept_room_.amounts)) return false;
  wire::Resources both = kept_room_.amounts;
  add(both, demand);
  return !is_zero(shortage(both, resources_.available()));
}

void RayletCore::on_head(wire::CommitBundles& message) {
  if (!bundles_.commit(message.group, message.attempt)) return;
  has_room_kept(message.group, true);
  schedule();
}

void RayletCore::on_head(wire::ReleaseBundles& message) {
  end_bundles(message.group, message.attempt, message.reason);
  if (message.attempt == ~uint64_t{0}) has_room_kept(message.group, true);  // no attempt is to come
  if (queue_.size() > 0) schedule();
}

void RayletCore::end_bundles(uint64_t group, uint64_t attempt, const std::string& reason) {
  if (!bundles_.release(group, attempt)) return;
  // Actors are placed again by the head, or have ended.
  std::erase_if(later_, [&](const auto& entry) { return entry.second.scheduling_class.group == group; });
  for (const Claim& claim :
       queue_.take_of_group(group, [this](const Claim& one) { return one.actor || is_remote(one.owner.value); }))
    if (!claim.actor) refuse(claim, Status(Code::kNotFound, "its placement group is not here any more"));
  std::vector<LeaseId> inside;
  for (const auto& [id, lease] : leases_.all())
    if (lease.grant.bundle.group == group && lease.grant.bundle.attempt <= attempt) inside.push_back(id);
  for (const LeaseId id : inside)
    if (Lease* lease = leases_.find(id)) end_in_bundle(*lease, "its placement group: " + reason);
  if (settings_.number != 0) emit(ReportSoon{});
}

void RayletCore::end_in_bundle(Lease& lease, const std::string& reason) {
  Worker* worker = workers_.find(lease.worker);
  if (lease.is_ended) return;
  if (lease.is_active && worker != nullptr) return kill(*worker, reason);
  // Nothing has run yet: who asked for it asks again, where the group is then.
  if (!lease.is_actor()) {
    Claim again = lease.claim;
    again.tried.clear();
    if (is_remote(again.owner.value)) {
      refuse(again, Status(Code::kNotFound, "its placement group is not here any more"));
    } else {
      requeue(std::move(again));
    }
  }
  lease.is_ended = true;
  if (worker != nullptr) return kill(*worker, reason);
  release(lease);
}

// ---------------------------------------------------------------------------------------------------- leases

std::optional<Grant> RayletCore::acquire(const Claim& claim) {
  return claim.scheduling_class.group != 0 ? bundles_.acquire(claim.scheduling_class) : resources_.acquire(claim.demand());
}

void RayletCore::release(const Grant& grant) {
  if (!grant.bundle) return resources_.release(grant);
  if (bundles_.release(grant) && settings_.number != 0) emit(ReportSoon{});
}

wire::NodeResources RayletCore::leased() const {
  wire::NodeResources sum;
  for (const auto& [id, lease] : leases_.all()) {
    if (lease.is_actor() || lease.grant.bundle) continue;
    const wire::Resources amounts = amounts_of(lease.grant);
    wire::NodeResources one{
        .cpus = amounts.cpus, .memory_bytes = amounts.memory_bytes, .custom = amounts.custom, .devices = {}};
    if (!lease.grant.devices.devices.empty()) one.devices.resize(static_cast<size_t>(resources_.devices().count()));
    for (const int32_t device : lease.grant.devices.devices)
      one.devices.at(static_cast<size_t>(device)) = {lease.grant.devices.share_each, lease.grant.devices.memory_each_bytes};
    wire::add(sum, one);
  }
  return sum;
}

void RayletCore::ask_for_group(const Claim& claim) {
  const uint64_t group = claim.scheduling_class.group;
  if (groups_.watch(group, claim.owner))
    emit(TellHead{wire::HeadRequest{claim.owner.value, wire::GetPlacementGroup{.request = 0, .group = group}}});
}

// True when it was taken out of the queue. It goes to a node with a bundle that has room; when all have said that theirs are
// busy it waits at one of them.
bool RayletCore::spill_out_of_group(const Claim& front) {
  const uint64_t number = front.scheduling_class.group;
  const GroupView::Group* group = groups_.find(number);
  if (group == nullptr || !group->clients.contains(front.owner)) {
    ask_for_group(front);
    group = groups_.find(number);
  }
  if (!group->is_ready()) return false;
  std::string why;
  const std::vector<wire::NodeNumber> nodes = GroupView::nodes_for(*group, front.scheduling_class, front.request, why);
  if (nodes.empty()) return refuse(queue_.pop(front), Status(Code::kInvalid, why)), true;
  const auto is_here = [this](wire::NodeNumber node) { return settings_.number == 0 || node == settings_.number; };
  for (const wire::NodeNumber node : nodes)
    if (!is_here(node) && view_.find(node) != nullptr && std::ranges::count(front.tried, node) == 0)
      return ask(node, queue_.pop(front), false), true;
  for (const wire::NodeNumber node : nodes) {
    if (!is_here(node) && view_.find(node) == nullptr) continue;
    waits_in_group();
    return !is_here(node) && (ask(node, queue_.pop(front), true), true);
  }
  return false;  // its nodes are gone: the head will say where it is next
}

// ---------------------------------------------------------------------------------------------------- waiting for a bundle

void RayletCore::waits_in_group() {
  if (look_in_groups_us_ == 0) look_in_groups_us_ = now_us_ + kLookInGroupsUs;
}

// What waits at one node of its group while another's bundle gets free would wait for as long as the one's is busy. Nobody
// says when a bundle is free, so another is asked now and then, for the first of each line; it keeps its place meanwhile.
void RayletCore::look_in_groups() {
  if (look_in_groups_us_ == 0 || now_us_ < look_in_groups_us_) return;
  look_in_groups_us_ = 0;
  ++looks_;
  look_for_those_elsewhere();
  schedule();  // who has room here now has it
  look_for_those_here();
}

void RayletCore::look_for_those_elsewhere() {
  std::set<std::pair<ProcessId, wire::SchedulingClass>> lines;
  std::vector<RequestKey> have_room_here;
  for (auto& [key, asked] : asked_) {
    const wire::SchedulingClass& what = asked.claim.scheduling_class;
    if (!asked.waits_there || what.group == 0) continue;
    waits_in_group();
    if (asked.also != 0 || !lines.emplace(asked.claim.owner, what).second) continue;
    const std::optional<wire::NodeNumber> other = other_node_in_group(asked.claim, asked.node);
    if (!other) continue;
    if (*other == own_number()) {
      if (const std::optional<Grant> room = bundles_.acquire(what)) {
        (void)bundles_.release(*room);
        have_room_here.push_back(key);
      }
      continue;
    }
    ask_as_well(asked, *other);
  }
  for (const RequestKey& key : have_room_here) {
    auto asked = asked_.extract(key);
    take_back(asked.mapped().node, key.first, key.second);
    if (asked.mapped().claim.is_metered) quotas_.left(key, asked.mapped().node);
    requeue(std::move(asked.mapped().claim));
  }
}

void RayletCore::look_for_those_here() {
  for (const Claim* front : queue_.fronts(holding())) {
    if (front->scheduling_class.group == 0 || front->actor || is_remote(front->owner.value) || front->tried.empty())
      continue;
    waits_in_group();
    if (const auto other = other_node_in_group(*front, own_number())) return ask(*other, queue_.pop(*front), false);
  }
}

/// Another of the nodes with a bundle for it, in turn; nothing when there is none, or nobody knows where its group is.
std::optional<wire::NodeNumber> RayletCore::other_node_in_group(const Claim& claim, wire::NodeNumber waits_at) const {
  const GroupView::Group* group = groups_.find(claim.scheduling_class.group);
  if (group == nullptr || !group->is_ready()) return std::nullopt;
  std::string why;
  for (const wire::NodeNumber node : GroupView::nodes_for(*group, claim.scheduling_class, looks_, why))
    if (node != waits_at && (node == own_number() || view_.find(node) != nullptr)) return node;
  return std::nullopt;
}

void RayletCore::on_lease_asked_in_group(Claim claim, bool may_wait) {
  const wire::SchedulingClass what = claim.scheduling_class;
  if (is_ending_ || !bundles_.holds(what.group))
    return refuse(claim, Status(Code::kNotFound, "its placement group is not here"));
  if (!bundles_.could_hold(what)) return refuse(claim, Status(Code::kInvalid, "can never run: " + bundles_.explain(what)));
  meet(claim.owner).job = claim.job;
  if (std::optional<Grant> grant = bundles_.acquire(what)) {
    leases_.add(std::move(claim), std::move(*grant));
    return assign_workers();
  }
  // What is set aside and not committed is so in a moment: whoever asks was told that the group is ready.
  if (bundles_.serves(what.group) && !may_wait)
    return refuse(claim, Status(Code::kFull, "no room now: " + bundles_.explain(what)));
  requeue(std::move(claim));
  schedule();
}

void RayletCore::on_group_spilled_back(Claim claim, wire::NodeNumber from, const wire::WireStatus& why) {
  const auto code = static_cast<Code>(why.code);
  if (code != Code::kFull && code != Code::kNotFound) {
    send(claim.owner, wire::LeaseRefused{claim.request, why});
    return schedule();
  }
  if (code == Code::kFull) {
    claim.tried.push_back(from);
  } else {
    claim.tried.clear();
    groups_.drop(claim.scheduling_class.group);
  }
  requeue(std::move(claim));
  schedule();
}

}  // namespace manta::raylet

// Where work may run, and why it waits.
#include "raylet/raylet_core.h"
#include "wire/node_resources.h"

#include <algorithm>

namespace manta::raylet {

// ---------------------------------------------------------------------------------------------------- places

bool RayletCore::could_be_here(const wire::SchedulingClass& what) const {
  return wire::has_labels(settings_.labels, what.labels) && resources_.is_feasible(what.resources);
}

/// The node where it must be; 0 when it is free to choose. An error when there is no such node any more, or it is too small.
Result<wire::NodeNumber> RayletCore::asked_node(const wire::SchedulingClass& what) const {
  if (what.node == 0) return wire::NodeNumber{0};
  const ClusterView::Node* node = view_.find(what.node);
  const bool could = what.node == own_number() ? could_be_here(what) : view_.could_hold({.what = what, .only = what.node});
  if (could) return what.node;
  if (what.is_soft) return wire::NodeNumber{0};
  if (what.node == own_number()) return Status(Code::kInvalid, infeasible(what.resources));
  if (node == nullptr)
    return Status(Code::kUnavailable,
                  "node " + std::to_string(what.node) + ", where it must be, is not in the cluster (any more)");
  return Status(Code::kInvalid, "node " + node->info.name + ", where it must be, could never hold it: asked for " +
                                    describe(what.resources) + "; " +
                                    wire::lacks(node->info.capacity, node->info.capacity, what.resources));
}

Wish RayletCore::wish_of(const Claim& claim) const {
  const Result<wire::NodeNumber> only = asked_node(claim.scheduling_class);
  Wish wish{.what = claim.scheduling_class, .only = only.ok() ? *only : claim.scheduling_class.node};
  if (!claim.scheduling_class.spread) return wish;
  const auto is_like = [&](ProcessId owner, const wire::SchedulingClass& what) {
    return owner == claim.owner && what == claim.scheduling_class;
  };
  for (const auto& [id, lease] : leases_.all())
    if (is_like(lease.claim.owner, lease.claim.scheduling_class)) ++wish.like[own_number()];
  for (const auto& [id, held] : remote_leases_)
    if (is_like(held.owner, held.what)) ++wish.like[wire::node_of(id)];
  for (const auto& [key, asked] : asked_)
    if (is_like(asked.claim.owner, asked.claim.scheduling_class)) ++wish.like[asked.node];
  return wish;
}

// What the head or another node placed here is for here.
bool RayletCore::is_for_here(const Claim& claim) const {
  const wire::SchedulingClass& what = claim.scheduling_class;
  if (claim.actor || is_remote(claim.owner.value)) return true;
  if (what.node == 0 && what.labels.empty() && !what.spread && claim.near == 0) return true;
  const Result<wire::NodeNumber> only = asked_node(what);
  if (!only.ok() || (*only != 0 && *only != own_number()) || !wire::has_labels(settings_.labels, what.labels)) return false;
  if (*only != 0) return true;
  if (claim.near != 0 && view_.find_room({.what = what, .only = claim.near})) return false;
  if (!what.spread) return true;
  // Its owner is here: another node with as few of its like is rather taken.
  Wish wish = wish_of(claim);
  const int here = wish.like[own_number()];
  const std::optional<wire::NodeNumber> other = view_.find_room(wish);
  return !other || wish.like[*other] > here;
}

// ---------------------------------------------------------------------------------------------------- explaining

std::string RayletCore::explain(const Claim& claim) const {
  const wire::SchedulingClass& what = claim.scheduling_class;
  const std::string asked = "asks for " + describe(what.resources) + "; ";
  if (claim.is_metered && !claim.actor && !is_remote(claim.owner.value) && !quotas_.has_token({claim.owner, claim.request}))
    return asked + quotas_.explain(claim.job, quotas_.part_of(claim.job, claim.demand()));
  if (what.group != 0) {
    if (bundles_.holds(what.group)) return asked + bundles_.explain(what);
    const GroupView::Group* group = groups_.find(what.group);
    if (group == nullptr || !group->is_known) return asked + "the head is asked where its placement group is";
    if (group->is_ready()) return asked + "the bundles of its placement group are busy";
    return asked + "its placement group is not ready" +
           (group->now.why.message.empty() ? "" : ": " + group->now.why.message);
  }
  const Wish wish = wish_of(claim);
  const std::string others = view_.nearly(wish);
  const bool could_here = could_be_here(what) && (wish.only == 0 || wish.only == own_number());
  if (!could_here && others.empty())
    return asked + "no node could hold it, it waits for one to join: " + view_.explain(wish);
  std::string text = asked;
  if (could_here) text += "here it " + resources_.explain(what.resources) + (others.empty() ? "" : "; ");
  return text + others;
}

std::string RayletCore::explain_request(ProcessId owner, uint64_t request) const {
  for (const Claim* claim : queue_.all())
    if (!claim->actor && claim->owner == owner && claim->request == request) return explain(*claim);
  for (const Claim* claim : unadmitted_.all())
    if (claim->owner == owner && claim->request == request) return explain(*claim);
  if (const auto asked = asked_.find({owner, request}); asked != asked_.end()) {
    const ClusterView::Node* node = view_.find(asked->second.node);
    return (asked->second.waits_there ? "it waits at node " : "asked of node ") +
           (node == nullptr ? std::to_string(asked->second.node) : node->info.name) + "; " + explain(asked->second.claim);
  }
  for (const auto& [id, lease] : leases_.all())
    if (!lease.is_actor() && lease.claim.owner == owner && lease.claim.request == request && !lease.is_active)
      return "it has its resources; its worker process is starting";
  return "";
}

void RayletCore::on_message(ProcessId from, wire::Explain& message) {
  constexpr size_t kMostLines = 100;
  wire::Explained answer{.request = message.request, .lines = {}};
  if (message.lease_request != 0) {
    if (std::string line = explain_request(from, message.lease_request); !line.empty())
      answer.lines.push_back(std::move(line));
    return send(from, std::move(answer));
  }
  for (const LeaseQueue* queue : {&queue_, &unadmitted_}) {
    for (const Claim* front : queue->fronts(holding())) {
      if (answer.lines.size() == kMostLines) break;
      const std::string who =
          front->actor ? "an actor of class " + front->actor->class_name
                       : std::to_string(queue->line_of(*front)) + " requests of process " + front->owner.to_string();
      answer.lines.push_back(who + ": each " + explain(*front));
    }
  }
  send(from, std::move(answer));
}

}  // namespace manta::raylet

#include "head/placement_groups.h"

#include "common/check.h"
#include "head/bundle_packing.h"
#include "wire/node_resources.h"

#include <algorithm>
#include <deque>
#include <functional>
#include <numeric>

namespace manta::head {
namespace {

using wire::kHeadNode;
using wire::NodeNumber;
using wire::PlacementGroupState;
using wire::PlacementStrategy;

constexpr int kLifeShift = 40;
constexpr const char* kNames[] = {"PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD"};

Status check(const wire::CreatePlacementGroup& spec) {
  if (spec.bundles.empty() || spec.bundles.size() > wire::kMaxBundles)
    return Status(Code::kInvalid, "a placement group has 1 to " + std::to_string(wire::kMaxBundles) + " bundles, not " +
                                      std::to_string(spec.bundles.size()));
  if (spec.strategy > static_cast<uint8_t>(PlacementStrategy::kStrictSpread))
    return Status(Code::kInvalid, "no placement strategy " + std::to_string(spec.strategy));
  for (const wire::Resources& bundle : spec.bundles) MANTA_RETURN_IF_ERROR(validate(bundle));
  return {};
}

wire::Resources sum_of(const std::vector<wire::Resources>& bundles) {
  wire::Resources sum;
  for (const wire::Resources& bundle : bundles) {
    sum.cpus += bundle.cpus;
    sum.gpus += bundle.gpus;
    sum.gpu_memory_bytes += bundle.gpu_memory_bytes;
    sum.memory_bytes += bundle.memory_bytes;
    for (const auto& [name, amount] : bundle.custom) sum.custom[name] += amount;
  }
  return sum;
}

int64_t backoff_us(int times_before) {
  return std::min(PlacementGroups::kFirstBackoffUs << std::min(times_before, 10), PlacementGroups::kMaxBackoffUs);
}

bool covers(const wire::Resources& bundle, const wire::Resources& demand) {
  return demand.cpus <= bundle.cpus && demand.gpus <= bundle.gpus && demand.gpu_memory_bytes <= bundle.gpu_memory_bytes &&
         demand.memory_bytes <= bundle.memory_bytes && std::ranges::all_of(demand.custom, [&](const auto& entry) {
           const auto it = bundle.custom.find(entry.first);
           return entry.second <= (it == bundle.custom.end() ? 0 : it->second);
         });
}

}  // namespace

void PlacementGroups::start(uint64_t life, bool alone) {
  is_alone_ = alone;
  last_group_ = std::max(last_group_, life << kLifeShift);
  first_attempt_ = life << kLifeShift;
}

Status PlacementGroups::replay(PlacementGroupRecord row) {
  MANTA_RETURN_IF_ERROR(check(row.spec));
  if (!row.nodes.empty() && row.nodes.size() != row.spec.bundles.size())
    return Status(Code::kInvalid, "a placement group of " + std::to_string(row.spec.bundles.size()) + " bundles has " +
                                      std::to_string(row.nodes.size()) + " places");
  Group& group = groups_[row.group];
  group.row = std::move(row);
  group.state = group.row.nodes.empty() ? State::kPending : State::kReady;
  group.actors.assign(group.row.spec.bundles.size(), 0);
  by_request_[{group.row.owner, group.row.spec.request}] = group.row.group;
  by_job_[group.row.job].insert(group.row.group);
  for (NodeNumber node : group.row.nodes) by_node_[node].insert(group.row.group);
  if (group.state == State::kPending) {
    pending_.insert(group.row.group);
    set_due(group, 0);
  }
  last_group_ = std::max(last_group_, group.row.group);
  return {};
}

Result<uint64_t> PlacementGroups::create(const wire::CreatePlacementGroup& spec, uint64_t owner, uint64_t job,
                                         GroupStep& step) {
  if (const auto known = by_request_.find({owner, spec.request}); known != by_request_.end()) return known->second;
  MANTA_RETURN_IF_ERROR(check(spec));
  if (step.quotas != nullptr) MANTA_RETURN_IF_ERROR(step.quotas->check(job, sum_of(spec.bundles)));
  if (groups_.size() >= kMaxGroups) return Status(Code::kFull, "there are too many placement groups");
  Group& group = groups_[++last_group_];
  group.row = {.group = last_group_, .owner = owner, .job = job, .spec = spec, .attempt = first_attempt_, .nodes = {}};
  group.actors.assign(spec.bundles.size(), 0);
  group.watchers.insert(owner);
  by_request_[{owner, spec.request}] = last_group_;
  by_job_[job].insert(last_group_);
  step.records.push_back(to_record(row_of(group)));
  enter(group, State::kPending);
  attempt(group, step, true);
  return last_group_;
}

bool PlacementGroups::remove(uint64_t number, const std::string& why, GroupStep& step) {
  const auto it = groups_.find(number);
  if (it == groups_.end()) return false;
  Group& group = it->second;
  release(group, why, step);
  want_no_more(group, why, step);
  due_.erase({group.due_us, number});
  pending_.erase(number);
  step.records.push_back(removal(group.row));
  step.removed.push_back(number);
  for (uint64_t watcher : group.watchers)
    step.messages.push_back({0, wire::GroupNotice{watcher,
                                                  {.group = number,
                                                   .state = static_cast<uint8_t>(PlacementGroupState::kRemoved),
                                                   .why = wire::to_wire(Status(Code::kDied, why)),
                                                   .nodes = {},
                                                   .bundles = {}}}});
  by_request_.erase({group.row.owner, group.row.spec.request});
  if (const auto job = by_job_.find(group.row.job); job != by_job_.end()) {
    job->second.erase(number);
    if (job->second.empty()) by_job_.erase(job);
  }
  groups_.erase(it);
  if (is_alone_) room_grew(step.now_us);
  return true;
}

// ---------------------------------------------------------------------------------------------------- reserving

std::optional<std::vector<NodeNumber>> PlacementGroups::places_for(const Group& group, const PlacementPolicy& policy,
                                                                   bool with_leased) const {
  const auto strategy = static_cast<PlacementStrategy>(group.row.spec.strategy);
  const std::vector<wire::Resources>& bundles = group.row.spec.bundles;
  if (is_alone_ && (strategy != PlacementStrategy::kStrictSpread || bundles.size() == 1))
    return std::vector<NodeNumber>(bundles.size(), kHeadNode);
  std::deque<wire::NodeResources> sums;
  std::vector<PackingNode> nodes;
  for (const auto& [number, node] : policy.nodes()) {
    if (!node.takes_work || (node.is_doubted && !with_leased)) continue;
    const wire::NodeResources* free = &node.free;
    if (with_leased) {
      add(sums.emplace_back(node.free), node.leased);
      free = &sums.back();
    }
    nodes.push_back({number, &node.info.capacity, free, load_of(node)});
  }
  return pack(bundles, strategy, nodes);
}

void PlacementGroups::attempt(Group& group, GroupStep& step, bool may_ask_back) {
  if (step.quotas != nullptr && step.quotas->is_limited(group.row.job)) {
    const std::string lacks = step.quotas->lacks(group.row.job, {0, group.row.group}, sum_of(group.row.spec.bundles));
    if (!lacks.empty() && may_ask_back) try_later(group, lacks, step);
    if (!lacks.empty()) return;
  }
  std::optional<std::vector<NodeNumber>> places = places_for(group, step.policy, false);
  group.asks_back = !places && may_ask_back && group.refusals >= kPatience;
  if (group.asks_back) places = places_for(group, step.policy, true);
  if (places) {
    group.row.nodes = std::move(*places);
    return prepare(group, step);
  }
  if (may_ask_back) try_later(group, explain(group, step.policy), step);
}

void PlacementGroups::prepare(Group& group, GroupStep& step) {
  const std::vector<wire::Resources>& bundles = group.row.spec.bundles;
  group.row.attempt = std::max(group.row.attempt, first_attempt_) + 1;
  enter(group, State::kPreparing);
  if (step.quotas != nullptr) step.quotas->charge(group.row.job, {0, group.row.group}, sum_of(bundles));
  set_due(group, step.now_us + kPrepareUs);
  std::map<NodeNumber, wire::PrepareBundles> prepare;
  // Those that are hardest to fit first: a raylet takes them in this order, as the packing did.
  std::vector<size_t> order(bundles.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::stable_sort(order, std::greater(), [&](size_t i) { return bundles[i].gpus; });
  for (size_t i : order) {
    const NodeNumber node = group.row.nodes[i];
    prepare[node].bundles.push_back({static_cast<int32_t>(i), bundles[i]});
  }
  for (auto& [node, message] : prepare) {
    message.group = group.row.group;
    message.attempt = group.row.attempt;
    message.is_commit = prepare.size() == 1;
    std::vector<wire::Resources> amounts;
    for (const wire::Bundle& bundle : message.bundles) amounts.push_back(bundle.resources);
    message.number = step.policy.charge(node, std::move(amounts), step.now_us);
    group.charges[node] = message.number;
    group.unanswered.insert(node);
    by_node_[node].insert(group.row.group);
    step.messages.push_back({node, std::move(message)});
  }
}

void PlacementGroups::prepared(NodeNumber from, const wire::BundlesPrepared& answer, GroupStep& step) {
  const auto it = groups_.find(answer.group);
  if (it == groups_.end() || it->second.row.attempt != answer.attempt) return;
  Group& group = it->second;
  const Status status = wire::from_wire(answer.status);
  if (!status.ok()) step.policy.doubt(from);
  if (!status.ok()) group.kept_at.insert(from);
  if (group.unanswered.erase(from) == 0) return;
  if (!status.ok()) {
    if (is_alone_ && status.code() == Code::kInvalid) return (void)remove(answer.group, status.message(), step);
    const PlacementPolicy::Node* node = step.policy.find(from);
    const std::string who = node == nullptr ? "this node" : "node " + node->info.name;
    try_later(group, who + " refused: " + status.message(), step);
    if (!group.asks_back && !is_alone_) group.not_before_us = step.now_us + backoff_us(group.misfits++);
    return;
  }
  if (group.unanswered.empty()) become_ready(group, step);
}

void PlacementGroups::become_ready(Group& group, GroupStep& step) {
  enter(group, State::kReady);
  group.refusals = group.misfits = 0;
  group.not_before_us = 0;
  group.why.clear();
  due_.erase({group.due_us, group.row.group});
  step.records.push_back(to_record(group.row));
  for (NodeNumber node : group.row.nodes) group.kept_at.erase(node);
  want_no_more(group, "its placement group is elsewhere", step);
  if (group.charges.size() > 1)
    for (const auto& [node, charge] : group.charges)
      step.messages.push_back({node, wire::CommitBundles{group.row.group, group.row.attempt}});
  step.changed.push_back(group.row.group);
}

// Never while the group holds something: see the head of placement_groups.h.
void PlacementGroups::try_later(Group& group, const std::string& why, GroupStep& step) {
  const bool is_news = group.why != why || group.state == State::kReady;
  const bool was_written = group.state == State::kReady;
  release(group, "its bundles do not fit together now", step);
  group.why = why;
  const int64_t pause_us = backoff_us(group.refusals++);
  // Groups that fell over each other do not meet again: each has its own pace.
  const int64_t jitter_us = static_cast<int64_t>(group.row.group * 7'919 % 1'000) * pause_us / 1'000;
  set_due(group, step.now_us + pause_us + jitter_us);
  if (was_written) step.records.push_back(to_record(row_of(group)));
  if (is_news) step.changed.push_back(group.row.group);
}

void PlacementGroups::release(Group& group, const std::string& reason, GroupStep& step) {
  const std::set<NodeNumber> nodes(group.row.nodes.begin(), group.row.nodes.end());
  for (NodeNumber node : nodes) {
    step.messages.push_back({node, wire::ReleaseBundles{group.row.group, group.row.attempt, reason}});
    if (const auto there = by_node_.find(node); there != by_node_.end()) {
      there->second.erase(group.row.group);
      if (there->second.empty()) by_node_.erase(there);
    }
  }
  for (const auto& [node, charge] : group.charges) step.policy.refund(node, charge);
  if (step.quotas != nullptr) step.quotas->refund(group.row.job, {0, group.row.group});
  group.charges.clear();
  group.unanswered.clear();
  group.row.nodes.clear();
  enter(group, State::kPending);
}

// Of every attempt: what they keep for one to come is for others again.
void PlacementGroups::want_no_more(Group& group, const std::string& reason, GroupStep& step) {
  for (NodeNumber node : group.kept_at)
    step.messages.push_back({node, wire::ReleaseBundles{group.row.group, ~uint64_t{0}, reason}});
  group.kept_at.clear();
}

void PlacementGroups::enter(Group& group, State state) {
  group.state = state;
  if (state == State::kPending) {
    pending_.insert(group.row.group);
  } else {
    pending_.erase(group.row.group);
  }
}

void PlacementGroups::set_due(Group& group, int64_t due_us) {
  due_.erase({group.due_us, group.row.group});
  group.due_us = due_us;
  due_.insert({due_us, group.row.group});
}

std::string PlacementGroups::explain(const Group& group, const PlacementPolicy& policy) const {
  const wire::CreatePlacementGroup& spec = group.row.spec;
  std::string text = std::string(kNames[spec.strategy]) + " of " + std::to_string(spec.bundles.size()) +
                     (spec.bundles.size() == 1 ? " bundle" : " bundles");
  if (is_alone_) return text + " cannot be on one node: a local session has no other";
  size_t takers = 0;
  for (const auto& [number, node] : policy.nodes()) takers += node.takes_work ? 1 : 0;
  if (static_cast<PlacementStrategy>(spec.strategy) == PlacementStrategy::kStrictSpread && takers < spec.bundles.size())
    return text + " needs as many nodes, " + std::to_string(takers) + " take work";
  for (size_t i = 0; i < spec.bundles.size(); ++i) {
    wire::SchedulingClass what;
    what.resources = spec.bundles[i];
    const PlacementPolicy::Choice choice = policy.choose(what, 0);
    if (choice.node == 0) return "bundle " + std::to_string(i) + ": " + choice.why;
  }
  return text + " does not fit now on the " + std::to_string(takers) + " nodes that take work";
}

// ---------------------------------------------------------------------------------------------------- losing

void PlacementGroups::node_lost(NodeNumber node, GroupStep& step) {
  const auto there = by_node_.extract(node);
  if (!there) return;
  for (uint64_t number : there.mapped()) {
    Group& group = groups_.at(number);
    group.refusals = 0;
    try_later(group, "node " + std::to_string(node) + " of it was lost", step);
    set_due(group, step.now_us);
  }
}

void PlacementGroups::node_returned(NodeNumber node, const std::vector<wire::HeldBundles>& held, GroupStep& step) {
  std::set<uint64_t> kept;
  for (const wire::HeldBundles& one : held) {
    const auto it = groups_.find(one.group);
    const bool is_it = it != groups_.end() && it->second.row.attempt == one.attempt && it->second.state == State::kReady &&
                       std::ranges::count(it->second.row.nodes, node) > 0;
    if (is_it) {
      kept.insert(one.group);
      step.messages.push_back({node, wire::CommitBundles{one.group, one.attempt}});
    } else {
      step.messages.push_back({node, wire::ReleaseBundles{one.group, one.attempt, "the group was removed or moved"}});
    }
  }
  std::vector<uint64_t> lost;
  if (const auto there = by_node_.find(node); there != by_node_.end())
    std::ranges::set_difference(there->second, kept, std::back_inserter(lost));
  for (uint64_t number : lost) {
    try_later(groups_.at(number), "node " + std::to_string(node) + " does not hold its bundles any more", step);
    set_due(groups_.at(number), step.now_us);
  }
}

void PlacementGroups::charge_all(JobQuotas& quotas) const {
  for (const auto& [number, group] : groups_)
    if (!group.row.nodes.empty()) quotas.charge(group.row.job, {0, number}, sum_of(group.row.spec.bundles));
}

void PlacementGroups::job_ended(uint64_t job, GroupStep& step) {
  const auto of_job = by_job_.find(job);
  if (of_job == by_job_.end()) return;
  const std::set<uint64_t> numbers = of_job->second;
  for (uint64_t number : numbers)
    if (!groups_.at(number).row.spec.detached) remove(number, "its job ended", step);
}

// ---------------------------------------------------------------------------------------------------- time

void PlacementGroups::room_grew(int64_t now_us) {
  if (pending_.empty()) return;
  if (to_look_at_ == 0) look_us_ = std::max(now_us, look_us_);
  to_look_at_ = pending_.size();
}

void PlacementGroups::look_again(GroupStep& step) {
  to_look_at_ = std::min(to_look_at_, pending_.size());
  if (to_look_at_ == 0 || step.now_us < look_us_) return;
  look_us_ = step.now_us + kLookPauseUs;
  if (pending_.size() <= kLooksAtOnce) looked_at_ = 0;
  std::vector<uint64_t> now;
  while (now.size() < std::min(to_look_at_, kLooksAtOnce)) {
    const auto next = pending_.upper_bound(looked_at_);
    looked_at_ = next == pending_.end() ? 0 : *next;
    if (looked_at_ != 0) now.push_back(looked_at_);
  }
  to_look_at_ -= now.size();
  for (const uint64_t number : now) {
    Group& group = groups_.at(number);
    if (step.now_us >= group.not_before_us) {
      attempt(group, step, false);
    } else {
      set_due(group, std::min(group.due_us, group.not_before_us));
    }
  }
}

void PlacementGroups::tick(GroupStep& step) {
  std::vector<uint64_t> due;
  for (const auto& [due_us, number] : due_) {
    if (due_us > step.now_us) break;
    due.push_back(number);
  }
  for (uint64_t number : due) {
    Group& group = groups_.at(number);
    if (group.state == State::kPending) {
      attempt(group, step, true);
    } else if (group.state == State::kPreparing) {
      try_later(group, "node " + std::to_string(*group.unanswered.begin()) + " did not answer", step);
    }
  }
  look_again(step);
}

std::optional<int64_t> PlacementGroups::next_deadline_us() const {
  if (due_.empty()) return std::nullopt;
  return to_look_at_ > 0 ? std::min(look_us_, due_.begin()->first) : due_.begin()->first;
}

// ---------------------------------------------------------------------------------------------------- asking

bool PlacementGroups::watch(uint64_t group, uint64_t process) {
  const auto it = groups_.find(group);
  if (it != groups_.end()) it->second.watchers.insert(process);
  return it != groups_.end();
}

PlacementGroupRecord PlacementGroups::row_of(const Group& group) {
  PlacementGroupRecord row = group.row;
  if (group.state == State::kReady) return row;
  row.attempt = 0;
  row.nodes.clear();
  return row;
}

const PlacementGroups::Group* PlacementGroups::find(uint64_t group) const {
  const auto it = groups_.find(group);
  return it == groups_.end() ? nullptr : &it->second;
}

wire::PlacementGroupUpdate PlacementGroups::update_of(uint64_t number) const {
  const Group* group = find(number);
  if (group == nullptr)
    return {.group = number,
            .state = static_cast<uint8_t>(PlacementGroupState::kRemoved),
            .why = wire::to_wire(Status(Code::kNotFound, "the placement group was removed or never was")),
            .nodes = {},
            .bundles = {}};
  if (group->state == State::kReady)
    return {.group = number,
            .state = static_cast<uint8_t>(PlacementGroupState::kReady),
            .why = {},
            .nodes = group->row.nodes,
            .bundles = group->row.spec.bundles};
  return {.group = number,
          .state = static_cast<uint8_t>(PlacementGroupState::kPending),
          .why = group->why.empty() ? wire::WireStatus() : wire::to_wire(Status(Code::kUnavailable, group->why)),
          .nodes = {},
          .bundles = {}};
}

PlacementGroups::Place PlacementGroups::place_of(const wire::SchedulingClass& what) const {
  const Group* group = find(what.group);
  if (group == nullptr) return {.is_hopeless = true, .why = "its placement group was removed or never was"};
  const std::vector<wire::Resources>& bundles = group->row.spec.bundles;
  if (what.bundle >= static_cast<int32_t>(bundles.size()))
    return {.is_hopeless = true,
            .why = "its placement group has " + std::to_string(bundles.size()) + " bundles, no bundle " +
                   std::to_string(what.bundle)};
  Place place;
  for (size_t i = 0; i < bundles.size(); ++i) {
    if (what.bundle >= 0 && what.bundle != static_cast<int32_t>(i)) continue;
    if (!covers(bundles[i], what.resources)) continue;
    if (place.bundle >= 0 && group->actors[static_cast<size_t>(place.bundle)] <= group->actors[i]) continue;
    place.bundle = static_cast<int32_t>(i);
  }
  if (place.bundle < 0) return {.is_hopeless = true, .why = "no bundle of its placement group is large enough for it"};
  if (group->state != State::kReady)
    return {.why = "waits for its placement group" + (group->why.empty() ? "" : ": " + group->why)};
  place.node = group->row.nodes[static_cast<size_t>(place.bundle)];
  return place;
}

void PlacementGroups::count_actor(uint64_t group, int32_t bundle, int32_t more) {
  const auto it = groups_.find(group);
  if (it == groups_.end() || bundle < 0) return;
  it->second.actors[static_cast<size_t>(bundle)] += static_cast<uint32_t>(more);
}

void PlacementGroups::check_invariants() const {
  size_t places = 0;
  for (const auto& [number, group] : groups_) {
    MANTA_CHECK((group.state == State::kPending) == group.row.nodes.empty(), number);
    MANTA_CHECK((group.state == State::kPending) == pending_.contains(number), number);
    MANTA_CHECK((group.state == State::kPreparing) == !group.unanswered.empty(), number);
    MANTA_CHECK((group.state == State::kReady) != due_.contains({group.due_us, number}), number);
    MANTA_CHECK(group.state != State::kPending || group.charges.empty(), number);
    for (NodeNumber node : std::set<NodeNumber>(group.row.nodes.begin(), group.row.nodes.end())) {
      MANTA_CHECK(by_node_.at(node).contains(number), number, node);
      ++places;
    }
  }
  for (const auto& [node, numbers] : by_node_) places -= numbers.size();
  MANTA_CHECK(places == 0, "each place is known from both ends", places);
  MANTA_CHECK(by_request_.size() == groups_.size(), by_request_.size(), groups_.size());
}

}  // namespace manta::head

#include "actors/group_owner.h"

#include <utility>

namespace manta {

using State = detail::GroupRecord::State;

std::string GroupOwner::name_of(const detail::GroupRecord& group) {
  return group.name.empty() ? "the placement group" : "the placement group '" + group.name + "'";
}

detail::GroupHandle GroupOwner::create(wire::CreatePlacementGroup spec) {
  auto group = std::make_shared<detail::GroupRecord>();
  group->name = spec.name;
  spec.request = next_request_++;
  asked_[spec.request] = group;
  io_.create(spec);
  return group;
}

void GroupOwner::note(const detail::GroupHandle& group, uint64_t number) {
  group->number.store(number, std::memory_order_release);
  groups_[number] = group;
  if (groups_.size() < clean_at_) return;
  std::erase_if(groups_, [](const auto& entry) { return entry.second.expired(); });
  clean_at_ = 2 * groups_.size() + 64;
}

detail::GroupHandle GroupOwner::find(uint64_t number) {
  if (const auto at = groups_.find(number); at != groups_.end())
    if (auto living = at->second.lock()) return living;
  auto group = std::make_shared<detail::GroupRecord>();
  note(group, number);
  io_.get({.request = 0, .group = number});
  return group;
}

void GroupOwner::remove(detail::GroupRecord& group) {
  if (const uint64_t number = group.number; number != 0) {
    io_.remove({number});
  } else {
    group.is_to_go = true;
  }
}

detail::Handle GroupOwner::ready(detail::GroupRecord& group) {
  if (group.ready) return group.ready;
  group.ready = io_.make_object();
  complete_ready(group);
  return group.ready;
}

void GroupOwner::complete_ready(detail::GroupRecord& group) {
  if (!group.ready || group.state == State::kPending) return;
  io_.complete(*group.ready.get(), group.state == State::kReady
                                       ? Status()
                                       : Status(group.why.code(), group.why.message()).with_context(name_of(group)));
}

void GroupOwner::on_update(const wire::PlacementGroupUpdate& update) {
  detail::GroupHandle group;
  if (const auto asked = asked_.find(update.request); update.request != 0 && asked != asked_.end()) {
    group = std::move(asked->second);
    asked_.erase(asked);
    if (update.group != 0) note(group, update.group);
    if (group->is_to_go && update.group != 0) io_.remove({update.group});
  } else if (const auto known = groups_.find(update.group); known != groups_.end()) {
    group = known->second.lock();
  }
  const bool is_over = static_cast<wire::PlacementGroupState>(update.state) == wire::PlacementGroupState::kRemoved;
  if (is_over) groups_.erase(update.group);
  if (!group) return;
  group->why = wire::from_wire(update.why);
  group->nodes.clear();
  for (const uint32_t node : update.nodes) group->nodes.push_back({node});
  const bool is_ready = static_cast<wire::PlacementGroupState>(update.state) == wire::PlacementGroupState::kReady;
  group->state.store(is_over ? State::kOver : is_ready ? State::kReady : State::kPending, std::memory_order_release);
  complete_ready(*group);
}

void GroupOwner::fail_all(const Status& cause) {
  const auto end = [&](detail::GroupRecord& group) {
    if (group.state == State::kOver) return;
    group.why = cause;
    group.state.store(State::kOver, std::memory_order_release);
    complete_ready(group);
  };
  for (const auto& [request, group] : std::exchange(asked_, {})) end(*group);
  for (const auto& [number, group] : std::exchange(groups_, {}))
    if (const auto living = group.lock()) end(*living);
}

}  // namespace manta

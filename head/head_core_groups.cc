// Placement groups: who asks for them, and the actors in them.
#include "head/head_core.h"

#include "common/check.h"

#include <iterator>

namespace manta::head {

using wire::ActorKey;
using wire::ActorPhase;

void HeadCore::on_request(uint64_t from, wire::CreatePlacementGroup& message) {
  GroupStep step{policy_, now_us_, &quotas_};
  const Result<uint64_t> group = groups_.create(message, from, job_of(from), step);
  if (!group.ok())
    return answer(from, message.request,
                  {.state = static_cast<uint8_t>(wire::PlacementGroupState::kRemoved),
                   .why = wire::to_wire(group.status()),
                   .nodes = {},
                   .bundles = {}});
  answer(from, message.request, groups_.update_of(*group));
  step.changed.clear();  // told just now
  carry_out(step);
}

// A job is its driver. In a local session, which has one, workers do not know its number.
uint64_t HeadCore::job_of(uint64_t process) const {
  if (is_running(process)) return process;
  const uint64_t job = processes_.at(process).job;
  if (is_running(job)) return job;
  if (!is_alone()) return process;
  for (const auto& [driver, one] : jobs_)
    if (one.ended == 0) return driver;
  return process;
}

void HeadCore::on_request(uint64_t, wire::RemovePlacementGroup& message) {
  GroupStep step{policy_, now_us_, &quotas_};
  if (!groups_.remove(message.group, "it was removed", step)) return;
  carry_out(step);
}

void HeadCore::on_request(uint64_t from, wire::GetPlacementGroup& message) {
  groups_.watch(message.group, from);
  answer(from, message.request, groups_.update_of(message.group));
}

void HeadCore::on(wire::BundlesPrepared& message) {
  GroupStep step{policy_, now_us_, &quotas_};
  groups_.prepared(from_, message, step);
  carry_out(step);
}

void HeadCore::answer(uint64_t to, uint64_t request, wire::PlacementGroupUpdate update) {
  update.request = request;
  say(node_of_process(to), wire::GroupNotice{to, std::move(update)});
}

void HeadCore::carry_out(GroupStep& step) {
  std::ranges::move(step.records, std::back_inserter(effects_.records));
  for (wire::ToNode& one : step.messages) {
    const auto* notice = std::get_if<wire::GroupNotice>(&one.message);
    say(notice != nullptr ? node_of_process(notice->to) : one.to, std::move(one.message));
  }
  for (uint64_t number : step.changed) {
    const PlacementGroups::Group* group = groups_.find(number);
    if (group == nullptr) continue;
    std::set<uint64_t> watchers = group->watchers;
    watchers.insert(group->row.owner);  // after a restart of the head nobody else is known to watch
    for (uint64_t watcher : watchers)
      if (processes_.contains(watcher)) answer(watcher, 0, groups_.update_of(number));
    group->state == PlacementGroups::State::kReady ? retry_actors_of(number) : take_actors_out_of(number);
  }
  for (uint64_t number : step.removed) {
    const auto actors = in_group_.extract(number);
    if (!actors) continue;
    for (const ActorKey& key : actors.mapped()) {
      Actor& actor = actors_.at(key);
      end_worker(actor, false, "its placement group was removed");
      bury(actor, wire::to_wire(Status(Code::kDied, "its placement group was removed")));
    }
  }
}

// Its bundles are gone. What was on its way to a worker there is placed again; what lived there is reported by its raylet.
void HeadCore::take_actors_out_of(uint64_t group) {
  const auto actors = in_group_.find(group);
  if (actors == in_group_.end()) return;
  const std::set<ActorKey> keys = actors->second;
  for (const ActorKey& key : keys) {
    Actor& actor = actors_.at(key);
    if (actor.node == 0 || actor.phase == ActorPhase::kAlive) continue;
    ++actor.incarnation;
    place(actor);
  }
}

void HeadCore::retry_actors_of(uint64_t group) {
  const auto actors = in_group_.find(group);
  if (actors == in_group_.end()) return;
  std::vector<ActorKey> waiting;
  for (const ActorKey& key : actors->second)
    if (unplaced_.contains(key)) waiting.push_back(key);
  for (const ActorKey& key : waiting) place(actors_.at(key));
}

}  // namespace manta::head

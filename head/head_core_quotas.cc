// Quotas of jobs (job_quotas.h): when they begin, who waits for one, and what happens as soon as something was given back.
#include "head/head_core.h"

#include <algorithm>

namespace manta::head {

using wire::ActorKey;

void HeadCore::begin_quota(const JobRecord& job) {
  quotas_.begin(job.driver, wire::tighter(job.quota, settings_.job_quota));
}

void HeadCore::charge_all() {
  for (const auto& [driver, job] : jobs_)
    if (job.ended == 0) begin_quota(job);
  for (const auto& [key, actor] : actors_)
    if (actor.node != 0 && actor.spec.scheduling_class.group == 0)
      quotas_.charge(actor.spec.job, {key.owner, key.sequence}, actor.spec.scheduling_class.resources);
  groups_.charge_all(quotas_);
}

void HeadCore::note_all_there() {
  quotas_.pause(std::ranges::any_of(members_.members(),
                                    [](const auto& entry) { return entry.second.state == Membership::State::kAway; }));
}

void HeadCore::on(wire::QuotaReport& message) {
  const bool may_be_new = is_running(message.job) || (!jobs_.contains(message.job) && !is_alone() &&
                                                      members_.find(wire::node_of(message.job)) != nullptr);
  quotas_.report(from_, message, may_be_new);
}

void HeadCore::note_quota_wait(Actor& actor, bool waits) {
  if (actor.waits_for_quota == waits) return;
  actor.waits_for_quota = waits;
  auto& by_demand = quota_waits_[actor.spec.job];
  std::set<ActorKey>& keys = by_demand[actor.spec.scheduling_class.resources];
  waits ? (void)keys.insert(actor.spec.actor) : (void)keys.erase(actor.spec.actor);
  if (keys.empty()) by_demand.erase(actor.spec.scheduling_class.resources);
  if (by_demand.empty()) quota_waits_.erase(actor.spec.job);
}

// Of each demand as many as fit: what it costs does not grow with the number that wait.
void HeadCore::retry_for_quota(uint64_t job) {
  std::vector<wire::Resources> demands;
  if (const auto waits = quota_waits_.find(job); waits != quota_waits_.end())
    for (const auto& [demand, keys] : waits->second) demands.push_back(demand);
  for (const wire::Resources& demand : demands) {
    while (quotas_.lacks(job, {}, demand).empty()) {
      const auto waits = quota_waits_.find(job);
      if (waits == quota_waits_.end() || !waits->second.contains(demand)) break;
      place(actors_.at(*waits->second.at(demand).begin()));
    }
  }
}

void HeadCore::settle_quotas() {
  const std::set<uint64_t> freed = quotas_.take_freed();
  for (const uint64_t job : freed) retry_for_quota(job);
  if (!freed.empty()) groups_.room_grew(now_us_);
  for (wire::ToNode& one : quotas_.settle()) say(one.to, std::move(one.message));
}

}  // namespace manta::head

// Quotas of jobs: which requests of owners here are admitted, and what is told about them (wire/quota.h).
#include "raylet/raylet_core.h"

#include "common/check.h"

#include <algorithm>

namespace manta::raylet {

Status RayletCore::push_unadmitted(Claim claim) {
  const wire::Amounts part = quotas_.part_of(claim.job, claim.demand());
  MANTA_RETURN_IF_ERROR(wire::beyond_quota(*quotas_.quota_of(claim.job), part));
  claim.is_metered = true;
  quotas_.touch();
  return unadmitted_.push(std::move(claim));
}

// Each job has its own quota: only the owners of one are in each other's way.
LeaseQueue::Holding RayletCore::tokens_held() const {
  return [this](const Claim& claim) { return std::pair(0, quotas_.held_by(claim.owner)); };
}

bool RayletCore::admit_one() {
  if (unadmitted_.size() == 0) return false;
  for (const Claim* front : unadmitted_.fronts(tokens_held())) {
    const RequestKey key{front->owner, front->request};
    if (!quotas_.admit(key, front->job, quotas_.part_of(front->job, front->demand()))) continue;
    requeue(unadmitted_.pop(*front));
    return true;
  }
  return false;
}

std::vector<RayletCore::UnderQuota> RayletCore::leases_under_quota(JobId job) const {
  std::vector<UnderQuota> all;
  for (const auto& [id, lease] : leases_.all()) {
    const Claim& claim = lease.claim;
    if (claim.job == job && quotas_.has_token({claim.owner, claim.request}) && lease.is_active && !lease.is_ended &&
        !lease.is_reclaimed && !lease.is_actor() && !lease.grant.cpus_are_lent)
      all.push_back({id.value, {claim.owner, claim.request}, &claim.scheduling_class});
  }
  for (const auto& [id, held] : remote_leases_) {
    const RequestKey key{held.owner, held.request};
    const auto client = clients_.find(held.owner);
    if (client != clients_.end() && client->second.job == job && quotas_.has_token(key) && !quotas_.is_lent(key))
      all.push_back({id, key, &held.what});
  }
  return all;
}

// As LeaseTable::choose_reclaims, but of what the job holds by its owners here, wherever that is.
std::optional<RayletCore::UnderQuota> RayletCore::choose_for_quota(const Claim& waiting) const {
  const std::vector<UnderQuota> held = leases_under_quota(waiting.job);
  const auto count = [&](ProcessId owner, const wire::SchedulingClass* what) {
    return std::ranges::count_if(
        held, [&](const UnderQuota& one) { return one.key.first == owner && (what == nullptr || *one.what == *what); });
  };
  const wire::Amounts wanted = quotas_.part_of(waiting.job, waiting.demand());
  for (const UnderQuota& one : held) {
    const wire::Amounts part = quotas_.part_of(waiting.job, one.what->resources);
    if (std::ranges::none_of(part, [&](const auto& entry) { return wanted.contains(entry.first); })) continue;
    const bool is_own = one.key.first == waiting.owner;
    if (is_own && *one.what == waiting.scheduling_class) continue;
    if (is_own && one.what->priority != waiting.scheduling_class.priority) {
      if (waiting.scheduling_class.priority > one.what->priority) return one;
      continue;
    }
    const auto mine = count(waiting.owner, is_own ? &waiting.scheduling_class : nullptr);
    if (mine == 0 || count(one.key.first, is_own ? one.what : nullptr) > mine + 1) return one;
  }
  return std::nullopt;
}

// One of a job at a time: when it has come back, the next is looked for.
void RayletCore::reclaim_for_quotas() {
  std::erase_if(quota_reclaims_, [this](const auto& entry) { return !quotas_.has_token(entry.second); });
  if (unadmitted_.size() == 0) return;
  for (const Claim* front : unadmitted_.fronts(tokens_held())) {
    if (quota_reclaims_.contains(front->job)) continue;
    const std::optional<UnderQuota> chosen = choose_for_quota(*front);
    if (!chosen) continue;
    quota_reclaims_[front->job] = chosen->key;
    if (Lease* here = leases_.find(LeaseId{chosen->lease})) {
      ask_back(*here);
    } else {
      send(chosen->key.first, wire::ReclaimLease{chosen->lease});
    }
  }
}

void RayletCore::settle_quotas() {
  if (!quotas_.take_dirty()) return;
  do {
    quotas_.sweep();
    bool is_any = false;
    while (admit_one()) is_any = true;
    if (is_any) schedule();
  } while (quotas_.take_dirty());
  reclaim_for_quotas();
  for (wire::QuotaReport& report : quotas_.reports(quota_wants())) emit(TellHead{std::move(report)});
}

std::map<JobId, QuotaTable::Wants> RayletCore::quota_wants() const {
  std::map<JobId, QuotaTable::Wants> all;
  if (unadmitted_.size() == 0) return all;
  for (const Claim* front : unadmitted_.fronts(tokens_held())) {
    QuotaTable::Wants& wants = all[front->job];
    if (wants.size() == wire::kMaxQuotaWants) continue;
    const auto count = static_cast<uint32_t>(std::min<size_t>(unadmitted_.line_of(*front), wire::kMaxQuotaWant));
    wants.push_back({quotas_.part_of(front->job, front->demand()), count});
  }
  return all;
}

void RayletCore::is_over(ProcessId owner, uint64_t request) {
  if (!is_remote(owner.value)) return quotas_.left({owner, request}, 0);
  emit(TellLease{wire::node_of(owner.value), {owner.value, request, static_cast<uint8_t>(wire::LeaseEvent::kOver)}});
}

void RayletCore::is_over(const Claim& claim) {
  if (claim.is_metered && !claim.actor) is_over(claim.owner, claim.request);
}

void RayletCore::note_lent(const Lease& lease, bool is_lent) {
  const Claim& claim = lease.claim;
  if (lease.is_actor()) return tell_head(lease, is_lent ? wire::ActorEvent::kLent : wire::ActorEvent::kTookBack, {});
  if (!is_remote(claim.owner.value)) return quotas_.lend({claim.owner, claim.request}, 0, is_lent);
  const auto event = is_lent ? wire::LeaseEvent::kLent : wire::LeaseEvent::kTakenBack;
  emit(TellLease{wire::node_of(claim.owner.value), {claim.owner.value, claim.request, static_cast<uint8_t>(event)}});
}

void RayletCore::on(LeaseHeard& event) {
  const RequestKey key{ProcessId{event.message.owner}, event.message.request};
  switch (static_cast<wire::LeaseEvent>(event.message.event)) {
    case wire::LeaseEvent::kLent: return quotas_.lend(key, event.from, true);
    case wire::LeaseEvent::kTakenBack: return quotas_.lend(key, event.from, false);
    case wire::LeaseEvent::kOver: break;
  }
  // Granted there and taken away before it had a worker: that it was spilled back follows.
  const auto asked = asked_.find(key);
  if (asked != asked_.end() && (asked->second.node == event.from || asked->second.also == event.from)) return;
  quotas_.left(key, event.from);
}

void RayletCore::on_head(wire::QuotaShare& message) { quotas_.on_share(message); }

}  // namespace manta::raylet

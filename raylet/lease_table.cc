#include "raylet/lease_table.h"

#include <algorithm>
#include <set>

namespace manta::raylet {

Lease& LeaseTable::add(Claim claim, Grant grant) {
  const LeaseId id{next_id_++};
  if (claim.actor) actors_[{claim.actor->actor, claim.actor->incarnation}] = id;
  unplaced_.insert(id);
  return leases_[id] = Lease{.id = id, .claim = std::move(claim), .grant = std::move(grant), .worker = {}};
}

void LeaseTable::remove(LeaseId id) {
  const auto it = leases_.find(id);
  if (it == leases_.end()) return;
  if (const auto& actor = it->second.claim.actor; actor) actors_.erase({actor->actor, actor->incarnation});
  unplaced_.erase(id);
  leases_.erase(it);
}

std::vector<Lease*> LeaseTable::unplaced(size_t most) {
  std::vector<Lease*> waiting;
  for (auto it = unplaced_.begin(); it != unplaced_.end() && waiting.size() < most;) {
    Lease& lease = leases_.at(*it);
    if (lease.is_active || lease.is_ended || lease.worker) {
      it = unplaced_.erase(it);
      continue;
    }
    waiting.push_back(&lease);
    ++it;
  }
  return waiting;
}

void LeaseTable::unplace(Lease& lease) {
  lease.worker = {};
  unplaced_.insert(lease.id);
}

Lease* LeaseTable::find(LeaseId id) {
  const auto it = leases_.find(id);
  return it == leases_.end() ? nullptr : &it->second;
}

Lease* LeaseTable::find_actor(const wire::ActorKey& actor, uint32_t incarnation) {
  const auto it = actors_.find({actor, incarnation});
  return it == actors_.end() ? nullptr : find(it->second);
}

Lease* LeaseTable::find_waiting(ProcessId owner, uint64_t request) {
  for (auto& [id, lease] : leases_)
    if (!lease.is_actor() && !lease.is_active && lease.claim.owner == owner && lease.claim.request == request) return &lease;
  return nullptr;
}

int LeaseTable::held_by(ProcessId owner) const {
  return static_cast<int>(std::ranges::count_if(leases_, [&](const auto& entry) {
    const Lease& lease = entry.second;
    return !lease.is_actor() && lease.claim.owner == owner && !lease.grant.cpus_are_lent;
  }));
}

int LeaseTable::held_by(ProcessId owner, const wire::SchedulingClass& scheduling_class) const {
  return static_cast<int>(std::ranges::count_if(leases_, [&](const auto& entry) {
    const Lease& lease = entry.second;
    return !lease.is_actor() && lease.claim.owner == owner && !lease.grant.cpus_are_lent &&
           lease.claim.scheduling_class == scheduling_class;
  }));
}

int LeaseTable::held_by(JobId job) const {
  return static_cast<int>(std::ranges::count_if(leases_, [&](const auto& entry) {
    const Lease& lease = entry.second;
    return !lease.is_actor() && lease.claim.job == job && !lease.grant.cpus_are_lent;
  }));
}

bool LeaseTable::may_reclaim(const Lease& lease, const Claim& waiting) const {
  if (lease.is_actor() || lease.is_reclaimed || lease.is_ended || !lease.is_active || lease.grant.cpus_are_lent)
    return false;
  if (const int32_t bundle = waiting.scheduling_class.bundle; bundle >= 0 && bundle != lease.grant.bundle.index)
    return false;
  if (lease.claim.owner == waiting.owner) {
    if (lease.claim.scheduling_class == waiting.scheduling_class) return false;
    const int32_t priority = waiting.scheduling_class.priority;
    if (priority != lease.claim.scheduling_class.priority) return priority > lease.claim.scheduling_class.priority;
    const int mine = held_by(waiting.owner, waiting.scheduling_class);
    return mine == 0 || held_by(lease.claim.owner, lease.claim.scheduling_class) > mine + 1;
  }
  if (lease.claim.job != waiting.job) {
    const int mine = waiting.actor ? 0 : held_by(waiting.job);
    return mine == 0 || held_by(lease.claim.job) > mine + 1;
  }
  const int mine = waiting.actor ? 0 : held_by(waiting.owner);
  return mine == 0 || held_by(lease.claim.owner) > mine + 1;
}

std::vector<LeaseId> LeaseTable::choose_reclaims(const std::vector<const Claim*>& fronts, wire::Resources available,
                                                 uint64_t group) const {
  // What will be free once the leases that are on their way back have come.
  for (const auto& [id, lease] : leases_)
    if (lease.grant.bundle.group == group && (lease.is_reclaimed || lease.is_ended))
      raylet::add(available, lease.grant.amounts);
  std::vector<LeaseId> chosen;
  std::set<LeaseId> taken;
  for (const Claim* waiting : fronts) {
    wire::Resources missing = shortage(waiting->demand(), available);
    // Enough in sum and yet waiting: the free parts lie on different devices, so one more must come back.
    const bool is_on_the_way = !taken.empty() || std::ranges::any_of(leases_, [&](const auto& entry) {
      const Lease& lease = entry.second;
      return lease.grant.bundle.group == group && (lease.is_reclaimed || lease.is_ended) && lease.grant.amounts.gpus > 0;
    });
    if (is_zero(missing) && waiting->demand().gpus > 0 && !is_on_the_way) missing.gpus = waiting->demand().gpus;
    for (auto it = leases_.begin(); it != leases_.end() && !is_zero(missing); ++it) {
      const Lease& lease = it->second;
      if (taken.contains(lease.id) || lease.grant.bundle.group != group || !overlaps(lease.grant.amounts, missing) ||
          !may_reclaim(lease, *waiting))
        continue;
      taken.insert(lease.id);
      chosen.push_back(lease.id);
      raylet::add(available, lease.grant.amounts);
      missing = shortage(waiting->demand(), available);
    }
    subtract(available, waiting->demand());
  }
  return chosen;
}

}  // namespace manta::raylet

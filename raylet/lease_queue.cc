#include "raylet/lease_queue.h"

#include "common/check.h"

#include <algorithm>
#include <iterator>
#include <tuple>

namespace manta::raylet {

Status LeaseQueue::push(Claim claim) {
  size_t& waiting = waiting_of_[claim.owner];
  if (size_ >= kMaxWaiting || waiting >= kMaxWaitingOfOwner) {
    if (waiting == 0) waiting_of_.erase(claim.owner);
    return Status(Code::kFull, "too many requests for workers wait: " + std::to_string(size_) + " on this node, " +
                                   std::to_string(waiting) + " of this owner");
  }
  ++waiting;
  ++size_;
  if (claim.scheduling_class.group != 0) ++in_groups_;
  Line& line = lines_[{claim.scheduling_class, claim.owner}];
  line.push_back(std::move(claim));
  return {};
}

std::optional<Claim> LeaseQueue::take_out(const std::function<bool(const Key&)>& may_be_in,
                                          const std::function<bool(const Claim&)>& is_it) {
  for (auto line = lines_.begin(); line != lines_.end(); ++line) {
    if (!may_be_in(line->first)) continue;
    const auto it = std::ranges::find_if(line->second, is_it);
    if (it == line->second.end()) continue;
    Claim claim = std::move(*it);
    line->second.erase(it);
    if (line->second.empty()) lines_.erase(line);
    note_removed(claim.owner, claim.scheduling_class.group != 0);
    return claim;
  }
  return std::nullopt;
}

void LeaseQueue::note_removed(ProcessId owner, bool is_in_group, size_t count) {
  const auto it = waiting_of_.find(owner);
  MANTA_CHECK(it != waiting_of_.end() && it->second >= count && size_ >= count, size_);
  size_ -= count;
  if (is_in_group) in_groups_ -= count;
  if ((it->second -= count) == 0) waiting_of_.erase(it);
}

std::optional<Claim> LeaseQueue::cancel(ProcessId owner, uint64_t request) {
  return take_out([&](const Key& key) { return key.second == owner; },
                  [&](const Claim& claim) { return !claim.actor && claim.request == request; });
}

std::optional<Claim> LeaseQueue::cancel_actor(const wire::ActorKey& actor, uint32_t incarnation) {
  return take_out([](const Key&) { return true; },
                  [&](const Claim& claim) {
                    return claim.actor && claim.actor->actor == actor && claim.actor->incarnation == incarnation;
                  });
}

std::vector<uint64_t> LeaseQueue::drop_leases_of(ProcessId owner) {
  std::vector<uint64_t> metered;
  owner_served_.erase(owner);
  for (auto line = lines_.begin(); line != lines_.end();) {
    if (line->first.second == owner) {
      for (const Claim& claim : line->second)
        if (!claim.actor && claim.is_metered) metered.push_back(claim.request);
      if (const size_t dropped = std::erase_if(line->second, [](const Claim& claim) { return !claim.actor; }); dropped > 0)
        note_removed(owner, line->first.first.group != 0, dropped);
    }
    line = line->second.empty() ? lines_.erase(line) : std::next(line);
  }
  return metered;
}

std::vector<Claim> LeaseQueue::take_of_group(uint64_t group, const std::function<bool(const Claim&)>& which) {
  std::vector<Claim> taken;
  for (auto line = lines_.begin(); line != lines_.end();) {
    if (line->first.first.group == group) {
      const auto rest =
          std::stable_partition(line->second.begin(), line->second.end(), [&](const Claim& claim) { return !which(claim); });
      const auto count = static_cast<size_t>(line->second.end() - rest);
      std::move(rest, line->second.end(), std::back_inserter(taken));
      line->second.erase(rest, line->second.end());
      if (count > 0) note_removed(line->first.second, true, count);
    }
    line = line->second.empty() ? lines_.erase(line) : std::next(line);
  }
  return taken;
}

std::vector<const Claim*> LeaseQueue::fronts(const Holding& holding) const {
  struct Ranked {
    std::pair<int, int> held;
    const Claim* claim;
    uint64_t job_served;
    uint64_t owner_served;
  };
  const auto when = [](const auto& served, const auto& whom) {
    const auto it = served.find(whom);
    return it == served.end() ? 0 : it->second;
  };
  std::vector<Ranked> ranked;
  ranked.reserve(lines_.size());
  for (const auto& [key, line] : lines_) {
    const Claim& front = line.front();
    ranked.push_back({holding(front), &front, when(job_served_, front.job), when(owner_served_, front.owner)});
  }
  std::ranges::sort(ranked, {}, [](const Ranked& entry) {
    return std::tuple(entry.held, -int64_t{entry.claim->scheduling_class.priority}, entry.job_served, entry.owner_served,
                      entry.claim->sequence);
  });
  std::vector<const Claim*> fronts;
  fronts.reserve(ranked.size());
  for (const Ranked& entry : ranked) fronts.push_back(entry.claim);
  return fronts;
}

Claim LeaseQueue::pop(const Claim& front) {
  const auto line = lines_.find({front.scheduling_class, front.owner});
  MANTA_CHECK(line != lines_.end() && &line->second.front() == &front);
  Claim claim = std::move(line->second.front());
  line->second.pop_front();
  if (line->second.empty()) lines_.erase(line);
  note_removed(claim.owner, claim.scheduling_class.group != 0);
  if (owner_served_.size() >= kMaxWaiting) owner_served_.clear();
  job_served_[claim.job] = owner_served_[claim.owner] = ++served_;
  return claim;
}

size_t LeaseQueue::line_of(const Claim& front) const {
  const auto line = lines_.find({front.scheduling_class, front.owner});
  return line == lines_.end() ? 0 : line->second.size();
}

std::vector<const Claim*> LeaseQueue::all() const {
  std::vector<const Claim*> claims;
  for (const auto& [key, line] : lines_)
    for (const Claim& claim : line) claims.push_back(&claim);
  return claims;
}

}  // namespace manta::raylet

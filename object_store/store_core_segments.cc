// StoreCore: segments and slots. Who has which, what an orphan still needs, what is warm.
#include "common/check.h"
#include "object_store/hazard_page.h"
#include "object_store/store_core.h"
#include "object_store/used_map.h"

#include <algorithm>
#include <utility>

namespace manta::object_store {
namespace {

constexpr auto kTrimWhenIdle = std::chrono::seconds(10);
constexpr uint64_t kFirstSegmentBytes = uint64_t{16} << 20;
constexpr uint64_t kMostSlotsAtOnce = uint64_t{1} << 16;

uint64_t round_up(uint64_t bytes, uint64_t grain) { return (bytes + grain - 1) / grain * grain; }
uint64_t round_down(uint64_t bytes, uint64_t grain) { return bytes / grain * grain; }

}  // namespace

// ---------------------------------------------------------------------------------------------------- sizes

/// Segments are whole numbers of this: a small store is shared out in small ones.
uint64_t StoreCore::grain() const {
  return std::clamp(round_down(options_.capacity_bytes / 64, kPageBytes), kPageBytes, kSegmentGrainBytes);
}

uint64_t StoreCore::needed_bytes(uint64_t size_bytes) const {
  uint64_t needed = round_up(std::max<uint64_t>(size_bytes, 1), grain());
  return needed <= available_bytes() ? needed : round_up(std::max<uint64_t>(size_bytes, 1), kPageBytes);
}

uint64_t StoreCore::segment_size(const event::Request& request) const {
  uint64_t needed = needed_bytes(request.message.size_bytes);
  if (request.message.dedicated) return needed;
  // A nearly full store gives what is needed and little more.
  uint64_t standard = clients_.at(request.process.value).standard_segments == 0 ? kFirstSegmentBytes : kSegmentBytes;
  standard = std::min({standard, options_.capacity_bytes / 16, available_bytes() / 4});
  return std::max(needed, round_down(standard, grain()));
}

// ---------------------------------------------------------------------------------------------------- granting

/// A segment for the request, warm or new, if there is room for it.
bool StoreCore::grant(const event::Request& request) {
  bool is_new = false;
  std::optional<SegmentId> id =
      take_segment(request.process, segment_size(request), request.message.size_bytes, request.message.dedicated, is_new);
  if (!id) return false;
  Segment& segment = segments_.at(id->value);
  segment.phase = Phase::kGranted;
  segment.producer = request.process;
  Client& client = clients_.at(request.process.value);
  client.held_bytes += segment.size_bytes;
  if (!segment.dedicated) ++client.standard_segments;
  if (waiting_.size() <= 1 && !has_readers_waiting()) trim_at_ = now_ + kTrimWhenIdle;
  effect::Grant effect{request.process, request.message.request, *id, segment.size_bytes, is_new, false, segment.slots, {}};
  for (uint32_t slot : segment.slots) effect.generations.push_back(slots_[slot].generation);
  effects_.emplace_back(std::move(effect));
  return true;
}

std::optional<SegmentId> StoreCore::take_segment(ProcessId process, uint64_t size_bytes, uint64_t object_bytes,
                                                 bool dedicated, bool& is_new) {
  std::optional<SegmentId> warm = find_warm(process, object_bytes, dedicated);
  is_new = !warm;
  if (warm) {
    Segment& segment = segments_.at(warm->value);
    warm_bytes_ -= segment.held_bytes;
    if (std::exchange(segment.is_prepared, false)) want_prepared_again();
    return warm;
  }
  const std::optional<SegmentId> made = make_segment(size_bytes, dedicated);
  if (made) want_prepared_again();
  return made;
}

std::optional<SegmentId> StoreCore::make_segment(uint64_t size_bytes, bool dedicated) {
  if (!make_room(size_bytes)) return std::nullopt;
  SegmentId id{last_segment_ + 1};
  std::optional<std::vector<uint32_t>> slots =
      take_slots(dedicated ? 1 : std::max<uint64_t>(size_bytes / kSlotBytes, 1), id);
  if (!slots) return std::nullopt;
  last_segment_ = id.value;
  Segment& segment = segments_[id.value];
  segment.size_bytes = size_bytes;
  segment.dedicated = dedicated;
  segment.slots = std::move(*slots);
  set_held(segment, size_bytes);
  return id;
}

/// The best empty segment: one that this process wrote before (its mapping is warm too), else the smallest that does.
std::optional<SegmentId> StoreCore::find_warm(ProcessId process, uint64_t size_bytes, bool dedicated) const {
  std::optional<SegmentId> best;
  if (warm_bytes_ == 0) return best;
  auto rank = [&](const Segment& segment) { return std::pair(segment.producer != process, segment.size_bytes); };
  for (const auto& [id, segment] : segments_) {
    if (segment.phase != Phase::kWarm || segment.dedicated != dedicated) continue;
    if (segment.size_bytes < size_bytes) continue;
    if (dedicated && segment.size_bytes > 2 * round_up(size_bytes, kSegmentGrainBytes)) continue;
    if (!best || rank(segment) < rank(segments_.at(best->value))) best = SegmentId{id};
  }
  return best;
}

/// Retires warm segments, longest idle first, until `bytes` more fit.
bool StoreCore::make_room(uint64_t bytes) {
  if (bytes > available_bytes()) return false;
  while (held_bytes_ + bytes > options_.capacity_bytes) {
    const std::pair<const uint64_t, Segment>* oldest = nullptr;
    for (const auto& entry : segments_) {
      if (entry.second.phase == Phase::kWarm && (oldest == nullptr || entry.second.idle_since < oldest->second.idle_since)) {
        oldest = &entry;
      }
    }
    retire({oldest->first});
  }
  return true;
}

void StoreCore::give_more_slots(const event::Request& event) {
  auto found = segments_.find(event.message.more_slots);
  if (found == segments_.end() || found->second.phase != Phase::kGranted || found->second.producer != event.process ||
      found->second.dedicated) {
    effects_.emplace_back(
        effect::Reject{event.process, Status(Code::kInvalid, "it asked for slots of a segment that is not its own")});
    return;
  }
  Segment& segment = found->second;
  uint64_t count = std::min({uint64_t{segment.slots.size()}, kMostSlotsAtOnce, kMaxSegmentSlots - segment.slots.size()});
  std::optional<std::vector<uint32_t>> slots = count == 0 ? std::nullopt : take_slots(count, {event.message.more_slots});
  if (!slots) return refuse(event, Code::kFull, "no more objects than it holds can lie in one segment");
  effect::Grant effect{
      event.process, event.message.request, {event.message.more_slots}, segment.size_bytes, false, true, *slots, {}};
  for (uint32_t slot : *slots) effect.generations.push_back(slots_[slot].generation);
  segment.slots.insert(segment.slots.end(), slots->begin(), slots->end());
  effects_.emplace_back(std::move(effect));
}

std::optional<std::vector<uint32_t>> StoreCore::take_slots(uint64_t count, SegmentId segment) {
  if (count > free_slots_.size() + (options_.slots - slots_.size())) return std::nullopt;
  std::vector<uint32_t> taken;
  taken.reserve(count);
  while (taken.size() < count) {
    if (free_slots_.empty()) {
      free_slots_.push_back(static_cast<uint32_t>(slots_.size()));
      slots_.emplace_back();
    }
    taken.push_back(free_slots_.back());
    free_slots_.pop_back();
    slots_[taken.back()].segment = segment.value;
    slots_[taken.back()].state = SlotState::kIdle;
  }
  return taken;
}

void StoreCore::release_slot(uint32_t slot) {
  slots_[slot].segment = 0;
  slots_[slot].state = SlotState::kFree;
  early_frees_.erase(slot);
  free_slots_.push_back(slot);
}

void StoreCore::set_held(Segment& segment, uint64_t bytes) {
  held_bytes_ = held_bytes_ - segment.held_bytes + bytes;
  segment.held_bytes = bytes;
}

// ---------------------------------------------------------------------------------------------------- coming back

void StoreCore::on(const event::Return& event) {
  auto found = segments_.find(event.segment.value);
  auto reject = [&](const char* why) {
    effects_.emplace_back(effect::Reject{
        event.process, Status(Code::kInvalid, "it returned segment " + event.segment.to_string() + ", which is " + why)});
  };
  if (found == segments_.end() || found->second.phase != Phase::kGranted || found->second.producer != event.process)
    return reject("not its own");
  Segment& segment = found->second;
  relieve_at_.reset();
  if (event.from_offset == 0) {
    if (segment.occupied > 0) return reject("not empty");
    make_warm(event.segment);
    serve();
    if (is_short()) request_scan();
    return;
  }
  if (segment.dedicated || event.from_offset % kPageBytes != 0 || event.from_offset >= segment.size_bytes ||
      UsedMap(segment.used).any(event.from_offset, segment.size_bytes - event.from_offset))
    return reject("not empty at its end");
  uint64_t bytes = segment.size_bytes - event.from_offset;
  effects_.emplace_back(effect::Punch{event.segment, event.from_offset, bytes});
  clients_.at(event.process.value).held_bytes -= bytes;
  segment.size_bytes = event.from_offset;
  segment.is_cut = true;
  set_held(segment, segment.held_bytes - bytes);
  serve();
}

void StoreCore::on(const event::Failed& event) {
  Segment& segment = segments_.at(event.segment.value);
  leave_producer(segment);
  retire(event.segment);
  serve();
}

/// Takes a granted segment out of its producer's account.
void StoreCore::leave_producer(Segment& segment) {
  auto client = clients_.find(segment.producer.value);
  if (client == clients_.end()) return;
  client->second.held_bytes -= segment.size_bytes;
  if (!segment.dedicated) --client->second.standard_segments;
}

void StoreCore::make_warm(SegmentId id) {
  Segment& segment = segments_.at(id.value);
  if (segment.phase == Phase::kGranted) leave_producer(segment);
  if (segment.phase == Phase::kOwn) own_.erase(id.value);
  segment.phase = Phase::kOrphan;
  if (segment.is_cut) return retire(id);  // its file is longer than what is left: not for another grant
  segment.phase = Phase::kWarm;
  segment.idle_since = now_;
  segment.used = {};
  segment.idle_slots = {};
  segment.allocator.reset();
  warm_bytes_ += segment.held_bytes;
  size_t keep = segment.dedicated ? 1 : std::max<size_t>(segment.size_bytes / kSlotBytes, 1);
  while (segment.slots.size() > keep) {
    release_slot(segment.slots.back());
    segment.slots.pop_back();
  }
  for (uint32_t slot : segment.slots) early_frees_.erase(slot);
}

void StoreCore::retire(SegmentId id) {
  Segment& segment = segments_.at(id.value);
  if (segment.phase == Phase::kWarm) warm_bytes_ -= segment.held_bytes;
  if (segment.phase == Phase::kOwn) own_.erase(id.value);
  set_held(segment, 0);
  for (uint32_t slot : segment.slots) release_slot(slot);
  segments_.erase(id.value);
  effects_.emplace_back(effect::Retire{id});
}

// ---------------------------------------------------------------------------------------------------- orphans

/// The producer is gone. What it had not sealed vanishes, once no reader has it pinned (it may have told one of an object
/// whose Sealed was lost with it).
void StoreCore::orphan(SegmentId id, Segment& segment) {
  segment.phase = Phase::kOrphan;
  for (uint32_t slot : segment.slots) {
    if (slots_[slot].state != SlotState::kIdle) continue;
    tell_holders(hazard_key(slot, slots_[slot].generation));  // a node that was quicker than the producer's Sealed
    bump(slot);
  }
  segment.quarantined = true;
  quarantine_.insert(id.value);
}

void StoreCore::settle_orphan(SegmentId id, Segment& segment) {
  segment.quarantined = false;
  quarantine_.erase(id.value);
  if (segment.occupied == 0) {
    make_warm(id);
    return;
  }
  std::erase_if(segment.slots, [&](uint32_t slot) {
    if (slots_[slot].state != SlotState::kIdle) return false;
    release_slot(slot);
    return true;
  });
  punch_gaps(id, segment);
}

/// Gives back every whole page of an orphan that no object touches.
void StoreCore::punch_gaps(SegmentId id, Segment& segment) {
  std::vector<std::pair<uint64_t, uint64_t>> extents;
  for (uint32_t slot : segment.slots) extents.emplace_back(slots_[slot].offset, slots_[slot].size_bytes);
  std::sort(extents.begin(), extents.end());
  uint64_t end = 0;  // of what is kept so far
  uint64_t kept = 0;
  auto gap = [&](uint64_t from, uint64_t to) {
    if (to > from) effects_.emplace_back(effect::Punch{id, from, to - from});
  };
  for (auto [offset, size_bytes] : extents) {
    uint64_t first = std::max(end, round_down(offset, kPageBytes));
    uint64_t last = std::max(first, round_up(offset + extent_bytes(size_bytes), kPageBytes));
    gap(end, first);
    kept += last - first;
    end = last;
  }
  gap(end, segment.size_bytes);
  set_held(segment, kept);
}

/// The whole pages of a freed extent of an orphan that no other object touches.
void StoreCore::punch_freed(SegmentId id, Segment& segment, uint64_t offset, uint64_t bytes) {
  UsedMap used(segment.used);
  uint64_t first = round_down(offset, kPageBytes);
  uint64_t last = std::min(round_up(offset + bytes, kPageBytes), round_up(segment.size_bytes, kPageBytes));
  if (used.any(first, std::min(first + kPageBytes, segment.size_bytes) - first)) first += kPageBytes;
  if (last > first && used.any(last - kPageBytes, std::min(last, segment.size_bytes) - (last - kPageBytes)))
    last -= kPageBytes;
  if (first >= last) return;
  effects_.emplace_back(effect::Punch{id, first, last - first});
  set_held(segment, segment.held_bytes - (last - first));
}

}  // namespace manta::object_store

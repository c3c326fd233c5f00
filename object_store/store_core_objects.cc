// StoreCore: objects in memory. Sealing, freeing, limbo, and what pins say.
#include "common/check.h"
#include "object_store/hazard_page.h"
#include "object_store/store_core.h"
#include "object_store/used_map.h"

namespace manta::object_store {
namespace {

constexpr auto kScanEvery = std::chrono::milliseconds(20);
constexpr auto kTrimWhenIdle = std::chrono::seconds(10);

}  // namespace

// ---------------------------------------------------------------------------------------------------- sealing

Status StoreCore::check_seal(const event::Seal& event) {
  const wire::ObjectLocation& at = event.message.location;
  auto bad = [&](const char* what) {
    return Status(Code::kInvalid, std::string("it sealed an object ") + what + " (segment " + std::to_string(at.segment) +
                                      ", offset " + std::to_string(at.offset) + ", " + std::to_string(at.size_bytes) +
                                      " bytes, slot " + std::to_string(at.slot) + ")");
  };
  auto found = segments_.find(at.segment);
  if (found == segments_.end() || found->second.phase != Phase::kGranted || found->second.producer != event.process) {
    return bad("in a segment that is not its own");
  }
  Segment& segment = found->second;
  if (at.offset % kAlignment != 0 || at.size_bytes > segment.size_bytes || at.offset >= segment.size_bytes ||
      extent_bytes(at.size_bytes) > segment.size_bytes - at.offset) {
    return bad("outside its segment");
  }
  bool taken = segment.dedicated ? segment.occupied > 0 : UsedMap(segment.used).any(at.offset, extent_bytes(at.size_bytes));
  if (taken) return bad("over another object");
  if (at.slot >= slots_.size() || slots_[at.slot].segment != at.segment || slots_[at.slot].state != SlotState::kIdle ||
      slots_[at.slot].generation != at.generation) {
    return bad("under a slot that is not its to use");
  }
  if (event.message.object_sequence == 0) return bad("without an id");
  return {};
}

void StoreCore::on(const event::Seal& event) {
  if (Status status = check_seal(event); !status.ok()) {
    effects_.emplace_back(effect::Reject{event.process, std::move(status)});
    return;
  }
  if (!is_short()) trim_at_ = now_ + kTrimWhenIdle;
  const wire::ObjectLocation& at = event.message.location;
  Segment& segment = segments_.at(at.segment);
  ++segment.occupied;
  if (!segment.dedicated) UsedMap(segment.used).set(at.offset, extent_bytes(at.size_bytes));
  Slot& slot = slots_[at.slot];
  slot.state = SlotState::kLive;
  slot.offset = at.offset, slot.size_bytes = at.size_bytes;
  slot.owner = event.message.object_owner, slot.sequence = event.message.object_sequence;
  make_newest(at.slot);
  ++objects_;
  object_bytes_ += at.size_bytes;
  // The owner is told over another connection, so its Free may be read first; or it may have ended.
  auto early = early_frees_.find(at.slot);
  bool freed = gone_.contains(slot.owner) || is_lost(slot.owner) ||
               (early != early_frees_.end() && early->second.value == slot.owner);
  early_frees_.erase(at.slot);
  if (moves_ && !freed) moves_->fresh.push_back(hazard_key(at.slot, at.generation));
  if (!freed) return;
  free_slot(at.slot);
  request_scan();
}

// ---------------------------------------------------------------------------------------------------- freeing

void StoreCore::on(const event::Freed& event) {
  for (const wire::ObjectLocation& object : event.objects) {
    if (!is_remote(object) && !free_one(event.process, object)) ++ignored_frees_;
  }
  forward_frees(event);
}

/// Whoever owned them is gone.
void StoreCore::free_all_of(const std::function<bool(uint64_t owner)>& is_gone) {
  std::vector<Name> named;
  for (const auto& [name, spilled] : spilled_) {
    if (!spilled.home && is_gone(spilled.id.owner)) named.push_back(name);
  }
  for (Name name : named) free_spilled(spilled_.find(name));
  for (uint32_t slot = 0; slot < slots_.size(); ++slot) {
    if (slots_[slot].state == SlotState::kLive && slots_[slot].name == 0 && is_gone(slots_[slot].owner)) free_slot(slot);
  }
}

bool StoreCore::free_one(ProcessId process, const wire::ObjectLocation& object) {
  auto spilled = spilled_.find(hazard_key(object.slot, object.generation));
  if (spilled != spilled_.end()) {
    if (spilled->second.id.owner != process.value) return false;
    free_spilled(spilled);
    request_scan();
    return true;
  }
  if (object.slot >= slots_.size()) return false;
  Slot& slot = slots_[object.slot];
  if (slot.generation != object.generation || slot.segment == 0 || slot.segment != object.segment) return false;
  if (slot.state == SlotState::kIdle) {  // its Sealed is still on the way
    if (segments_.at(object.segment).phase != Phase::kGranted) return false;
    early_frees_[object.slot] = process;
    return true;
  }
  if (slot.state != SlotState::kLive || slot.name != 0 || slot.offset != object.offset) return false;
  if (slot.owner != process.value) return false;
  free_slot(object.slot);
  request_scan();
  return true;
}

/// A live object in memory that has no record on disk (any more).
void StoreCore::free_slot(uint32_t slot) {
  --objects_;
  object_bytes_ -= slots_[slot].size_bytes;
  const Name name = hazard_key(slot, slots_[slot].generation);
  tell_holders(name);
  no_move(name);
  to_limbo(slot);
}

/// No new pin succeeds from here on; the memory waits for a scan that shows no old one.
void StoreCore::to_limbo(uint32_t slot) {
  unlink(slot);
  slots_[slot].state = SlotState::kLimbo;
  bump(slot);
  limbo_.insert(slot);
}

void StoreCore::bump(uint32_t slot) {
  uint32_t& generation = slots_[slot].generation;
  generation = generation == ~uint32_t{0} ? 1 : generation + 1;
  early_frees_.erase(slot);
  effects_.emplace_back(effect::SetGeneration{slot, generation});
}

// ---------------------------------------------------------------------------------------------------- pins

void StoreCore::on(const event::Scanned& event) {
  // By slot alone: an object that was evicted and is back where it was has readers of both generations.
  Pins pins;
  for (uint64_t key : event.pins) pins.slots.insert(slot_of(key));
  ReclaimedOf reclaimed;
  for (uint32_t slot : std::vector(limbo_.begin(), limbo_.end())) {
    if (!pins.contains(slot) && !slots_[slot].writing) reclaim(slot, reclaimed);
  }
  for (uint64_t id : std::vector(quarantine_.begin(), quarantine_.end())) {
    Segment& segment = segments_.at(id);
    bool pinned = std::any_of(segment.slots.begin(), segment.slots.end(),
                              [&](uint32_t slot) { return slots_[slot].state == SlotState::kIdle && pins.contains(slot); });
    if (!pinned) settle_orphan({id}, segment);
  }
  for (auto& [process, objects] : reclaimed) effects_.emplace_back(effect::Reclaim{{process}, std::move(objects)});
  if (!reclaimed.empty() && is_short()) {
    relieve_at_ = now_ + kScanEvery;
    trim_clients();
  }
  serve();
  if (is_short()) relieve(pins);
  bool again = !limbo_.empty() || !quarantine_.empty() || (is_short() && (options_.spill_bytes > 0 || clean_ > 0));
  scan_at_ = again ? std::optional<Time>(now_ + kScanEvery) : std::nullopt;
}

void StoreCore::reclaim(uint32_t index, ReclaimedOf& reclaimed) {
  Slot& slot = slots_[index];
  SegmentId id{slot.segment};
  Segment& segment = segments_.at(id.value);
  limbo_.erase(index);
  if (slot.name != 0) {
    const auto entry = spilled_.find(slot.name);
    entry->second.slot = kNoSlot;
    slot.name = 0;
    --evicted_;
    if (entry->second.home) forget_copy(entry);
  }
  slot.state = SlotState::kIdle;
  --segment.occupied;
  uint64_t bytes = extent_bytes(slot.size_bytes);
  if (!segment.dedicated) UsedMap(segment.used).clear(slot.offset, bytes);
  if (segment.phase == Phase::kGranted && !segment.dedicated) {
    reclaimed[segment.producer.value].push_back({id.value, slot.offset, slot.size_bytes, index, slot.generation});
  } else if (segment.phase == Phase::kGranted || (segment.phase == Phase::kOwn && segment.occupied == 0)) {
    make_warm(id);
  } else if (segment.phase == Phase::kOwn) {
    MANTA_CHECK(segment.allocator->give_back(slot.offset, bytes), id.value, slot.offset, bytes);
    segment.idle_slots.push_back(index);
  } else if (!segment.quarantined && segment.occupied == 0) {
    retire(id);
  } else if (!segment.quarantined) {
    punch_freed(id, segment, slot.offset, bytes);
  }
}

// ---------------------------------------------------------------------------------------------------- age

void StoreCore::make_newest(uint32_t slot) {
  if (newest_ == slot) return;
  unlink(slot);
  slots_[slot].older = newest_;
  (newest_ == kNoSlot ? oldest_ : slots_[newest_].newer) = slot;
  newest_ = slot;
}

void StoreCore::unlink(uint32_t index) {
  Slot& slot = slots_[index];
  if (slot.newer == kNoSlot && newest_ != index) return;  // not in the list
  (slot.newer == kNoSlot ? newest_ : slots_[slot.newer].older) = slot.older;
  (slot.older == kNoSlot ? oldest_ : slots_[slot.older].newer) = slot.newer;
  slot.newer = slot.older = kNoSlot;
}

std::optional<wire::ObjectLocation> StoreCore::find(uint32_t slot, uint32_t generation) const {
  const bool is_there =
      slot < slots_.size() && slots_[slot].state == SlotState::kLive && slots_[slot].generation == generation;
  return is_there ? std::optional(location_of(slot)) : std::nullopt;
}

wire::ObjectLocation StoreCore::location_of(uint32_t slot) const {
  const Slot& at = slots_[slot];
  return {at.segment, at.offset, at.size_bytes, slot, at.generation};
}

}  // namespace manta::object_store

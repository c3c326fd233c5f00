// StoreCore: what goes to disk when memory is short, and how it comes back.
//
// The oldest object that nobody pins goes first, and with it what lies in its segment, so that whole segments get empty.
// What has a record on disk already goes without writing. An object that is pinned when somebody looks counts as new.
#include "common/check.h"
#include "object_store/hazard_page.h"
#include "object_store/spill_format.h"
#include "object_store/store_core.h"
#include "object_store/used_map.h"

#include <algorithm>
#include <utility>

namespace manta::object_store {
namespace {

constexpr auto kHotFor = std::chrono::milliseconds(100);
constexpr auto kHotAfterPrefetch = std::chrono::seconds(1);
constexpr auto kDiskAgainAfter = std::chrono::seconds(1);
constexpr auto kPatienceWithDisk = std::chrono::seconds(100);
constexpr uint64_t kMaxWrites = 4;
constexpr uint64_t kMaxReads = 8;
constexpr uint64_t kMaxWantedBytes = uint64_t{64} << 20;  // for all in the restore queue together
constexpr uint64_t kMaxRestoresPerClient = 4'096;
constexpr uint64_t kOwnSegmentBytes = uint64_t{16} << 20;
constexpr size_t kMaxRecordsPerFile = 65'536;

const wire::ObjectLocation kNowhere;

wire::TransferPriority priority_of(const wire::RestoreObject& message) {
  return std::min(static_cast<wire::TransferPriority>(message.priority), wire::TransferPriority::kArgument);
}

}  // namespace

// ---------------------------------------------------------------------------------------------------- memory is short

/// What must get free for those who wait.
uint64_t StoreCore::wanted_bytes() const {
  uint64_t wanted = 0;
  auto consider = [&](const Queue& queue) {
    for (const auto& [turn, name] : queue) {
      if (wanted >= kMaxWantedBytes) break;
      wanted += needed_bytes(spilled_.at(name).size_bytes);
    }
  };
  consider(restore_queue_);
  if (pulls_lack_room_) consider(pull_queue_);
  if (!waiting_.empty()) {
    const wire::RequestSegment& first = waiting_.front().request.message;
    wanted += needed_bytes(first.size_bytes);
    // Who puts many objects goes on while the disk makes room for the next ones.
    if (!first.dedicated) wanted += std::min(options_.capacity_bytes / 8, kMaxWantedBytes);
  }
  return std::min(wanted, options_.capacity_bytes);
}

void StoreCore::relieve(const Pins& pins) {
  if ((options_.spill_bytes == 0 && clean_ == 0) || (relieve_at_ && *relieve_at_ > now_)) return;
  const uint64_t wanted = wanted_bytes();
  uint64_t coming = available_bytes() + writing_bytes_;
  std::vector<uint32_t> in_use;
  for (uint32_t slot = oldest_; slot != kNoSlot && coming < wanted;) {
    if (clean_ == 0 && !can_write(kPageBytes)) break;
    if (is_victim(slot, pins)) {
      coming += evict_with_neighbours(slot, pins, wanted - coming);
      slot = oldest_;  // the list has changed
      continue;
    }
    if (pins.contains(slot)) in_use.push_back(slot);
    slot = slots_[slot].newer;
  }
  for (uint32_t slot : in_use) {
    make_newest(slot);
    if (slots_[slot].name != 0) spilled_.at(slots_[slot].name).hot_until = now_;  // its pin protects it from here on
  }
}

bool StoreCore::is_victim(uint32_t index, const Pins& pins) const {
  const Slot& slot = slots_[index];
  if (slot.state != SlotState::kLive || slot.writing || pins.contains(index)) return false;
  if (slot.name != 0) return spilled_.at(slot.name).hot_until <= now_;
  return can_write(record_bytes(slot.size_bytes));
}

bool StoreCore::can_write(uint64_t disk_bytes) const {
  if (writes_ >= kMaxWrites || (disk_again_at_ && *disk_again_at_ > now_)) return false;
  return disk_has_room(disk_bytes);
}

/// A part is kept for those who read: without it, a full disk and a full memory of objects without records would lock each
/// other out.
bool StoreCore::disk_has_room(uint64_t bytes) const {
  uint64_t reserve = has_readers_waiting() ? 0 : options_.spill_bytes / 8;
  return disk_bytes_ + bytes <= options_.spill_bytes - reserve;
}

/// `first` and others of its segment, until a file is full; returns the bytes that get free.
uint64_t StoreCore::evict_with_neighbours(uint32_t first, const Pins& pins, uint64_t wanted_bytes) {
  uint64_t found = 0, disk_bytes = 0;
  std::vector<uint32_t> to_write;
  auto take = [&](uint32_t slot) {
    found += extent_bytes(slots_[slot].size_bytes);
    if (slots_[slot].name != 0) {
      evict(slot);
      request_scan();
    } else {
      disk_bytes += record_bytes(slots_[slot].size_bytes);
      to_write.push_back(slot);
    }
  };
  const Segment& segment = segments_.at(slots_[first].segment);
  take(first);
  for (uint32_t slot : segment.slots) {
    if (disk_bytes >= kSpillFileBytes || to_write.size() >= kMaxRecordsPerFile) break;
    if (found >= wanted_bytes && to_write.empty()) break;  // what is clean is worth keeping
    if (slot == first || !is_victim(slot, pins)) continue;
    if (slots_[slot].name != 0 || can_write(disk_bytes + record_bytes(slots_[slot].size_bytes))) take(slot);
  }
  if (!to_write.empty()) write_out(std::move(to_write), disk_bytes);
  return found;
}

void StoreCore::write_out(std::vector<uint32_t> slots, uint64_t disk_bytes) {
  effect::WriteSpill effect{++last_file_, {slots_[slots.front()].segment}, {}};
  uint64_t offset = 0;
  for (uint32_t index : slots) {
    Slot& slot = slots_[index];
    slot.writing = true;
    unlink(index);
    writing_bytes_ += extent_bytes(slot.size_bytes);
    SpillRecord record{offset, record_bytes(slot.size_bytes), 0};
    offset += record.size_bytes;
    effect.objects.push_back({slot.offset, slot.size_bytes, {slot.owner, slot.sequence}, record});
  }
  files_[last_file_] = {1, disk_bytes, std::move(slots)};
  disk_bytes_ += disk_bytes;
  ++writes_;
  effects_.emplace_back(std::move(effect));
}

void StoreCore::on(const event::SpillDone& event) {
  --writes_;
  disk_status_ = {};
  std::vector<uint32_t> slots = std::move(files_.at(event.file).writing);
  MANTA_CHECK(slots.size() == event.checksums.size(), slots.size(), event.checksums.size());
  uint64_t offset = 0;
  for (size_t i = 0; i < slots.size(); ++i) {
    Slot& slot = slots_[slots[i]];
    SpillRecord record{offset, record_bytes(slot.size_bytes), event.checksums[i]};
    offset += record.size_bytes;
    slot.writing = false;
    writing_bytes_ -= extent_bytes(slot.size_bytes);
    ++files_.at(event.file).records;
    if (slot.state != SlotState::kLive) {  // freed meanwhile
      drop_record(event.file, record);
      continue;
    }
    slot.name = hazard_key(slots[i], slot.generation);
    Spilled& spilled = spilled_[slot.name];
    spilled.size_bytes = slot.size_bytes;
    spilled.id = {slot.owner, slot.sequence};
    spilled.file = event.file;
    spilled.record = record;
    ++clean_;
    evict(slots[i]);
  }
  leave_file(event.file);  // the writing itself
  request_scan();
}

void StoreCore::on(const event::SpillFailed& event) {
  --writes_;
  disk_status_ = event.status;
  disk_again_at_ = now_ + kDiskAgainAfter;
  auto file = files_.find(event.file);
  for (uint32_t index : file->second.writing) {
    slots_[index].writing = false;
    writing_bytes_ -= extent_bytes(slots_[index].size_bytes);
    if (slots_[index].state == SlotState::kLive) make_newest(index);
  }
  disk_bytes_ -= file->second.disk_bytes;
  files_.erase(file);
  request_scan();
}

/// Out of memory, as far as new readers go; its bytes stay while old ones have them pinned.
void StoreCore::evict(uint32_t slot) {
  Spilled& spilled = spilled_.at(slots_[slot].name);
  to_limbo(slot);
  spilled.place = Place::kDisk;
  spilled.slot = slot;
  ++evicted_;
  leaves_memory(spilled);
}

void StoreCore::comes_to_memory(Spilled& spilled) {
  ++clean_;
  if (spilled.home) {
    ++resident_copies_;
    copy_bytes_ += spilled.size_bytes;
  } else {
    --spilled_objects_;
    spilled_bytes_ -= spilled.size_bytes;
  }
}

void StoreCore::leaves_memory(Spilled& spilled) {
  --clean_;
  if (spilled.home) {
    --resident_copies_;
    copy_bytes_ -= spilled.size_bytes;
  } else {
    ++spilled_objects_;
    spilled_bytes_ += spilled.size_bytes;
  }
}

// ---------------------------------------------------------------------------------------------------- files

void StoreCore::drop_record(uint64_t file, const SpillRecord& record) {
  if (files_.at(file).records > 1 && record.size_bytes > kPunchedFrom)
    effects_.emplace_back(effect::PunchSpill{file, record});
  leave_file(file);
}

void StoreCore::leave_file(uint64_t id) {
  auto file = files_.find(id);
  if (--file->second.records > 0) return;
  disk_bytes_ -= file->second.disk_bytes;
  files_.erase(file);
  effects_.emplace_back(effect::RemoveSpill{id});
}

void StoreCore::on(const event::SpillPunched& event) {
  auto file = files_.find(event.file);
  if (file == files_.end() || file->second.disk_bytes < event.size_bytes) return;
  file->second.disk_bytes -= event.size_bytes;
  disk_bytes_ -= event.size_bytes;
}

/// Its owner freed it.
void StoreCore::free_spilled(SpilledEntry entry) {
  free_spilled(entry, Status(Code::kLost, "object " + entry->second.id.to_string() + " was freed by its owner"));
}

void StoreCore::free_spilled(SpilledEntry entry, const Status& why) {
  Spilled& spilled = entry->second;
  if (spilled.freed) return;
  if (!spilled.home) {
    --objects_;
    object_bytes_ -= spilled.size_bytes;
    tell_holders(entry->first);
    no_move(entry->first);
  }
  answer_all(spilled, kNowhere, why);
  const bool in_memory = spilled.place == Place::kResident;
  if (in_memory) leaves_memory(spilled);
  if (!spilled.home && spilled.place != Place::kDamaged) {
    --spilled_objects_;
    spilled_bytes_ -= spilled.size_bytes;
  }
  if (spilled.place == Place::kRestoring) {
    spilled.freed = true;  // the rest follows when it was read
    return;
  }
  if (spilled.place == Place::kQueued) dequeue(spilled);
  if (spilled.place == Place::kDisk && spilled.slot != kNoSlot) --evicted_;
  if (spilled.slot != kNoSlot) slots_[spilled.slot].name = 0;
  if (in_memory) to_limbo(spilled.slot);
  if (spilled.home) return forget_copy(entry);
  drop_record(spilled.file, spilled.record);
  spilled_.erase(entry);
}

// ---------------------------------------------------------------------------------------------------- restoring

void StoreCore::answer(const Waiter& waiter, const wire::ObjectLocation& location, const Status& status) {
  auto client = clients_.find(waiter.process.value);
  if (client == clients_.end()) return;
  --client->second.restores;
  effects_.emplace_back(effect::Restored{waiter.process, waiter.request, location, status});
}

void StoreCore::answer_all(Spilled& spilled, const wire::ObjectLocation& location, const Status& status) {
  for (const Waiter& waiter : spilled.waiters) answer(waiter, location, status);
  spilled.waiters.clear();
}

void StoreCore::on(const event::Restore& event) {
  auto client = clients_.find(event.process.value);
  if (client == clients_.end()) return;
  ++client->second.restores;
  const wire::ObjectLocation asked = adopted(event.message.location);
  Waiter waiter{.process = event.process,
                .request = event.message.request,
                .deadline = now_ + std::chrono::milliseconds(event.message.timeout_ms),
                .timeout_ms = event.message.timeout_ms,
                .is_patient = event.message.is_patient,
                .since = now_};
  if (client->second.restores > kMaxRestoresPerClient)
    return answer(waiter, kNowhere, Status(Code::kFull, "this process waits for too many objects from disks and nodes"));
  if (is_remote(asked)) return restore_copy(event.message, waiter, priority_of(event.message));
  if (asked.slot < slots_.size() && slots_[asked.slot].state == SlotState::kLive &&
      slots_[asked.slot].generation == asked.generation)
    return answer(waiter, location_of(asked.slot), {});  // it asked for what is there
  auto entry = spilled_.find(hazard_key(asked.slot, asked.generation));
  if (entry == spilled_.end() || entry->second.freed) {
    return answer(
        waiter, kNowhere,
        Status(Code::kLost, "the object in segment " + std::to_string(asked.segment) + " is not in the store any more"));
  }
  Spilled& spilled = entry->second;
  if (spilled.place == Place::kDamaged) return answer(waiter, kNowhere, *spilled.damage);
  spilled.waiters.push_back(waiter);
  bring(entry, priority_of(event.message));
}

/// Somebody waits for it, or will: what is in memory is told at once, the rest has to come.
void StoreCore::bring(SpilledEntry entry, wire::TransferPriority priority) {
  Spilled& spilled = entry->second;
  if (!spilled.waiters.empty()) consider_restore_deadline(spilled.waiters.back().deadline);
  if (spilled.place == Place::kResident) {
    is_back(spilled);
  } else if (spilled.place == Place::kDisk && spilled.slot != kNoSlot) {  // readers kept it in memory
    limbo_.erase(spilled.slot);
    --evicted_;
    is_back(spilled);
  } else if (spilled.place == Place::kDisk) {
    if (!has_readers_waiting()) relieve_at_.reset();
    enqueue(entry, priority);
    serve();
    if (is_short()) ask_for_memory();
  } else if (spilled.place == Place::kQueued && priority < spilled.turn.first) {
    dequeue(spilled);
    enqueue(entry, priority);
    serve();
  }
}

void StoreCore::enqueue(SpilledEntry entry, wire::TransferPriority priority) {
  Spilled& spilled = entry->second;
  spilled.place = Place::kQueued;
  spilled.turn = {priority, ++last_turn_};
  (spilled.home ? pull_queue_ : restore_queue_).emplace(spilled.turn, entry->first);
  if (spilled.wanted_until > now_) consider_restore_deadline(spilled.wanted_until);
}

void StoreCore::dequeue(Spilled& spilled) {
  (spilled.home ? pull_queue_ : restore_queue_).erase(spilled.turn);
  spilled.place = Place::kDisk;
  pulls_lack_room_ = pulls_lack_room_ && !pull_queue_.empty();
}

/// It is in memory, at spilled.slot: those who wait are told where. One that is adopted is no copy any more afterwards.
void StoreCore::is_back(Spilled& spilled) {
  if (spilled.place != Place::kResident) {
    spilled.place = Place::kResident;
    slots_[spilled.slot].state = SlotState::kLive;
    comes_to_memory(spilled);
  }
  make_newest(spilled.slot);
  spilled.hot_until = now_ + (spilled.waiters.empty() ? kHotAfterPrefetch : kHotFor);
  answer_all(spilled, location_of(spilled.slot), {});
  if (spilled.home && spilled.home->adopted) adopt(slots_[spilled.slot].name);
}

void StoreCore::serve_restores() {
  while (!restore_queue_.empty() && reads_ < kMaxReads) {
    const Name name = restore_queue_.begin()->second;
    Spilled& spilled = spilled_.at(name);
    if (!begin_restore(name, spilled)) return;
    ++reads_;
    const Slot& slot = slots_[spilled.slot];
    effects_.emplace_back(
        effect::ReadSpill{name, spilled.id, spilled.file, spilled.record, spilled.size_bytes, {slot.segment}, slot.offset});
  }
  const bool lacked_room = std::exchange(pulls_lack_room_, false);
  while (!pull_queue_.empty()) {
    const Name name = pull_queue_.begin()->second;
    Spilled& spilled = spilled_.at(name);
    if (!may_pull(spilled)) return;
    pulls_lack_room_ = !begin_restore(name, spilled);
    if (pulls_lack_room_) {
      if (!lacked_room) ask_for_memory();  // its turn has come since it was asked for
      return;
    }
    begin_pull(name, spilled);
  }
}

/// Takes it out of its queue, with a place in memory to be read to; false when there is no room.
bool StoreCore::begin_restore(Name name, Spilled& spilled) {
  std::optional<uint32_t> index = room_to_restore(spilled.size_bytes);
  if (!index) return false;
  dequeue(spilled);
  Slot& slot = slots_[*index];
  slot.state = SlotState::kRestoring;
  slot.size_bytes = spilled.size_bytes;
  slot.owner = spilled.id.owner, slot.sequence = spilled.id.sequence;
  slot.name = name;
  Segment& segment = segments_.at(slot.segment);
  ++segment.occupied;
  if (!segment.dedicated) UsedMap(segment.used).set(slot.offset, extent_bytes(slot.size_bytes));
  spilled.place = Place::kRestoring;
  spilled.slot = *index;
  effects_.emplace_back(effect::SetGeneration{*index, slot.generation});
  return true;
}

/// A slot with a segment and an offset for an object that is read back.
std::optional<uint32_t> StoreCore::room_to_restore(uint64_t size_bytes) {
  const bool dedicated = size_bytes > kDedicatedBytes;
  if (!dedicated) {
    for (uint64_t id : own_) {
      if (auto slot = room_in({id}, segments_.at(id), size_bytes)) return slot;
    }
  }
  uint64_t bytes = needed_bytes(size_bytes);
  if (!dedicated) {
    uint64_t standard = std::min({kOwnSegmentBytes, options_.capacity_bytes / 16, available_bytes() / 4});
    bytes = std::max(bytes, standard / grain() * grain());
  }
  bool is_new = false;
  std::optional<SegmentId> id = take_segment({}, bytes, size_bytes, dedicated, is_new);
  if (!id) return std::nullopt;
  Segment& segment = segments_.at(id->value);
  segment.phase = Phase::kOwn;
  segment.producer = {};
  own_.insert(id->value);
  segment.allocator = std::make_unique<Allocator>(segment.size_bytes);
  segment.idle_slots = segment.slots;
  if (is_new) effects_.emplace_back(effect::MakeOwn{*id, segment.size_bytes});
  return room_in(*id, segment, size_bytes);
}

std::optional<uint32_t> StoreCore::room_in(SegmentId id, Segment& segment, uint64_t size_bytes) {
  if (segment.idle_slots.empty()) {
    if (segment.dedicated || segment.slots.size() >= kMaxSegmentSlots) return std::nullopt;
    std::optional<std::vector<uint32_t>> more = take_slots(segment.slots.size(), id);
    if (!more) return std::nullopt;
    segment.slots.insert(segment.slots.end(), more->begin(), more->end());
    segment.idle_slots = std::move(*more);
  }
  std::optional<uint64_t> offset = segment.allocator->allocate(extent_bytes(size_bytes));
  if (!offset) return std::nullopt;
  uint32_t slot = segment.idle_slots.back();
  segment.idle_slots.pop_back();
  slots_[slot].offset = *offset;
  return slot;
}

void StoreCore::on(const event::RestoreDone& event) {
  auto entry = spilled_.find(event.name);
  Spilled& spilled = entry->second;
  if (spilled.home) {
    pulling_.erase(event.name);
    pulling_bytes_ -= spilled.size_bytes;
  } else {
    --reads_;
  }
  if (event.status.ok() && !spilled.freed) {
    is_back(spilled);
  } else {
    restore_failed(entry, event.status);
  }
  serve();
}

void StoreCore::restore_failed(SpilledEntry entry, const Status& status) {
  // Nobody was told of this place; it goes the way of a freed object.
  Spilled& spilled = entry->second;
  slots_[spilled.slot].name = 0;
  to_limbo(spilled.slot);
  spilled.slot = kNoSlot;
  request_scan();
  spilled.place = Place::kDisk;
  if (spilled.home) return pull_failed(entry, status);
  if (spilled.freed) {
    drop_record(spilled.file, spilled.record);
    spilled_.erase(entry);
    return;
  }
  if (status.code() == Code::kLost) {
    spilled.place = Place::kDamaged;
    spilled.damage = std::make_unique<Status>(status);
    --spilled_objects_;
    spilled_bytes_ -= spilled.size_bytes;
  }
  answer_all(spilled, kNowhere, status);
}

/// Those who waited long enough are told so; an object that nobody waits for any more is not read.
void StoreCore::expire_restores() {
  auto patience = writes_ > 0 ? kPatienceWithDisk : std::chrono::seconds(0);
  restore_due_.reset();
  for (Queue* queue : {&restore_queue_, &pull_queue_}) {
    for (auto next = queue->begin(); next != queue->end();) {
      const auto entry = spilled_.find((next++)->second);
      Spilled& spilled = entry->second;
      std::erase_if(spilled.waiters, [&](Waiter& waiter) {
        if (waiter.deadline + patience > now_) return false;
        if (spilled.home && goes_on_waiting(waiter)) return false;
        answer(waiter, kNowhere, why_waiting(spilled, waiter));
        return true;
      });
      for (const Waiter& waiter : spilled.waiters) consider_restore_deadline(waiter.deadline);
      give_up_unless_wanted(entry);
    }
  }
  expire_pulls();
}

/// Its turn comes, since each pull under way ends when nothing comes for it.
bool StoreCore::goes_on_waiting(Waiter& waiter) const {
  if (!waiter.is_patient || pulling_.empty()) return false;
  waiter.deadline = now_ + waiter.timeout();
  return true;
}

Status StoreCore::why_waiting(const Spilled& spilled, const Waiter& waiter) const {
  if (!spilled.home || pulls_lack_room_) return full(spilled.size_bytes, waiter.timeout_ms);
  return Status(Code::kTimeout, "other objects that are copied to this node were in front of it for " +
                                    std::to_string(waiter.timeout_ms) + " ms");
}

void StoreCore::drop_restores_of(ProcessId process) {
  for (Queue* queue : {&restore_queue_, &pull_queue_}) {
    for (auto next = queue->begin(); next != queue->end();) {
      const auto entry = spilled_.find((next++)->second);
      std::erase_if(entry->second.waiters, [&](const Waiter& waiter) { return waiter.process == process; });
      give_up_unless_wanted(entry);
    }
  }
}

/// Takes one that nobody waits for out of its queue.
void StoreCore::give_up_unless_wanted(SpilledEntry entry) {
  Spilled& spilled = entry->second;
  if (spilled.home && spilled.home->adopted && !pulling_.empty()) spilled.wanted_until = now_ + kAdoptWithin;
  const bool is_prefetched = spilled.wanted_until > now_;
  if (is_prefetched) consider_restore_deadline(spilled.wanted_until);
  if (is_prefetched || !spilled.waiters.empty()) return;
  dequeue(spilled);
  if (spilled.home) forget_copy(entry);
}

}  // namespace manta::object_store

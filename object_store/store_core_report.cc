// What StoreCore says of itself: to a user whose store is full, and to tests.
#include "object_store/store_core.h"

#include "common/check.h"
#include "object_store/used_map.h"

#include <algorithm>
#include <bit>
#include <string>

namespace manta::object_store {
namespace {

std::string human(uint64_t bytes) {
  if (bytes < 1024) return std::to_string(bytes) + " B";
  const char* units[] = {"KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes) / 1024;
  size_t unit = 0;
  while (value >= 1024 && unit < 3) value /= 1024, ++unit;
  char text[32];
  std::snprintf(text, sizeof text, value < 10 ? "%.1f %s" : "%.0f %s", value, units[unit]);
  return text;
}

/// "pid 12 32 MiB, pid 13 8.0 MiB": the three largest.
template <typename Name>
std::string largest(const std::map<uint64_t, uint64_t>& bytes_of, Name name) {
  std::vector<std::pair<uint64_t, uint64_t>> order;
  for (auto [process, bytes] : bytes_of) order.emplace_back(bytes, process);
  std::sort(order.rbegin(), order.rend());
  std::string text;
  for (size_t i = 0; i < std::min<size_t>(order.size(), 3); ++i) {
    text += (i == 0 ? "" : ", ") + name(order[i].second) + " " + human(order[i].first);
  }
  return text.empty() ? "nobody" : text;
}

}  // namespace

/// Why nothing more is evicted, as far as the disk goes.
std::string StoreCore::disk_report() const {
  if (options_.spill_bytes == 0) return ". Nothing is spilled to disk (MANTA_SPILL_BYTES is 0)";
  std::string text =
      ". On disk " + human(disk_bytes_) + " of " + human(options_.spill_bytes) + " in " + options_.spill_folder;
  if (!disk_status_.ok()) return text + ", which took no more: " + disk_status_.message();
  if (disk_has_room(kSpillFileBytes)) return text;
  return text + ": the spill disk is full (MANTA_SPILL_BYTES allows more, MANTA_SPILL_DIR another disk)";
}

Status StoreCore::full(uint64_t size_bytes, uint32_t timeout_ms) const {
  std::map<uint64_t, uint64_t> owned, granted;
  uint64_t pinned = 0, orphaned = 0, own = 0;
  for (const auto& [id, segment] : segments_) {
    if (segment.phase == Phase::kGranted) granted[segment.producer.value] += segment.size_bytes;
    if (segment.phase == Phase::kOrphan) orphaned += segment.held_bytes;
    if (segment.phase == Phase::kOwn) own += segment.held_bytes;
  }
  for (const Slot& slot : slots_) {
    if (slot.state == SlotState::kLimbo) pinned += slot.size_bytes;
    if (slot.state == SlotState::kLive && slot.sequence != 0) owned[slot.owner] += slot.size_bytes;  // else a copy
  }
  for (const auto& [name, spilled] : spilled_) {
    if (!spilled.home && spilled.place != Place::kResident && spilled.place != Place::kDamaged)
      owned[spilled.id.owner] += spilled.size_bytes;
  }
  auto name = [this](uint64_t process) {
    auto client = clients_.find(process);
    return client == clients_.end() ? "process " + ProcessId{process}.to_string()
                                    : "pid " + std::to_string(client->second.pid);
  };
  return Status(Code::kFull,
                "the object store is full: " + human(size_bytes) + " were asked for and did not get free within " +
                    std::to_string(timeout_ms) + " ms. Capacity " + human(options_.capacity_bytes) + ", granted " +
                    human(held_bytes_ - warm_bytes_) + ". Segments by producer: " + largest(granted, name) +
                    ", producers that ended " + human(orphaned) + ", read back from disk or copied from other nodes " +
                    human(own) + ". Objects by owner: " + largest(owned, name) + ", freed but still being read " +
                    human(pinned) + disk_report() +
                    ". Drop references to large objects, or give the store more memory with MANTA_STORE_BYTES");
}

void StoreCore::check_segments() const {
  uint64_t held = 0, warm = 0, slots = 0;
  std::map<uint64_t, uint64_t> granted;
  for (const auto& [id, segment] : segments_) {
    held += segment.held_bytes;
    if (segment.phase == Phase::kWarm) warm += segment.held_bytes;
    if (segment.phase == Phase::kGranted) granted[segment.producer.value] += segment.size_bytes;
    MANTA_CHECK(segment.phase != Phase::kWarm || segment.occupied == 0, id);
    MANTA_CHECK((segment.phase == Phase::kOwn) == own_.contains(id), id);
    MANTA_CHECK(segment.held_bytes <= segment.size_bytes, id);
    MANTA_CHECK(segment.quarantined == quarantine_.contains(id), id);
    slots += segment.slots.size();
    std::map<uint64_t, uint64_t> extents;
    uint64_t idle = 0;
    for (uint32_t index : segment.slots) {
      const Slot& slot = slots_[index];
      MANTA_CHECK(slot.segment == id, index, slot.segment, id);
      MANTA_CHECK(slot.state != SlotState::kFree, index);
      if (slot.state == SlotState::kIdle) ++idle;
      if (slot.state != SlotState::kIdle) extents[slot.offset] = slot.size_bytes;
    }
    MANTA_CHECK(extents.size() == segment.occupied, id, extents.size(), segment.occupied);
    MANTA_CHECK(segment.phase != Phase::kOwn || segment.idle_slots.size() == idle, id, idle);
    uint64_t end = 0, bytes = 0;
    for (const auto& [offset, size_bytes] : extents) {
      MANTA_CHECK(offset >= end, id, offset, end);
      end = offset + extent_bytes(size_bytes);
      bytes += extent_bytes(size_bytes);
      MANTA_CHECK(end <= segment.size_bytes, id, end);
    }
    uint64_t marked = 0;
    for (uint64_t word : segment.used) marked += static_cast<uint64_t>(std::popcount(word)) * kUnitBytes;
    MANTA_CHECK(segment.dedicated || marked == bytes, id, marked, bytes);
    MANTA_CHECK(segment.phase != Phase::kOwn || segment.allocator->used_bytes() == bytes, id, bytes);
  }
  MANTA_CHECK(held == held_bytes_ && held <= options_.capacity_bytes, held, held_bytes_);
  MANTA_CHECK(warm == warm_bytes_, warm, warm_bytes_);
  MANTA_CHECK(slots + free_slots_.size() == slots_.size(), slots, free_slots_.size());
  for (const auto& [process, client] : clients_) MANTA_CHECK(client.held_bytes == granted[process], process);
}

void StoreCore::check_copy(Name name, const Spilled& spilled) const {
  MANTA_CHECK(copies_.at(home_key(spilled.home->at)) == name, name);
  MANTA_CHECK(pulling_.contains(name) == (spilled.place == Place::kRestoring), name);
  MANTA_CHECK(spilled.place != Place::kDisk || spilled.slot != kNoSlot, name);  // else it is forgotten
  MANTA_CHECK(spilled.place != Place::kDamaged, name);
  MANTA_CHECK(spilled.waiters.empty() || !spilled.freed, name);
}

void StoreCore::check_invariants() const {
  check_segments();
  uint64_t live = 0, limbo = 0, aged = 0, evicted = 0, clean = 0, writing = 0;
  for (uint32_t index = 0; index < slots_.size(); ++index) {
    const Slot& slot = slots_[index];
    MANTA_CHECK((slot.state == SlotState::kLimbo) == limbo_.contains(index), index);
    if (slot.state == SlotState::kLimbo) ++limbo, evicted += slot.name != 0 ? 1 : 0;
    if (slot.writing) writing += extent_bytes(slot.size_bytes);
    if (slot.state != SlotState::kLive) continue;
    ++live;
    clean += slot.name != 0 ? 1 : 0;
    MANTA_CHECK(slot.name == 0 || spilled_.at(slot.name).slot == index, index);
    if (!slot.writing) ++aged;
  }
  for (uint32_t slot = oldest_; slot != kNoSlot; slot = slots_[slot].newer) --aged;
  MANTA_CHECK(aged == 0 && clean == clean_ && writing == writing_bytes_, aged, clean, clean_, writing, writing_bytes_);
  MANTA_CHECK(limbo == limbo_.size() && evicted == evicted_, limbo, evicted, evicted_);
  uint64_t on_disk = 0, damaged = 0, reading = 0, queued = 0, pulling = 0, pulling_bytes = 0, copies = 0, copy_bytes = 0;
  std::map<uint64_t, uint64_t> records;
  for (const auto& [name, spilled] : spilled_) {
    if (spilled.place == Place::kQueued) {
      ++queued;
      MANTA_CHECK((spilled.home ? pull_queue_ : restore_queue_).at(spilled.turn) == name, name);
    }
    if (spilled.home) {
      check_copy(name, spilled);
      if (spilled.place == Place::kRestoring) ++pulling, pulling_bytes += spilled.size_bytes;
      if (spilled.place == Place::kResident) ++copies, copy_bytes += spilled.size_bytes;
      continue;
    }
    ++records[spilled.file];
    if (spilled.place == Place::kRestoring) ++reading;
    if (spilled.place == Place::kDamaged) ++damaged;
    if (spilled.place != Place::kResident && spilled.place != Place::kDamaged && !spilled.freed) ++on_disk;
    MANTA_CHECK(spilled.waiters.empty() || spilled.place == Place::kQueued || spilled.place == Place::kRestoring, name);
  }
  MANTA_CHECK(on_disk == spilled_objects_ && reading == reads_, on_disk, spilled_objects_, reading, reads_);
  MANTA_CHECK(queued == restore_queue_.size() + pull_queue_.size(), queued, restore_queue_.size(), pull_queue_.size());
  MANTA_CHECK(pulling == pulling_.size() && pulling_bytes == pulling_bytes_, pulling, pulling_.size(), pulling_bytes_);
  MANTA_CHECK(copies == resident_copies_ && copy_bytes == copy_bytes_, copies, resident_copies_, copy_bytes_);
  MANTA_CHECK(live + on_disk + damaged == objects_ + copies, live, on_disk, damaged, objects_, copies);
  uint64_t disk = 0, writes = 0;
  for (const auto& [id, file] : files_) {
    disk += file.disk_bytes;
    const uint64_t hold = file.writing.empty() ? 0 : 1;
    writes += hold;
    MANTA_CHECK(file.records == records[id] + hold && file.records > 0, id, file.records, records[id], hold);
  }
  MANTA_CHECK(disk == disk_bytes_ && disk <= options_.spill_bytes && writes == writes_, disk, disk_bytes_, writes, writes_);
}

}  // namespace manta::object_store

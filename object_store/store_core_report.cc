// What StoreCore says of itself: to a user whose store is full, and to tests.
#include "object_store/store_core.h"

#include "common/check.h"

#include <algorithm>
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

Status StoreCore::full(const Request& request) const {
  std::map<uint64_t, uint64_t> owned, granted;
  uint64_t pinned = 0, orphaned = 0;
  for (const auto& [id, segment] : segments_) {
    if (segment.phase == Phase::kGranted) granted[segment.producer.value] += segment.size_bytes;
    if (segment.phase == Phase::kOrphan) orphaned += segment.held_bytes;
    for (const auto& [offset, object] : segment.objects) {
      if (object.limbo) pinned += object.size_bytes;
      if (!object.limbo) owned[object.owner.value] += object.size_bytes;
    }
  }
  auto name = [this](uint64_t process) {
    auto client = clients_.find(process);
    return client == clients_.end() ? "process " + ProcessId{process}.to_string()
                                    : "pid " + std::to_string(client->second.pid);
  };
  return Status(Code::kFull,
                "the object store is full: " + human(request.message.size_bytes) +
                    " were asked for and did not get free within " + std::to_string(request.message.timeout_ms) +
                    " ms. Capacity " + human(options_.capacity_bytes) + ", granted " + human(held_bytes_ - warm_bytes_) +
                    ". Segments by producer: " + largest(granted, name) + ", producers that ended " + human(orphaned) +
                    ". Objects by owner: " + largest(owned, name) + ", freed but still being read " + human(pinned) +
                    ". Drop references to large objects, or give the store more memory with MANTA_STORE_BYTES");
}

void StoreCore::check_invariants() const {
  uint64_t held = 0, warm = 0, objects = 0, limbo = 0, slots = 0;
  std::map<uint64_t, uint64_t> granted;
  for (const auto& [id, segment] : segments_) {
    held += segment.held_bytes;
    if (segment.phase == Phase::kWarm) warm += segment.held_bytes;
    if (segment.phase == Phase::kGranted) granted[segment.producer.value] += segment.size_bytes;
    MANTA_CHECK(segment.phase != Phase::kWarm || segment.objects.empty(), id);
    MANTA_CHECK(segment.held_bytes <= segment.size_bytes, id);
    MANTA_CHECK(segment.quarantined == quarantine_.contains(id), id);
    slots += segment.slots.size();
    std::set<uint32_t> occupied;
    for (uint32_t slot : segment.slots) {
      MANTA_CHECK(slots_[slot].segment.value == id, slot, slots_[slot].segment.value, id);
      if (slots_[slot].occupied) occupied.insert(slot);
    }
    uint64_t end = 0;
    for (const auto& [offset, object] : segment.objects) {
      MANTA_CHECK(offset >= end, id, offset, end);
      end = offset + std::max<uint64_t>(object.size_bytes, 1);
      MANTA_CHECK(end <= segment.size_bytes, id, end);
      MANTA_CHECK(occupied.erase(object.slot) == 1, id, object.slot);
      MANTA_CHECK(object.limbo == limbo_.contains({id, offset}), id, offset);
      MANTA_CHECK(object.limbo == (slots_[object.slot].generation != object.generation), id, offset);
      ++(object.limbo ? limbo : objects);
    }
    MANTA_CHECK(occupied.empty(), id);
  }
  MANTA_CHECK(held == held_bytes_ && held <= options_.capacity_bytes, held, held_bytes_);
  MANTA_CHECK(warm == warm_bytes_, warm, warm_bytes_);
  MANTA_CHECK(objects == objects_ && limbo == limbo_.size(), objects, objects_, limbo);
  MANTA_CHECK(slots + free_slots_.size() == slots_.size(), slots, free_slots_.size());
  for (const auto& [process, client] : clients_) MANTA_CHECK(client.held_bytes == granted[process], process);
}

}  // namespace manta::object_store

#include "object_store/store_core.h"

#include "common/check.h"
#include "object_store/hazard_page.h"

#include <algorithm>

namespace manta::object_store {
namespace {

constexpr auto kScanEvery = std::chrono::milliseconds(20);
constexpr auto kWarmFor = std::chrono::seconds(10);
constexpr auto kTrimWhileWaiting = std::chrono::milliseconds(100);
constexpr auto kTrimWhenIdle = std::chrono::seconds(10);
constexpr size_t kMaxWaitingPerClient = 256;
constexpr size_t kMaxGone = 4'096;
constexpr uint32_t kSpareSlots = 1u << 16;  // for small objects whose producers are gone: those hold slots but little memory

uint64_t round_up(uint64_t bytes, uint64_t grain) { return (bytes + grain - 1) / grain * grain; }
uint64_t round_down(uint64_t bytes, uint64_t grain) { return bytes / grain * grain; }
uint64_t extent_bytes(uint64_t size_bytes) { return round_up(std::max<uint64_t>(size_bytes, 1), kAlignment); }

}  // namespace

uint32_t StoreCore::slots_for(uint64_t capacity_bytes) {
  uint64_t slots = capacity_bytes / kSlotBytes + capacity_bytes / kSegmentGrainBytes + kSpareSlots;
  return static_cast<uint32_t>(std::min<uint64_t>(slots, uint64_t{1} << 27));
}

StoreCore::StoreCore(const Options& options) : options_(options) {}

StoreCore::Effects StoreCore::step(const Event& event, Time now) {
  now_ = now;
  effects_.clear();
  scan_now_ = false;
  std::visit([this](const auto& e) { on(e); }, event);
  MANTA_CHECK(held_bytes_ <= options_.capacity_bytes, held_bytes_, options_.capacity_bytes);
  MANTA_CHECK(warm_bytes_ <= held_bytes_, warm_bytes_, held_bytes_);
  if (scan_now_) effects_.emplace_back(Scan{});
  return std::move(effects_);
}

std::optional<Time> StoreCore::next_deadline() const {
  std::optional<Time> next = scan_at_;
  auto consider = [&next](Time at) { next = next ? std::min(*next, at) : at; };
  if (trim_at_) consider(*trim_at_);
  for (const Waiting& waiting : waiting_) consider(waiting.deadline);
  if (warm_bytes_ > 0) {
    for (const auto& [id, segment] : segments_) {
      if (segment.phase == Phase::kWarm) consider(segment.idle_since + kWarmFor);
    }
  }
  return next;
}

StoreCore::Counts StoreCore::counts() const {
  return {held_bytes_, warm_bytes_, objects_, object_bytes_, limbo_.size(), waiting_.size(), ignored_frees_};
}

// ---------------------------------------------------------------------------------------------------- clients

void StoreCore::on(const ClientJoined& event) { clients_.try_emplace(event.process.value, Client{.pid = event.pid}); }

void StoreCore::on(const ClientGone& event) {
  if (clients_.erase(event.process.value) == 0) return;
  std::erase_if(waiting_, [&](const Waiting& waiting) { return waiting.request.process == event.process; });
  gone_.insert(event.process.value);
  gone_order_.push_back(event.process.value);
  if (gone_order_.size() > kMaxGone) {
    gone_.erase(gone_order_.front());
    gone_order_.pop_front();
  }
  for (auto& [id, segment] : segments_) {
    for (auto& [offset, object] : segment.objects) {
      if (object.owner == event.process && !object.limbo) to_limbo({id}, offset, object);
    }
    if (segment.phase == Phase::kGranted && segment.producer == event.process) orphan({id}, segment);
  }
  request_scan();  // its pins are gone
  serve_waiting();
}

// ---------------------------------------------------------------------------------------------------- segments

void StoreCore::on(const Request& event) {
  auto client = clients_.find(event.process.value);
  if (client == clients_.end()) return;
  uint64_t request = event.message.request;
  if (event.message.size_bytes > options_.capacity_bytes) {
    effects_.emplace_back(
        Refuse{event.process, request,
               Status(Code::kFull, "an object of " + std::to_string(event.message.size_bytes) +
                                       " bytes cannot lie in an object store of " + std::to_string(options_.capacity_bytes) +
                                       " bytes; a larger store is set with MANTA_STORE_BYTES")});
    return;
  }
  auto mine =
      std::count_if(waiting_.begin(), waiting_.end(), [&](const Waiting& w) { return w.request.process == event.process; });
  if (static_cast<size_t>(mine) >= kMaxWaitingPerClient) {
    effects_.emplace_back(
        Refuse{event.process, request, Status(Code::kFull, "too many of this process's requests wait for store memory")});
    return;
  }
  waiting_.push_back({event, now_ + std::chrono::milliseconds(event.message.timeout_ms)});
  serve_waiting();
  if (event.message.timeout_ms == 0 && !waiting_.empty() && waiting_.back().request.process == event.process &&
      waiting_.back().request.message.request == request) {
    waiting_.pop_back();
    effects_.emplace_back(Refuse{event.process, request, full(event)});
  }
  if (!waiting_.empty() && (!trim_at_ || *trim_at_ > now_ + kTrimWhileWaiting))
    trim_clients(waiting_.front().request.message.size_bytes);
}

/// Producers keep an empty segment for what they write next. When memory is short, or nothing happens, they are asked for
/// it.
void StoreCore::trim_clients(uint64_t wanted_bytes) {
  trim_at_.reset();
  for (const auto& [process, client] : clients_) {
    if (client.standard_segments > 0) effects_.emplace_back(Trim{{process}, wanted_bytes});
  }
  if (!waiting_.empty()) trim_at_ = now_ + kTrimWhileWaiting;
}

void StoreCore::serve_waiting() {
  while (!waiting_.empty() && grant(waiting_.front().request)) waiting_.pop_front();
}

/// A segment for the request, warm or new, if there is room for it.
bool StoreCore::grant(const Request& request) {
  std::optional<SegmentId> warm = find_warm(request);
  SegmentId id = warm.value_or(SegmentId{last_segment_ + 1});
  if (!warm) {
    uint64_t size = segment_size(request, options_.capacity_bytes - held_bytes_ + warm_bytes_);
    if (!make_room(size)) return false;
    std::optional<std::vector<uint32_t>> slots =
        take_slots(request.message.dedicated ? 1 : std::max<uint64_t>(size / kSlotBytes, 1), id);
    if (!slots) return false;
    last_segment_ = id.value;
    Segment segment;
    segment.size_bytes = size;
    segment.dedicated = request.message.dedicated;
    segment.slots = std::move(*slots);
    segments_.emplace(id.value, std::move(segment)).first->second.held_bytes = 0;
    set_held(segments_.at(id.value), size);
  }
  Segment& segment = segments_.at(id.value);
  if (warm) warm_bytes_ -= segment.held_bytes;
  segment.phase = Phase::kGranted;
  segment.producer = request.process;
  Client& client = clients_.at(request.process.value);
  client.held_bytes += segment.size_bytes;
  if (!segment.dedicated) ++client.standard_segments;
  if (waiting_.size() <= 1) trim_at_ = now_ + kTrimWhenIdle;
  Grant effect{request.process, request.message.request, id, segment.size_bytes, !warm, segment.slots, {}};
  for (uint32_t slot : segment.slots) effect.generations.push_back(slots_[slot].generation);
  effects_.emplace_back(std::move(effect));
  return true;
}

uint64_t StoreCore::segment_size(const Request& request, uint64_t available) const {
  uint64_t needed = round_up(std::max<uint64_t>(request.message.size_bytes, 1), kSegmentGrainBytes);
  if (needed > options_.capacity_bytes) needed = round_up(std::max<uint64_t>(request.message.size_bytes, 1), kPageBytes);
  if (request.message.dedicated) return needed;
  // A small store is shared out in small segments, and a nearly full one gives what is needed and no more.
  uint64_t standard = clients_.at(request.process.value).standard_segments == 0 ? kFirstSegmentBytes : kSegmentBytes;
  standard = std::min({standard, options_.capacity_bytes / 8, available});
  return std::max(needed, round_down(standard, kSegmentGrainBytes));
}

/// The best empty segment: one that this process wrote before (its mapping is warm too), else the smallest that does.
std::optional<SegmentId> StoreCore::find_warm(const Request& request) const {
  std::optional<SegmentId> best;
  auto rank = [&](const Segment& segment) { return std::pair(segment.producer != request.process, segment.size_bytes); };
  for (const auto& [id, segment] : segments_) {
    if (segment.phase != Phase::kWarm || segment.dedicated != request.message.dedicated) continue;
    if (segment.size_bytes < request.message.size_bytes) continue;
    if (segment.dedicated && segment.size_bytes > 2 * round_up(request.message.size_bytes, kSegmentGrainBytes)) continue;
    if (!best || rank(segment) < rank(segments_.at(best->value))) best = SegmentId{id};
  }
  return best;
}

/// Retires warm segments, longest idle first, until `bytes` more fit.
bool StoreCore::make_room(uint64_t bytes) {
  if (held_bytes_ - warm_bytes_ + bytes > options_.capacity_bytes) return false;
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
    slots_[taken.back()].segment = segment;
  }
  return taken;
}

void StoreCore::release_slot(uint32_t slot) {
  slots_[slot].segment = {};
  early_frees_.erase(slot);
  free_slots_.push_back(slot);
}

void StoreCore::set_held(Segment& segment, uint64_t bytes) {
  held_bytes_ = held_bytes_ - segment.held_bytes + bytes;
  segment.held_bytes = bytes;
}

void StoreCore::on(const Return& event) {
  auto found = segments_.find(event.segment.value);
  if (found == segments_.end() || found->second.phase != Phase::kGranted || found->second.producer != event.process ||
      !found->second.objects.empty()) {
    effects_.emplace_back(Reject{event.process, Status(Code::kInvalid, "it returned segment " + event.segment.to_string() +
                                                                           ", which is not its own or not empty")});
    return;
  }
  make_warm(event.segment);
  serve_waiting();
}

void StoreCore::on(const Failed& event) {
  Segment& segment = segments_.at(event.segment.value);
  leave_producer(segment);
  retire(event.segment);
  serve_waiting();
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
  segment.phase = Phase::kWarm;
  segment.idle_since = now_;
  warm_bytes_ += segment.held_bytes;
  for (uint32_t slot : segment.slots) early_frees_.erase(slot);
}

void StoreCore::retire(SegmentId id) {
  Segment& segment = segments_.at(id.value);
  if (segment.phase == Phase::kWarm) warm_bytes_ -= segment.held_bytes;
  set_held(segment, 0);
  for (uint32_t slot : segment.slots) release_slot(slot);
  segments_.erase(id.value);
  effects_.emplace_back(Retire{id});
}

// ---------------------------------------------------------------------------------------------------- objects

Status StoreCore::check_seal(const Seal& event) const {
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
  const Segment& segment = found->second;
  if (at.offset % kAlignment != 0 || at.size_bytes > segment.size_bytes || at.offset >= segment.size_bytes ||
      extent_bytes(at.size_bytes) > segment.size_bytes - at.offset) {
    return bad("outside its segment");
  }
  auto after = segment.objects.lower_bound(at.offset);
  if (after != segment.objects.end() && at.offset + extent_bytes(at.size_bytes) > after->first)
    return bad("over another object");
  if (after != segment.objects.begin()) {
    auto before = std::prev(after);
    if (before->first + extent_bytes(before->second.size_bytes) > at.offset) return bad("over another object");
  }
  if (at.slot >= slots_.size() || slots_[at.slot].segment.value != at.segment || slots_[at.slot].occupied ||
      slots_[at.slot].generation != at.generation) {
    return bad("under a slot that is not its to use");
  }
  if (event.message.object_sequence == 0) return bad("without an id");
  return {};
}

void StoreCore::on(const Seal& event) {
  if (Status status = check_seal(event); !status.ok()) {
    effects_.emplace_back(Reject{event.process, std::move(status)});
    return;
  }
  if (waiting_.empty()) trim_at_ = now_ + kTrimWhenIdle;
  const wire::ObjectLocation& at = event.message.location;
  Slot& slot = slots_[at.slot];
  slot.occupied = true;
  ProcessId owner{event.message.object_owner};
  Object& object = segments_.at(at.segment).objects[at.offset];
  object = {at.size_bytes, at.slot, at.generation, owner, false};
  ++objects_;
  object_bytes_ += at.size_bytes;
  // The owner is told over another connection, so its Free may be read first; or it may have ended.
  auto early = early_frees_.find(at.slot);
  bool freed = gone_.contains(owner.value) || (early != early_frees_.end() && early->second == owner);
  early_frees_.erase(at.slot);
  if (freed) {
    to_limbo({at.segment}, at.offset, object);
    request_scan();
  }
}

void StoreCore::on(const Freed& event) {
  for (const wire::ObjectLocation& object : event.objects) {
    if (!free_one(event.process, object)) ++ignored_frees_;
  }
}

bool StoreCore::free_one(ProcessId process, const wire::ObjectLocation& object) {
  if (object.slot >= slots_.size()) return false;
  Slot& slot = slots_[object.slot];
  if (slot.generation != object.generation || slot.segment.value == 0 || slot.segment.value != object.segment) return false;
  Segment& segment = segments_.at(object.segment);
  if (!slot.occupied) {  // its Sealed is still on the way
    if (segment.phase != Phase::kGranted) return false;
    early_frees_[object.slot] = process;
    return true;
  }
  auto found = segment.objects.find(object.offset);
  if (found == segment.objects.end() || found->second.slot != object.slot || found->second.limbo) return false;
  if (found->second.owner != process) return false;
  to_limbo({object.segment}, object.offset, found->second);
  request_scan();
  return true;
}

/// No new pin succeeds from here on; the memory waits for a scan that shows no old one.
void StoreCore::to_limbo(SegmentId id, uint64_t offset, Object& object) {
  object.limbo = true;
  --objects_;
  object_bytes_ -= object.size_bytes;
  bump(object.slot);
  limbo_.emplace(id.value, offset);
}

void StoreCore::bump(uint32_t slot) {
  uint32_t& generation = slots_[slot].generation;
  generation = generation == ~uint32_t{0} ? 1 : generation + 1;
  early_frees_.erase(slot);
  effects_.emplace_back(SetGeneration{slot, generation});
}

void StoreCore::on(const Scanned& event) {
  std::unordered_set<uint64_t> pins(event.pins.begin(), event.pins.end());
  std::map<uint64_t, std::vector<wire::ObjectLocation>> reclaimed;
  for (auto [segment, offset] : std::vector(limbo_.begin(), limbo_.end())) {
    const Object& object = segments_.at(segment).objects.at(offset);
    if (!pins.contains(hazard_key(object.slot, object.generation))) reclaim({segment}, offset, reclaimed);
  }
  if (!quarantine_.empty()) {
    std::unordered_set<uint32_t> pinned_slots;
    for (uint64_t pin : pins) pinned_slots.insert(slot_of(pin));
    for (uint64_t id : std::vector(quarantine_.begin(), quarantine_.end())) {
      Segment& segment = segments_.at(id);
      bool pinned = std::any_of(segment.slots.begin(), segment.slots.end(),
                                [&](uint32_t slot) { return !slots_[slot].occupied && pinned_slots.contains(slot); });
      if (!pinned) settle_orphan({id}, segment);
    }
  }
  for (auto& [process, objects] : reclaimed) effects_.emplace_back(Reclaim{{process}, std::move(objects)});
  scan_at_ = limbo_.empty() && quarantine_.empty() ? std::nullopt : std::optional<Time>(now_ + kScanEvery);
  serve_waiting();
}

void StoreCore::reclaim(SegmentId id, uint64_t offset, std::map<uint64_t, std::vector<wire::ObjectLocation>>& reclaimed) {
  Segment& segment = segments_.at(id.value);
  Object object = segment.objects.at(offset);
  segment.objects.erase(offset);
  limbo_.erase({id.value, offset});
  slots_[object.slot].occupied = false;
  if (segment.phase == Phase::kGranted && segment.dedicated) {
    make_warm(id);
  } else if (segment.phase == Phase::kGranted) {
    reclaimed[segment.producer.value].push_back(
        {id.value, offset, object.size_bytes, object.slot, slots_[object.slot].generation});
  } else if (!segment.quarantined) {
    std::erase(segment.slots, object.slot);
    release_slot(object.slot);
    if (segment.objects.empty()) {
      retire(id);
    } else {
      punch_gaps(id, segment);
    }
  }
}

/// The producer is gone. What it had not sealed vanishes, once no reader has it pinned (it may have told one of an object
/// whose Sealed was lost with it).
void StoreCore::orphan(SegmentId id, Segment& segment) {
  segment.phase = Phase::kOrphan;
  for (uint32_t slot : segment.slots) {
    if (!slots_[slot].occupied) bump(slot);
  }
  segment.quarantined = true;
  quarantine_.insert(id.value);
}

void StoreCore::settle_orphan(SegmentId id, Segment& segment) {
  segment.quarantined = false;
  quarantine_.erase(id.value);
  if (segment.objects.empty()) {
    make_warm(id);
    return;
  }
  std::erase_if(segment.slots, [&](uint32_t slot) {
    if (slots_[slot].occupied) return false;
    release_slot(slot);
    return true;
  });
  punch_gaps(id, segment);
}

/// Gives back every whole page of an orphan that no object touches.
void StoreCore::punch_gaps(SegmentId id, Segment& segment) {
  uint64_t end = 0;  // of what is kept so far
  uint64_t kept = 0;
  auto gap = [&](uint64_t from, uint64_t to) {
    if (to > from) effects_.emplace_back(Punch{id, from, to - from});
  };
  for (const auto& [offset, object] : segment.objects) {
    uint64_t first = std::max(end, round_down(offset, kPageBytes));
    uint64_t last = std::max(first, round_up(offset + extent_bytes(object.size_bytes), kPageBytes));
    gap(end, first);
    kept += last - first;
    end = last;
  }
  gap(end, segment.size_bytes);
  set_held(segment, kept);
}

void StoreCore::on(const Tick&) {
  for (auto waiting = waiting_.begin(); waiting != waiting_.end();) {
    if (waiting->deadline > now_) {
      ++waiting;
      continue;
    }
    effects_.emplace_back(Refuse{waiting->request.process, waiting->request.message.request, full(waiting->request)});
    waiting = waiting_.erase(waiting);
  }
  std::vector<uint64_t> idle;
  for (const auto& [id, segment] : segments_) {
    if (segment.phase == Phase::kWarm && segment.idle_since + kWarmFor <= now_) idle.push_back(id);
  }
  for (uint64_t id : idle) retire({id});
  if (scan_at_ && *scan_at_ <= now_) request_scan();
  if (trim_at_ && *trim_at_ <= now_) trim_clients(waiting_.empty() ? 0 : waiting_.front().request.message.size_bytes);
  serve_waiting();  // a large request at the front may have gone
}

}  // namespace manta::object_store

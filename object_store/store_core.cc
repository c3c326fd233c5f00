#include "object_store/store_core.h"

#include "common/check.h"

#include <algorithm>

namespace manta::object_store {
namespace {

constexpr auto kTrimWhileWaiting = std::chrono::milliseconds(100);
constexpr auto kPatienceWithDisk = std::chrono::seconds(100);  // past a deadline, while the disk is at work for it
constexpr size_t kMaxWaitingPerClient = 256;
constexpr size_t kMaxGone = 4'096;
constexpr uint64_t kSpareSlots = 1u << 22;  // for small objects; the table takes memory only where slots were used

}  // namespace

uint32_t StoreCore::slots_for(uint64_t capacity_bytes) {
  uint64_t slots = capacity_bytes / kSlotBytes + capacity_bytes / kSegmentGrainBytes + kSpareSlots;
  return static_cast<uint32_t>(std::min<uint64_t>(slots, uint64_t{1} << 27));
}

StoreCore::StoreCore(const Options& options)
    : options_(options), last_segment_(std::max(wire::first_id_of(options.node), options.ids_from)) {}

Effects StoreCore::step(const Event& event, Time now) {
  now_ = now;
  effects_.clear();
  scan_now_ = false;
  std::visit([this](const auto& e) { on(e); }, event);
  MANTA_CHECK(held_bytes_ <= options_.capacity_bytes, held_bytes_, options_.capacity_bytes);
  MANTA_CHECK(warm_bytes_ <= held_bytes_, warm_bytes_, held_bytes_);
  MANTA_CHECK(disk_bytes_ <= options_.spill_bytes, disk_bytes_, options_.spill_bytes);
  move_some();
  for (auto& [node, names] : refused_) effects_.emplace_back(effect::RefuseAdoption{node, std::move(names)});
  refused_.clear();
  for (auto& [node, names] : dropped_) effects_.emplace_back(effect::DropCopies{node, std::move(names)});
  dropped_.clear();
  if (scan_now_) effects_.emplace_back(effect::Scan{});
  return std::move(effects_);
}

std::optional<Time> StoreCore::next_deadline() const {
  std::optional<Time> next = scan_at_;
  auto consider = [&next](Time at) { next = next ? std::min(*next, at) : at; };
  if (trim_at_) consider(*trim_at_);
  if (prepare_at_) consider(*prepare_at_);
  if (moves_) consider(moves_->look_at);
  // Past a deadline, what keeps a request waiting is the disk, whose word is an event.
  auto consider_deadline = [&](Time at) { consider(writes_ > 0 ? std::max(at, now_ + kTrimWhileWaiting) : at); };
  for (const Waiting& waiting : waiting_) consider_deadline(waiting.deadline);
  if (restore_due_) consider_deadline(*restore_due_);
  if (warm_bytes_ > 0) {
    for (const auto& [id, segment] : segments_) {
      if (segment.phase == Phase::kWarm) consider(segment.idle_since + kept_warm(segment));
    }
  }
  return next;
}

StoreCore::Counts StoreCore::counts() const {
  Counts counts;
  counts.held_bytes = held_bytes_, counts.warm_bytes = warm_bytes_;
  counts.objects = objects_, counts.object_bytes = object_bytes_;
  counts.limbo_objects = limbo_.size() - evicted_;
  counts.waiting_requests = waiting_.size(), counts.waiting_restores = restore_queue_.size() + pull_queue_.size();
  counts.spilled_objects = spilled_objects_, counts.spilled_bytes = spilled_bytes_;
  counts.disk_bytes = disk_bytes_, counts.disk_files = files_.size();
  counts.copies = resident_copies_, counts.copy_bytes = copy_bytes_, counts.pulls = pulling_.size();
  counts.ignored_frees = ignored_frees_;
  return counts;
}

// ---------------------------------------------------------------------------------------------------- clients

void StoreCore::on(const event::ClientJoined& event) {
  if (clients_.empty()) want_prepared_for_first();
  clients_.try_emplace(event.process.value, Client{.pid = event.pid});
}

void StoreCore::remember_gone(ProcessId owner) {
  if (!gone_.insert(owner.value).second) return;
  gone_order_.push_back(owner.value);
  if (gone_order_.size() <= kMaxGone) return;
  gone_.erase(gone_order_.front());
  gone_order_.pop_front();
}

void StoreCore::on(const event::ClientGone& event) {
  if (clients_.erase(event.process.value) == 0) return;
  std::erase_if(waiting_, [&](const Waiting& waiting) { return waiting.request.process == event.process; });
  drop_restores_of(event.process);
  remember_gone(event.process);
  free_all_of([&](uint64_t owner) { return owner == event.process.value; });
  for (auto& [id, segment] : segments_) {
    if (segment.phase == Phase::kGranted && segment.producer == event.process) orphan({id}, segment);
  }
  request_scan();  // its pins are gone
  serve();
}

// ---------------------------------------------------------------------------------------------------- requests

void StoreCore::refuse(const event::Request& event, Code code, const std::string& why) {
  effects_.emplace_back(effect::Refuse{event.process, event.message.request, Status(code, why)});
}

void StoreCore::on(const event::Request& event) {
  auto client = clients_.find(event.process.value);
  if (client == clients_.end()) return;
  if (event.message.more_slots != 0) return give_more_slots(event);
  if (event.message.size_bytes > options_.capacity_bytes) {
    return refuse(event, Code::kFull,
                  "an object of " + std::to_string(event.message.size_bytes) + " bytes cannot lie in an object store of " +
                      std::to_string(options_.capacity_bytes) + " bytes; a larger store is set with MANTA_STORE_BYTES");
  }
  if (event.message.ahead) {
    // Only from what nobody misses: half of the store stays for those that need it now.
    bool plenty = waiting_.empty() && needed_bytes(event.message.size_bytes) <= available_bytes() / 2;
    if (!plenty || !grant(event)) refuse(event, Code::kFull, "memory is not plentiful");
    return;
  }
  auto mine =
      std::count_if(waiting_.begin(), waiting_.end(), [&](const Waiting& w) { return w.request.process == event.process; });
  if (static_cast<size_t>(mine) >= kMaxWaitingPerClient)
    return refuse(event, Code::kFull, "too many of this process's requests wait for store memory");
  if (!is_short()) relieve_at_.reset();
  waiting_.push_back({event, now_ + std::chrono::milliseconds(event.message.timeout_ms)});
  serve();
  if (event.message.timeout_ms == 0 && !waiting_.empty() && waiting_.back().request.process == event.process &&
      waiting_.back().request.message.request == event.message.request) {
    waiting_.pop_back();
    effects_.emplace_back(effect::Refuse{event.process, event.message.request, full(event.message.size_bytes, 0)});
  }
  if (is_short()) ask_for_memory();
}

/// Of those who have some to spare: objects that may be evicted, and producers.
void StoreCore::ask_for_memory() {
  request_scan();
  if (!trim_at_ || *trim_at_ > now_ + kTrimWhileWaiting) trim_clients();
}

void StoreCore::on(const event::Cancel& event) {
  std::erase_if(waiting_, [&](const Waiting& waiting) {
    if (waiting.request.process != event.process || waiting.request.message.request != event.request) return false;
    refuse(waiting.request, Code::kCancelled, "it was taken back");
    return true;
  });
  serve();
}

/// Producers keep an empty segment for what they write next. When memory is short, or nothing happens, they are asked for
/// it.
void StoreCore::trim_clients() {
  trim_at_.reset();
  const uint64_t wanted = is_short() ? wanted_bytes() : 0;
  for (const auto& [process, client] : clients_) {
    if (client.held_bytes > 0) effects_.emplace_back(effect::Trim{{process}, wanted});
  }
  if (is_short()) trim_at_ = now_ + kTrimWhileWaiting;
}

/// Whoever reads goes first: it lets go of what it holds.
void StoreCore::serve() {
  serve_restores();
  while (!waiting_.empty() && grant(waiting_.front().request)) waiting_.pop_front();
}

void StoreCore::on(const event::Tick&) {
  // While the disk makes room, a request that will be served is not refused.
  auto patience = writes_ > 0 ? kPatienceWithDisk : std::chrono::seconds(0);
  std::erase_if(waiting_, [&](const Waiting& waiting) {
    if (waiting.deadline + patience > now_) return false;
    const wire::RequestSegment& asked = waiting.request.message;
    effects_.emplace_back(effect::Refuse{waiting.request.process, asked.request, full(asked.size_bytes, asked.timeout_ms)});
    return true;
  });
  expire_restores();
  std::vector<uint64_t> idle;
  for (const auto& [id, segment] : segments_) {
    if (segment.phase == Phase::kWarm && segment.idle_since + kept_warm(segment) <= now_) idle.push_back(id);
  }
  for (uint64_t id : idle) retire({id});
  if (scan_at_ && *scan_at_ <= now_) request_scan();
  if (trim_at_ && *trim_at_ <= now_) trim_clients();
  if (prepare_at_ && *prepare_at_ <= now_) prepare();
  if (moves_ && moves_->look_at <= now_) look_at_moves();
  serve();  // a large request at the front may have gone
}

}  // namespace manta::object_store

#include "object_store/reader_side.h"

#include "common/check.h"

#include <algorithm>

namespace manta::object_store::detail {
namespace {

constexpr size_t kMaxMoved = 65'536;
constexpr size_t kMaxSoon = 65'536;
constexpr size_t kMaxAhead = 256;
constexpr uint64_t kMaxAheadBytes = uint64_t{64} << 20;
constexpr auto kAheadFor = std::chrono::seconds(30);
constexpr auto kGrace = std::chrono::seconds(102);  // past the deadline, while a disk makes room: the raylet's own patience
constexpr int kMaxLosses = 3;

}  // namespace

ReaderSide::ReaderSide(ObjectTableView table, HazardPage hazard, std::shared_ptr<ProducerSide> producer,
                       StoreClient::SendFn send, wire::NodeNumber node)
    : table_(std::move(table)),
      hazard_(std::move(hazard)),
      producer_(std::move(producer)),
      send_(std::move(send)),
      node_(node) {
  for (uint32_t i = kHazardSlots; i > 0; --i) free_.push_back(i - 1);
  index_.reserve(kHazardSlots);
}

Result<PinnedBytes> ReaderSide::pin(const wire::ObjectLocation& location, std::chrono::milliseconds timeout,
                                    const How& how) {
  std::unique_lock lock(mutex_);
  wire::ObjectLocation at = location;
  // Another node's slots say nothing about this node's table.
  const bool remote = is_remote(location);
  Result<uint32_t> acquired = remote ? Status(Code::kLost, "") : acquire(at);
  if (!acquired.ok() && acquired.status().code() == Code::kLost) [[unlikely]]
    acquired = acquire_moved(lock, location, at, {std::chrono::steady_clock::now() + timeout, timeout, how});
  if (!acquired.ok()) [[unlikely]]
    return acquired.status();
  const uint32_t index = *acquired;
  Pin& pin = pins_[index];
  if (pin.mapping == nullptr) [[unlikely]] {
    // Pinned already, so the segment cannot go away while it is being opened.
    Result<std::shared_ptr<Mapping>> mapping = mapping_of(lock, at.segment, timeout);
    if (!mapping.ok()) {
      drop(index);
      return mapping.status();
    }
    pin.mapping = std::move(mapping).value();
  }
  const Mapping& mapping = *pin.mapping;
  if (at.size_bytes > mapping.size_bytes() || at.offset > mapping.size_bytes() - at.size_bytes) [[unlikely]] {
    drop(index);
    return Status(Code::kInvalid, "a location outside its segment");
  }
  PinnedBytes bytes;
  bytes.reader_ = shared_from_this();
  bytes.bytes_ = {mapping.data() + at.offset, at.size_bytes};
  bytes.hazard_ = index;
  return bytes;
}

bool ReaderSide::is_remote(const wire::ObjectLocation& location) const {
  const wire::NodeNumber node = wire::node_of(location.segment);
  return node != 0 && node != node_;
}

Result<uint32_t> ReaderSide::acquire(const wire::ObjectLocation& location) {
  uint64_t key = hazard_key(location.slot, location.generation);
  if (auto found = index_.find(key); found != index_.end()) {
    pins_[found->second].references.fetch_add(1, std::memory_order_relaxed);
    return found->second;
  }
  if (free_.empty()) {
    return Status(Code::kFull, "this process reads " + std::to_string(kHazardSlots) +
                                   " stored objects at a time already; drop views of some, or copy what is to be kept");
  }
  uint32_t index = free_.back();
  hazard_.set(index, key);
  if (location.generation == 0 || table_.generation(location.slot) != location.generation) {
    hazard_.set(index, 0);
    return Status(Code::kLost,
                  "the object in segment " + std::to_string(location.segment) + " is not in the store any more");
  }
  free_.pop_back();
  index_.emplace(key, index);
  pins_[index].key = key;
  pins_[index].references.store(1, std::memory_order_relaxed);
  return index;
}

Result<uint32_t> ReaderSide::acquire_moved(std::unique_lock<std::mutex>& lock, const wire::ObjectLocation& location,
                                           wire::ObjectLocation& at, const Wait& wait) {
  const Home key = home_of(location);
  if (auto moved = moved_.find(key); moved != moved_.end()) {
    at = moved->second;
    if (Result<uint32_t> index = acquire(at); index.ok() || index.status().code() != Code::kLost) return index;
    moved_.erase(key);
  }
  Result<wire::ObjectLocation> ahead = asked_ahead(lock, key, wait);
  int losses = 0;
  while (true) {
    if (ahead.ok()) {
      at = *ahead;
    } else {
      MANTA_ASSIGN_OR_RETURN(at, restore(lock, location, wait));
    }
    ahead = Status(Code::kNotFound, "");
    Result<uint32_t> index = acquire(at);
    const bool went_away = !index.ok() && index.status().code() == Code::kLost;
    const auto now = std::chrono::steady_clock::now();
    if (went_away && (now < wait.deadline || (wait.how.give_up_at && ++losses < kMaxLosses && now < wait.end()))) continue;
    if (went_away) return Status(Code::kTimeout, "memory is so short that an object left it each time before it was read");
    if (moved_.size() >= kMaxMoved) moved_.clear();
    if (index.ok()) moved_[key] = at;
    return index;
  }
}

std::chrono::steady_clock::time_point ReaderSide::Wait::end() const { return how.give_up_at.value_or(deadline + kGrace); }

ReaderSide::Home ReaderSide::home_of(const wire::ObjectLocation& location) {
  return {wire::node_of(location.segment), hazard_key(location.slot, location.generation)};
}

void ReaderSide::read_soon(std::span<const wire::ObjectLocation> objects, wire::TransferPriority priority) {
  std::unique_lock lock(mutex_);
  for (const wire::ObjectLocation& at : objects) {
    if (!is_remote(at) || ahead_.contains(home_of(at))) continue;
    if (soon_.size() >= kMaxSoon) break;
    soon_.push_back({at, priority});
  }
  ask_ahead(lock);
}

void ReaderSide::ask_ahead(std::unique_lock<std::mutex>& lock) {
  const auto now = std::chrono::steady_clock::now();
  const auto was_read = [this](const Asked& asked) {
    const auto known = ahead_.find(asked.home);
    return known == ahead_.end() || known->second.request != asked.request;
  };
  if (asked_.size() >= 4 * kMaxAhead) std::erase_if(asked_, was_read);
  for (; !asked_.empty(); asked_.pop_front()) {
    if (was_read(asked_.front())) continue;
    if (asked_.front().forget_at > now) break;
    const auto known = ahead_.find(asked_.front().home);
    ahead_bytes_ -= known->second.size_bytes;
    restoring_.erase(known->second.request);
    ahead_.erase(known);
  }
  // Not one by one: what is asked for together is answered together.
  if (soon_.empty() || !broken_.ok() || ahead_.size() > kMaxAhead / 2) return;
  std::vector<std::string> messages;
  while (!soon_.empty() && ahead_.size() < kMaxAhead) {
    const auto [at, priority] = soon_.front();
    if (!ahead_.empty() && ahead_bytes_ + at.size_bytes > kMaxAheadBytes) break;
    soon_.pop_front();
    const Home home = home_of(at);
    const auto moved = moved_.find(home);
    if (ahead_.contains(home) || (moved != moved_.end() && is_in_memory(moved->second))) continue;
    const uint64_t request = ++last_restore_;
    restoring_[request];
    ahead_[home] = {request, at.size_bytes};
    ahead_bytes_ += at.size_bytes;
    asked_.push_back({home, request, now + kAheadFor});
    messages.push_back(
        wire::encode(wire::RestoreObject{request, at, static_cast<uint32_t>(std::chrono::milliseconds(kAheadFor).count()),
                                         static_cast<uint8_t>(priority), false, true}));
  }
  lock.unlock();
  for (const std::string& message : messages) (void)send_(wire::RestoreObject::kType, message, {});
  lock.lock();
}

Result<wire::ObjectLocation> ReaderSide::asked_ahead(std::unique_lock<std::mutex>& lock, const Home& home,
                                                     const Wait& wait) {
  if (wait.how.only_here) return Status(Code::kNotFound, "");
  ask_ahead(lock);
  const auto known = ahead_.find(home);
  if (known == ahead_.end()) return Status(Code::kNotFound, "");
  const uint64_t request = known->second.request;
  ahead_bytes_ -= known->second.size_bytes;
  ahead_.erase(known);
  ask_ahead(lock);  // however large this one is, the next comes behind it
  const Status status = await_answer(lock, request, wait.how.give_up_at ? wait.end() : wait.deadline);
  const wire::ObjectLocation at = restoring_.at(request).location;
  restoring_.erase(request);
  if (!status.ok()) return Status(Code::kNotFound, "");
  return at;
}

Status ReaderSide::await_answer(std::unique_lock<std::mutex>& lock, uint64_t request,
                                std::chrono::steady_clock::time_point deadline) {
  restoring_.at(request).awaited = true;
  changed_.wait_until(lock, deadline, [&] { return restoring_.at(request).answered || !broken_.ok(); });
  const Restoring& answer = restoring_.at(request);
  if (answer.answered) return answer.status;
  if (!broken_.ok()) return broken_;
  return Status(Code::kTimeout, "an object that was spilled or is another node's did not come before its reader's deadline");
}

Result<wire::ObjectLocation> ReaderSide::restore(std::unique_lock<std::mutex>& lock, const wire::ObjectLocation& location,
                                                 const Wait& wait) {
  if (!broken_.ok()) return broken_;
  const uint64_t request = ++last_restore_;
  restoring_[request];
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(wait.deadline - std::chrono::steady_clock::now());
  const auto timeout = wait.how.give_up_at ? wait.timeout : left;
  wire::RestoreObject message{.request = request,
                              .location = location,
                              .timeout_ms = static_cast<uint32_t>(std::clamp<int64_t>(timeout.count(), 0, 0xffffffff)),
                              .priority = static_cast<uint8_t>(wait.how.priority),
                              .only_here = wait.how.only_here,
                              .is_patient = wait.how.give_up_at.has_value()};
  lock.unlock();
  Status status = send_(message.kType, wire::encode(message), {});
  lock.lock();
  if (status.ok()) status = await_answer(lock, request, wait.end());
  const wire::ObjectLocation at = restoring_.at(request).location;
  restoring_.erase(request);
  if (!status.ok()) return status;
  return at;
}

void ReaderSide::on_restored(const wire::ObjectRestored& message) {
  std::lock_guard lock(mutex_);
  auto found = restoring_.find(message.request);
  if (found == restoring_.end()) return;  // given up
  found->second.answered = true;
  found->second.status = wire::from_wire(message.status);
  found->second.location = message.location;
  if (found->second.awaited) changed_.notify_all();
}

void ReaderSide::unpin(uint32_t index) {
  std::atomic<uint32_t>& references = pins_[index].references;
  uint32_t seen = references.load(std::memory_order_relaxed);
  while (seen > 1) {
    if (references.compare_exchange_weak(seen, seen - 1, std::memory_order_acq_rel)) return;
  }
  std::lock_guard lock(mutex_);  // `pin` may be finding it again
  drop(index);
}

void ReaderSide::drop(uint32_t index) {
  Pin& pin = pins_[index];
  if (pin.references.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  hazard_.set(index, 0);
  index_.erase(pin.key);
  pin.mapping.reset();
  free_.push_back(index);
}

Result<std::shared_ptr<Mapping>> ReaderSide::mapping_of(std::unique_lock<std::mutex>& lock, uint64_t segment,
                                                        std::chrono::milliseconds timeout) {
  if (auto found = mappings_.find(segment); found != mappings_.end()) return found->second;
  if (std::shared_ptr<Mapping> own = producer_->mapping_of(segment))
    return mappings_.emplace(segment, std::move(own)).first->second;
  if (!broken_.ok()) return broken_;
  auto [entry, is_first] = opening_.try_emplace(segment);
  if (is_first) entry->second = std::make_shared<Opening>();
  std::shared_ptr<Opening> opening = entry->second;
  if (is_first) {
    lock.unlock();
    wire::OpenSegment message{segment};
    Status sent = send_(message.kType, wire::encode(message), {});
    lock.lock();
    if (!sent.ok()) {
      opening->answered = true;
      opening->status = sent;
      opening_.erase(segment);
      changed_.notify_all();
    }
  }
  if (!changed_.wait_for(lock, timeout, [&] { return opening->answered || !broken_.ok(); })) {
    // A late answer is still welcome; but whoever comes next asks again.
    if (auto found = opening_.find(segment); found != opening_.end() && found->second == opening) opening_.erase(found);
    return Status(Code::kTimeout, "the raylet did not open segment " + std::to_string(segment));
  }
  if (opening->answered && !opening->status.ok()) return opening->status;
  auto found = mappings_.find(segment);
  if (found == mappings_.end()) return broken_.ok() ? Status(Code::kLost, "the segment was retired") : broken_;
  return found->second;
}

void ReaderSide::on_opened(const wire::SegmentOpened& message, Fd fd) {
  Status status = wire::from_wire(message.status);
  std::shared_ptr<Mapping> mapping;
  if (status.ok()) status = check_sealed(fd, message.size_bytes);
  if (status.ok()) {
    Result<Mapping> mapped = Mapping::map(fd, message.size_bytes, Mapping::Access::kReadOnly);
    status = mapped.status();
    if (mapped.ok()) mapping = std::make_shared<Mapping>(std::move(mapped).value());
  }
  std::lock_guard lock(mutex_);
  if (mapping) mappings_[message.segment] = std::move(mapping);
  if (auto found = opening_.find(message.segment); found != opening_.end()) {
    found->second->answered = true;
    found->second->status = status;
    opening_.erase(found);
  }
  changed_.notify_all();
}

void ReaderSide::on_retired(uint64_t segment) {
  std::lock_guard lock(mutex_);
  mappings_.erase(segment);  // pins keep theirs
}

void ReaderSide::disconnected(const Status& cause) {
  std::lock_guard lock(mutex_);
  broken_ = cause;
  changed_.notify_all();
}

void ReaderSide::add_stats(StoreClient::Stats& stats) const {
  std::lock_guard lock(mutex_);
  stats.pins = index_.size();
  stats.mapped_segments = mappings_.size();
}

}  // namespace manta::object_store::detail

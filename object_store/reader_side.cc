#include "object_store/reader_side.h"

#include "common/check.h"

namespace manta::object_store::detail {

ReaderSide::ReaderSide(ObjectTableView table, HazardPage hazard, std::shared_ptr<ProducerSide> producer,
                       StoreClient::SendFn send)
    : table_(std::move(table)), hazard_(std::move(hazard)), producer_(std::move(producer)), send_(std::move(send)) {
  for (uint32_t i = kHazardSlots; i > 0; --i) free_.push_back(i - 1);
  index_.reserve(kHazardSlots);
}

Result<PinnedBytes> ReaderSide::pin(const wire::ObjectLocation& location, std::chrono::milliseconds timeout) {
  std::unique_lock lock(mutex_);
  MANTA_ASSIGN_OR_RETURN(uint32_t index, acquire(location));
  Pin& pin = pins_[index];
  if (pin.mapping == nullptr) [[unlikely]] {
    // Pinned already, so the segment cannot go away while it is being opened.
    Result<std::shared_ptr<Mapping>> mapping = mapping_of(lock, location.segment, timeout);
    if (!mapping.ok()) {
      drop(index);
      return mapping.status();
    }
    pin.mapping = std::move(mapping).value();
  }
  const Mapping& mapping = *pin.mapping;
  if (location.size_bytes > mapping.size_bytes() || location.offset > mapping.size_bytes() - location.size_bytes)
      [[unlikely]] {
    drop(index);
    return Status(Code::kInvalid, "a location outside its segment");
  }
  PinnedBytes bytes;
  bytes.reader_ = shared_from_this();
  bytes.bytes_ = {mapping.data() + location.offset, location.size_bytes};
  bytes.hazard_ = index;
  return bytes;
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

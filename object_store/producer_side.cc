#include "object_store/producer_side.h"

#include "common/check.h"
#include "object_store/store_core.h"

#include <fcntl.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace manta::object_store::detail {
namespace {

constexpr uint64_t kBackingStep = uint64_t{4} << 20;
/// Past the deadline, for the raylet's own answer: it says more than "timeout", and has patience while a disk makes room.
constexpr auto kGrace = std::chrono::seconds(102);
constexpr uint64_t kTailGrain = uint64_t{64} << 10;

}  // namespace

Result<MutableBlock> ProducerSide::create(size_t size_bytes, std::chrono::milliseconds timeout, bool from_plenty) {
  Deadline deadline = std::chrono::steady_clock::now() + timeout;
  if (size_bytes > kDedicatedBytes) return create_dedicated(size_bytes, deadline, from_plenty);
  std::unique_lock lock(mutex_);
  std::optional<MutableBlock> block;
  uint64_t mine = 0;  // my request, if I sent one
  while (!(block = try_standard(size_bytes))) {
    if (!broken_.ok()) return broken_;
    if (mine != 0 && waiting_.at(mine).answered) {
      Status status = std::move(waiting_.at(mine).status);
      leave(std::exchange(mine, 0));
      if (!status.ok()) return status;
      continue;  // granted, but others may have used it up
    }
    Deadline now = std::chrono::steady_clock::now();
    if (now >= deadline + kGrace) {
      leave(mine);
      return Status(Code::kTimeout, "the raylet did not answer a request for store memory");
    }
    // One request at a time is enough for all threads; past my own deadline I ask all the same, to be told why there is
    // nothing.
    if (mine == 0 && (standard_requests_ == 0 || now >= deadline)) {
      MANTA_ASSIGN_OR_RETURN(mine, request(lock, size_bytes, deadline, false, from_plenty));
      continue;
    }
    changed_.wait_until(lock, mine == 0 ? deadline : deadline + kGrace);
  }
  const bool pending = mine != 0 && !waiting_.at(mine).answered;
  leave(mine);
  lock.unlock();
  if (pending) take_back(mine);  // what others freed was enough; nothing need be spilled for this
  MANTA_RETURN_IF_ERROR(back(*block));
  return std::move(*block);
}

Result<MutableBlock> ProducerSide::create_dedicated(size_t size_bytes, Deadline deadline, bool from_plenty) {
  std::unique_lock lock(mutex_);
  if (!broken_.ok()) return broken_;
  if (std::unique_ptr<Segment> ready = take_ready(size_bytes)) {
    want_dedicated(size_bytes);
    return block_in_dedicated(lock, std::move(ready), size_bytes);
  }
  MANTA_ASSIGN_OR_RETURN(uint64_t mine, request(lock, size_bytes, deadline, true, from_plenty));
  Waiting& waiting = waiting_.at(mine);
  changed_.wait_until(lock, deadline + kGrace, [&] { return waiting.answered || !broken_.ok(); });
  std::unique_ptr<Segment> segment = std::move(waiting.segment);
  Status status = waiting.answered ? std::move(waiting.status)
                  : !broken_.ok()  ? broken_
                                   : Status(Code::kTimeout, "the raylet did not answer a request for store memory");
  leave(mine);
  if (!status.ok()) return status;
  const bool is_cold = segment->backed_bytes < size_bytes;
  Result<MutableBlock> block = block_in_dedicated(lock, std::move(segment), size_bytes);
  if (!is_cold || !block.ok()) return block;
  lock.lock();
  want_dedicated(size_bytes);  // only now: both would take pages at the same time
  return block;
}

Result<MutableBlock> ProducerSide::block_in_dedicated(std::unique_lock<std::mutex>& lock, std::unique_ptr<Segment> segment,
                                                      size_t size_bytes) {
  std::optional<uint64_t> offset = segment->allocator.allocate(size_bytes);
  MANTA_CHECK(offset && !segment->slots.empty(), size_bytes, segment->mapping->size_bytes());  // on_granted looked
  MutableBlock block = block_in(*segment, *offset, size_bytes);
  dedicated_.emplace(segment->id, std::move(segment));
  lock.unlock();
  MANTA_RETURN_IF_ERROR(back(block));
  return block;
}

MutableBlock ProducerSide::block_in(Segment& segment, uint64_t offset, size_t size_bytes) {
  MutableBlock block;
  block.producer_ = shared_from_this();
  block.bytes_ = {segment.mapping->data() + offset, size_bytes};
  block.location_ = {segment.id, offset, size_bytes, segment.slots.back().slot, segment.slots.back().generation};
  segment.slots.pop_back();
  return block;
}

std::optional<MutableBlock> ProducerSide::try_standard(size_t size_bytes) {
  for (auto& [id, segment] : standard_) {
    if (segment->slots.empty()) continue;
    if (std::optional<uint64_t> offset = segment->allocator.allocate(size_bytes))
      return block_in(*segment, *offset, size_bytes);
  }
  return std::nullopt;
}

Result<uint64_t> ProducerSide::request(std::unique_lock<std::mutex>& lock, size_t size_bytes, Deadline deadline,
                                       bool dedicated, bool ahead) {
  uint64_t id = ++last_request_;
  const uint64_t more_slots = dedicated ? 0 : segment_without_slots(size_bytes);
  waiting_[id] = {
      .size_bytes = size_bytes, .dedicated = dedicated, .more_slots = more_slots, .status = {}, .segment = nullptr};
  if (!dedicated) ++standard_requests_;
  auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now()).count();
  wire::RequestSegment message{id,        size_bytes, static_cast<uint32_t>(std::clamp<int64_t>(left, 0, 0xffffffff)),
                               dedicated, more_slots, ahead};
  lock.unlock();
  Status sent = send_(message.kType, wire::encode(message), {});
  lock.lock();
  if (!sent.ok()) {
    answer(waiting_.at(id), sent);
    leave(id);
    return sent;
  }
  return id;
}

/// A segment that has room for so much, but no slot for another object.
uint64_t ProducerSide::segment_without_slots(size_t size_bytes) const {
  for (const auto& [id, segment] : standard_) {
    if (segment->slots.empty() && !segment->has_all_slots && segment->allocator.fits(size_bytes)) return id;
  }
  return 0;
}

void ProducerSide::take_back(uint64_t request) {
  wire::CancelSegmentRequest message{request};
  (void)send_(message.kType, wire::encode(message), {});  // when the raylet is gone, so is the request
}

void ProducerSide::add_slots(const wire::SegmentGranted& message) {
  auto found = standard_.find(message.segment);
  if (found == standard_.end() || message.slots.size() != message.generations.size()) return;
  for (size_t i = message.slots.size(); i > 0; --i)
    found->second->slots.push_back({message.slots[i - 1], message.generations[i - 1]});
}

void ProducerSide::leave(uint64_t request) {
  auto found = waiting_.find(request);
  if (found == waiting_.end()) return;
  if (found->second.answered) {
    waiting_.erase(found);
  } else {
    found->second.abandoned = true;
  }
}

void ProducerSide::answer(Waiting& waiting, Status status) {
  waiting.answered = true;
  waiting.status = std::move(status);
  if (!waiting.dedicated) --standard_requests_;
  changed_.notify_all();
}

/// Takes pages ahead of where blocks lie, in steps. Not under the lock: another thread may take the same pages, which is
/// harmless.
Status ProducerSide::back(MutableBlock& block) {
  uint64_t end = block.location_.offset + std::max<uint64_t>(block.location_.size_bytes, 1);
  std::unique_lock lock(mutex_);
  bool is_dedicated = dedicated_.contains(block.location_.segment);
  Segment& segment = *(is_dedicated ? dedicated_ : standard_).at(block.location_.segment);  // stays: the block is in it
  if (end <= segment.backed_bytes) {
    if (!is_dedicated) want_standard(segment);
    return {};
  }
  uint64_t from = segment.backed_bytes;
  uint64_t step = is_dedicated ? kPageBytes : kBackingStep;
  uint64_t to = std::min<uint64_t>((end + step - 1) / step * step, segment.allocator.size_bytes());
  lock.unlock();
  MANTA_RETURN_IF_ERROR(populate_together(segment, from, to));
  lock.lock();
  set_backed(segment, to);
  if (!is_dedicated) want_standard(segment);
  return {};
}

Result<wire::ObjectLocation> ProducerSide::seal(MutableBlock&& block, ObjectId id) {
  if (block.producer_.get() != this) return Status(Code::kInvalid, "only a block of this process's own can be sealed");
  wire::ObjectLocation location = block.location_;
  {
    std::lock_guard lock(mutex_);
    if (!broken_.ok()) return broken_;
    if (auto found = dedicated_.find(location.segment); found != dedicated_.end()) {
      keep(std::move(found->second));
      dedicated_.erase(found);
    }
  }
  wire::Sealed message{id.owner, id.sequence, location};
  Status sent = send_(message.kType, wire::encode(message), {});
  // Whether the raylet read it or not, the memory is no longer this process's to reuse: a failed send means the raylet is
  // gone.
  block.producer_.reset();
  if (!sent.ok()) return sent;
  return location;
}

void ProducerSide::abort(MutableBlock& block) {
  const wire::ObjectLocation& at = block.location_;
  std::vector<uint64_t> surplus;
  {
    std::lock_guard lock(mutex_);
    if (auto found = dedicated_.find(at.segment); found != dedicated_.end()) {
      keep(std::move(found->second));
      dedicated_.erase(found);
      surplus.push_back(at.segment);
    } else if (auto standard = standard_.find(at.segment); standard != standard_.end()) {
      MANTA_CHECK(standard->second->allocator.give_back(at.offset, at.size_bytes), at.offset, at.size_bytes);
      standard->second->slots.push_back({at.slot, at.generation});
      surplus = take_surplus();
    }
    if (!broken_.ok()) surplus.clear();  // nobody to give them to, and sending may not be possible any more
    changed_.notify_all();
  }
  give_back(surplus);
}

/// Empty standard segments beyond one (or that one too); they are the raylet's from here on.
std::vector<uint64_t> ProducerSide::take_surplus(bool and_the_spare) {
  std::vector<uint64_t> surplus;
  bool has_spare = and_the_spare;
  for (auto segment = standard_.begin(); segment != standard_.end();) {
    bool is_empty = segment->second->allocator.is_empty();
    if (is_empty && has_spare) {
      surplus.push_back(segment->first);
      keep(std::move(segment->second));
      segment = standard_.erase(segment);
      continue;
    }
    has_spare = has_spare || is_empty;
    ++segment;
  }
  return surplus;
}

void ProducerSide::keep(std::unique_ptr<Segment> segment) {
  kept_[segment->id] = {std::move(segment->mapping), segment->backed_bytes};
}

void ProducerSide::give_back(const std::vector<uint64_t>& segments) {
  for (uint64_t segment : segments) {
    wire::ReturnSegment message{segment};
    (void)send_(message.kType, wire::encode(message), {});  // when the raylet is gone, so is the store
  }
}

void ProducerSide::on_granted(wire::SegmentGranted message, Fd fd) {
  if (!fd) {
    std::lock_guard lock(mutex_);
    add_slots(message);
    auto waiting = waiting_.find(message.request);
    if (waiting == waiting_.end()) return;
    answer(waiting->second, {});
    if (waiting->second.abandoned) waiting_.erase(waiting);
    return;
  }
  Status status = check_sealed(fd, message.size_bytes);
  if (message.slots.empty() || message.slots.size() != message.generations.size())
    status = Status(Code::kInvalid, "a grant without slots");
  std::unique_lock lock(mutex_);
  std::shared_ptr<Mapping> mapping;
  uint64_t backed_bytes = 0;
  if (auto kept = kept_.find(message.segment);
      kept != kept_.end() && kept->second.mapping->size_bytes() == message.size_bytes) {
    mapping = std::move(kept->second.mapping);
    backed_bytes = kept->second.backed_bytes;  // its pages were not given back: the raylet would have retired it
    kept_.erase(kept);
  } else if (status.ok()) {
    lock.unlock();
    Result<Mapping> mapped = Mapping::map(fd, message.size_bytes, Mapping::Access::kReadWrite);
    if (mapped.ok()) mapping = std::make_shared<Mapping>(std::move(mapped).value());
    if (mapping)
      (void)::madvise(mapping->data(), mapping->size_bytes(), MADV_HUGEPAGE);  // where shared memory may have them
    status = mapped.status();
    lock.lock();
  }
  auto waiting = waiting_.find(message.request);
  if (waiting == waiting_.end()) status = Status(Code::kInvalid, "a grant that nobody asked for");
  if (status.ok() && message.size_bytes < waiting->second.size_bytes)
    status = Status(Code::kInvalid, "a grant that is too small");
  bool unwanted = !status.ok();
  if (status.ok()) {
    std::vector<Slot> slots;
    for (size_t i = message.slots.size(); i > 0; --i) slots.push_back({message.slots[i - 1], message.generations[i - 1]});
    auto segment = std::make_unique<Segment>(message.segment, std::move(fd), std::move(mapping), std::move(slots));
    segment->backed_bytes = backed_bytes;
    if (!waiting->second.dedicated) {
      standard_.emplace(message.segment, std::move(segment));
    } else if (!waiting->second.abandoned) {
      waiting->second.segment = std::move(segment);
    } else {
      keep(std::move(segment));
      unwanted = true;
    }
  }
  if (waiting != waiting_.end()) {
    answer(waiting->second, status);
    if (waiting->second.abandoned) waiting_.erase(waiting);
  }
  lock.unlock();
  if (unwanted) give_back({message.segment});
}

void ProducerSide::on_refused(const wire::SegmentRefused& message) {
  std::lock_guard lock(mutex_);
  auto waiting = waiting_.find(message.request);
  if (waiting == waiting_.end()) return;
  Status status = wire::from_wire(message.status);
  if (waiting->second.more_slots != 0) {  // then another segment must do
    if (auto found = standard_.find(waiting->second.more_slots); found != standard_.end())
      found->second->has_all_slots = true;
    answer(waiting->second, {});
    if (waiting->second.abandoned) waiting_.erase(waiting);
    return;
  }
  answer(waiting->second, status.ok() ? Status(Code::kInternal, "a refusal without a reason") : std::move(status));
  if (waiting->second.abandoned) waiting_.erase(waiting);
}

void ProducerSide::on_reclaimed(const wire::Reclaimed& message) {
  std::vector<uint64_t> surplus;
  {
    std::lock_guard lock(mutex_);
    for (const wire::ObjectLocation& object : message.objects) {
      auto found = standard_.find(object.segment);
      if (found == standard_.end() || !found->second->allocator.give_back(object.offset, object.size_bytes)) continue;
      found->second->slots.push_back({object.slot, object.generation});
    }
    surplus = take_surplus();
    changed_.notify_all();
  }
  give_back(surplus);
}

void ProducerSide::on_trim(const wire::TrimSegments& message) {
  std::vector<uint64_t> surplus;
  std::vector<wire::ReturnSegment> tails;
  {
    std::lock_guard lock(mutex_);
    ++trims_;
    surplus = take_surplus(true);
    for (std::unique_ptr<Segment>& segment : ready_) {
      surplus.push_back(segment->id);
      keep(std::move(segment));
    }
    ready_.clear();
    for (auto& [id, segment] : standard_) {
      const uint64_t before = segment->allocator.size_bytes();
      const uint64_t end = message.wanted_bytes == 0 ? before : segment->allocator.cut_tail(kTailGrain);
      if (end == before) continue;
      segment->backed_bytes = std::min(segment->backed_bytes, end);
      tails.push_back({id, end});
    }
  }
  give_back(surplus);
  for (const wire::ReturnSegment& tail : tails) (void)send_(tail.kType, wire::encode(tail), {});
}

void ProducerSide::on_retired(uint64_t segment) {
  std::lock_guard lock(mutex_);
  kept_.erase(segment);
}

void ProducerSide::disconnected(const Status& cause) {
  std::lock_guard lock(mutex_);
  broken_ = cause;
  changed_.notify_all();
  ahead_wake_.notify_all();
}

std::shared_ptr<Mapping> ProducerSide::mapping_of(uint64_t segment) const {
  std::lock_guard lock(mutex_);
  for (const auto* segments : {&standard_, &dedicated_}) {
    if (auto found = segments->find(segment); found != segments->end()) return found->second->mapping;
  }
  if (auto found = kept_.find(segment); found != kept_.end()) return found->second.mapping;
  return nullptr;
}

void ProducerSide::add_stats(StoreClient::Stats& stats) const {
  std::lock_guard lock(mutex_);
  for (const auto& segment : ready_) {
    ++stats.segments;
    stats.segment_bytes += segment->mapping->size_bytes();
    stats.ready_bytes += segment->mapping->size_bytes();
  }
  for (const auto* segments : {&standard_, &dedicated_}) {
    for (const auto& [id, segment] : *segments) {
      ++stats.segments;
      stats.segment_bytes += segment->mapping->size_bytes();
      stats.used_bytes += segment->allocator.used_bytes();
    }
  }
}

}  // namespace manta::object_store::detail

// ProducerSide: memory ahead of what is put. Taking pages costs five times what writing them does, so it is done by a thread
// while the program computes.
#include "common/processors.h"
#include "object_store/producer_side.h"
#include "object_store/store_core.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <utility>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

namespace manta::object_store::detail {
namespace {

constexpr uint64_t kAheadBytes = uint64_t{16} << 20;         // of a standard segment
constexpr uint64_t kPortionBytes = uint64_t{4} << 20;        // between looks at whether it is still wanted
constexpr uint64_t kSharedPortionBytes = uint64_t{4} << 20;  // of pages that two threads take: each its own page tables
constexpr uint64_t kWorthSharingBytes = uint64_t{8} << 20;
constexpr size_t kMostAheadBytes = size_t{1} << 30;      // a segment for a larger object is not kept ready
constexpr auto kAnswerWithin = std::chrono::seconds(5);  // the raylet answers at once, or is away

/// Pages that are there already, warm ones, are mapped many at a time when they are read: 0.39 us of a page where writing
/// takes 0.81. New ones are a little cheaper to write.
int populating(const Fd& fd, uint64_t to) {
  struct stat info {};
  const bool is_warm = ::fstat(fd.get(), &info) == 0 && static_cast<uint64_t>(info.st_blocks) * 512 >= to;
  return is_warm ? MADV_POPULATE_READ : MADV_POPULATE_WRITE;
}

}  // namespace

Status populate(const Mapping& mapping, const Fd& fd, uint64_t from, uint64_t to) {
  if (::madvise(mapping.data() + from, to - from, populating(fd, to)) == 0) return {};
  int error = errno;
  if (error == EINVAL)
    error = ::posix_fallocate(fd.get(), static_cast<off_t>(from), static_cast<off_t>(to - from));  // before Linux 5.14
  if (error == 0) return {};
  return Status(Code::kIo, "the machine has no memory for " + std::to_string(to - from) +
                               " bytes of the object store: " + std::strerror(error));
}

struct Portions {
  Portions(std::shared_ptr<Mapping> mapped, int how, uint64_t begin, uint64_t end)
      : mapping(std::move(mapped)),
        advice(how),
        from(begin),
        to(end),
        done((end - begin + kSharedPortionBytes - 1) / kSharedPortionBytes) {}
  std::shared_ptr<Mapping> mapping;
  int advice;
  uint64_t from, to;
  std::atomic<size_t> next{0};
  std::vector<std::atomic<bool>> done;

  [[nodiscard]] uint64_t begin_of(size_t portion) const { return std::min(from + portion * kSharedPortionBytes, to); }
  /// Takes portions until none is left that nobody has begun.
  void take() {
    for (size_t i = next++; i < done.size(); i = next++) {
      if (::madvise(mapping->data() + begin_of(i), begin_of(i + 1) - begin_of(i), advice) == 0) done[i] = true;
    }
  }
};

/// With the thread's help where there is a processor for it. Never waits for it: what it has begun and not finished is done
/// here too, which is harmless.
Status ProducerSide::populate_together(const Segment& segment, uint64_t from, uint64_t to) {
  if (to - from < kWorthSharingBytes || processors() < 2) return populate(*segment.mapping, segment.fd, from, to);
  const auto portions = std::make_shared<Portions>(segment.mapping, populating(segment.fd, to), from, to);
  {
    std::lock_guard lock(mutex_);
    portions_ = portions;
    start_ahead();
  }
  portions->take();
  for (size_t i = 0; i < portions->done.size(); ++i) {
    if (portions->done[i]) continue;
    const Status status = populate(*segment.mapping, segment.fd, portions->begin_of(i), portions->begin_of(i + 1));
    if (!status.ok()) return status;
  }
  return {};
}

void ProducerSide::want_dedicated(size_t size_bytes) {
  if (!ready_.empty() || size_bytes > kMostAheadBytes) return;
  ahead_dedicated_ = size_bytes;
  start_ahead();
}

void ProducerSide::want_standard(const Segment& segment) {
  const uint64_t end = std::min(segment.allocator.used_bytes() + kAheadBytes / 2, segment.allocator.size_bytes());
  if (segment.backed_bytes >= end || ahead_standard_ != 0) return;
  ahead_standard_ = segment.id;
  start_ahead();
}

void ProducerSide::start_ahead() {
  if (stopping_) return;
  if (!ahead_.joinable()) ahead_ = std::thread([this] { run_ahead(); });
  ahead_wake_.notify_one();
}

void ProducerSide::stop() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    ahead_wake_.notify_all();
    changed_.notify_all();
  }
  if (ahead_.joinable()) ahead_.join();
}

void ProducerSide::run_ahead() {
  std::unique_lock lock(mutex_);
  while (true) {
    ahead_wake_.wait(
        lock, [this] { return stopping_ || !broken_.ok() || portions_ || ahead_dedicated_ != 0 || ahead_standard_ != 0; });
    if (stopping_ || !broken_.ok()) return;
    if (const std::shared_ptr<Portions> portions = std::exchange(portions_, nullptr)) {
      lock.unlock();
      portions->take();
      lock.lock();
    } else if (ahead_standard_ != 0) {
      back_standard(lock, ahead_standard_);
      ahead_standard_ = 0;
    } else {
      fetch_dedicated(lock, std::exchange(ahead_dedicated_, 0));
    }
  }
}

/// Pages of a standard segment beyond what is used, a portion at a time: mapping anything waits for a portion.
void ProducerSide::back_standard(std::unique_lock<std::mutex>& lock, uint64_t id) {
  while (!stopping_) {
    auto found = standard_.find(id);
    if (found == standard_.end()) return;
    Segment& segment = *found->second;
    const uint64_t end = std::min(segment.allocator.used_bytes() + kAheadBytes, segment.allocator.size_bytes());
    const uint64_t from = segment.backed_bytes, to = std::min(from + kPortionBytes, end);
    if (from >= end) return;
    std::shared_ptr<Mapping> mapping = segment.mapping;
    Result<Fd> fd = duplicate(segment.fd);  // the segment may go meanwhile
    if (!fd.ok()) return;
    lock.unlock();
    const Status status = populate(*mapping, *fd, from, to);
    lock.lock();
    found = standard_.find(id);
    if (!status.ok() || found == standard_.end()) return;  // whoever needs the pages will hear of it
    set_backed(*found->second, to);
  }
}

/// One more segment like the last.
void ProducerSide::fetch_dedicated(std::unique_lock<std::mutex>& lock, size_t size_bytes) {
  const Deadline deadline = std::chrono::steady_clock::now() + kAnswerWithin;
  const uint64_t trims = trims_;
  Result<uint64_t> mine = request(lock, size_bytes, std::chrono::steady_clock::now(), true, true);
  if (!mine.ok()) return;
  Waiting& waiting = waiting_.at(*mine);
  changed_.wait_until(lock, deadline, [&] { return waiting.answered || !broken_.ok() || stopping_; });
  std::unique_ptr<Segment> segment = std::move(waiting.segment);
  leave(*mine);
  if (!segment) return;
  const uint64_t wanted =
      std::min<uint64_t>((size_bytes + kPageBytes - 1) / kPageBytes * kPageBytes, segment->mapping->size_bytes());
  Status status;
  while (status.ok() && segment->backed_bytes < wanted && broken_.ok() && !stopping_ && trims == trims_) {
    lock.unlock();
    const uint64_t to = std::min(segment->backed_bytes + kPortionBytes, wanted);
    status = populate(*segment->mapping, segment->fd, segment->backed_bytes, to);
    lock.lock();
    if (status.ok()) segment->backed_bytes = to;
  }
  if (trims == trims_) {
    ready_.push_back(std::move(segment));  // what has no pages yet gets them when it is used
    return;
  }
  const uint64_t id = segment->id;
  keep(std::move(segment));
  lock.unlock();
  give_back({id});
  lock.lock();
}

std::unique_ptr<ProducerSide::Segment> ProducerSide::take_ready(size_t size_bytes) {
  auto found = std::find_if(ready_.begin(), ready_.end(), [&](const std::unique_ptr<Segment>& segment) {
    const uint64_t has = segment->mapping->size_bytes();
    return has >= size_bytes && has / 2 <= std::max<uint64_t>(size_bytes, kDedicatedBytes);
  });
  if (found == ready_.end()) return nullptr;
  std::unique_ptr<Segment> segment = std::move(*found);
  ready_.erase(found);
  return segment;
}

void ProducerSide::set_backed(Segment& segment, uint64_t to) {
  // Its end may have been given back meanwhile: the pages there are not ours to keep.
  if (const uint64_t left = segment.allocator.size_bytes(); left < to) {
    (void)::fallocate(segment.fd.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(left),
                      static_cast<off_t>(to - left));
    to = left;
  }
  segment.backed_bytes = std::max(segment.backed_bytes, to);
}

}  // namespace manta::object_store::detail

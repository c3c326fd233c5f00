// The events of a NodeLink that wait for the loop. Bounded by bytes of frames: while it is full the receiver listens to
// nobody, and is told when there is room again.
// Thread safety: everything; `take` by one thread at a time.
#pragma once

#include "common/fd.h"
#include "wire/net/node_link.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <mutex>
#include <utility>
#include <vector>

namespace manta::wire {

/// An eventfd: readable from the first signal until it is cleared.
class Signal {
 public:
  static Result<Signal> create() {
    Signal signal;
    signal.fd_ = Fd(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
    if (!signal.fd_) return Status(Code::kIo, std::string("eventfd: ") + std::strerror(errno));
    return signal;
  }
  void raise() const {
    const uint64_t one = 1;
    (void)!::write(fd_.get(), &one, sizeof one);
  }
  void clear() const {
    uint64_t count = 0;
    (void)!::read(fd_.get(), &count, sizeof count);
  }
  [[nodiscard]] int fd() const { return fd_.get(); }

 private:
  Fd fd_;
};

class Inbox {
 public:
  /// `room` is raised when a full inbox was emptied.
  Inbox(size_t max_bytes, Signal events, const Signal& room)
      : max_bytes_(max_bytes), signal_(std::move(events)), room_(room) {}

  void put(LinkEvent event) {
    std::lock_guard lock(mutex_);
    bytes_ += kEventBytes + event.body.size();
    if (events_.empty()) signal_.raise();
    events_.push_back(std::move(event));
  }
  [[nodiscard]] bool is_full() {
    std::lock_guard lock(mutex_);
    was_full_ = bytes_ >= max_bytes_;
    return was_full_;
  }
  std::vector<LinkEvent> take() {
    std::lock_guard lock(mutex_);
    signal_.clear();
    bytes_ = 0;
    if (std::exchange(was_full_, false)) room_.raise();
    return std::exchange(events_, {});
  }
  [[nodiscard]] int fd() const { return signal_.fd(); }

 private:
  static constexpr size_t kEventBytes = sizeof(LinkEvent);

  const size_t max_bytes_;
  const Signal signal_;
  const Signal& room_;
  std::mutex mutex_;
  std::vector<LinkEvent> events_;
  size_t bytes_ = 0;
  bool was_full_ = false;
};

}  // namespace manta::wire

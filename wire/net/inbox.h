// The events of a NodeLink that wait for the loop: in order for each sender, senders in turn, so that one that says much
// keeps nobody waiting (strangers are one sender). Bounded by bytes of frames: while it is full the receiver listens to
// nobody, and is told when there is room again. Thread safety: everything; `take` by one thread at a time.
#pragma once

#include "common/fd.h"
#include "wire/net/node_link.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <deque>
#include <mutex>
#include <unordered_map>
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
  static constexpr size_t kAtOnce = 256;  ///< Events of one `take`.
  static constexpr size_t kTurn = 16;     ///< Of one sender, while others wait.

  /// `room` is raised when a full inbox is full no more.
  Inbox(size_t max_bytes, Signal events, const Signal& room)
      : max_bytes_(max_bytes), signal_(std::move(events)), room_(room) {}

  void put(LinkEvent event) {
    std::lock_guard lock(mutex_);
    bytes_ += size_of(event);
    if (turns_.empty()) signal_.raise();
    std::deque<LinkEvent>& lane = lanes_[event.from];
    if (lane.empty()) turns_.push_back(event.from);
    lane.push_back(std::move(event));
  }
  [[nodiscard]] bool is_full() {
    std::lock_guard lock(mutex_);
    was_full_ = bytes_ >= max_bytes_;
    return was_full_;
  }
  /// Some of what is there; the signal stays raised while there is more.
  std::vector<LinkEvent> take() {
    std::vector<LinkEvent> out;
    std::lock_guard lock(mutex_);
    while (!turns_.empty() && out.size() < kAtOnce) take_turn(out);
    if (turns_.empty()) signal_.clear();
    if (was_full_ && bytes_ < max_bytes_) {
      was_full_ = false;
      room_.raise();
    }
    return out;
  }
  [[nodiscard]] int fd() const { return signal_.fd(); }

 private:
  static size_t size_of(const LinkEvent& event) { return sizeof(LinkEvent) + event.body.size(); }

  void take_turn(std::vector<LinkEvent>& out) {
    const NodeNumber from = turns_.front();
    turns_.pop_front();
    std::deque<LinkEvent>& lane = lanes_[from];
    const size_t most = turns_.empty() ? kAtOnce : kTurn;
    for (size_t i = 0; i < most && !lane.empty() && out.size() < kAtOnce; ++i) {
      bytes_ -= size_of(lane.front());
      out.push_back(std::move(lane.front()));
      lane.pop_front();
    }
    lane.empty() ? void(lanes_.erase(from)) : turns_.push_back(from);
  }

  const size_t max_bytes_;
  const Signal signal_;
  const Signal& room_;
  std::mutex mutex_;
  std::unordered_map<NodeNumber, std::deque<LinkEvent>> lanes_;  // none is empty
  std::deque<NodeNumber> turns_;                                 // of each lane once
  size_t bytes_ = 0;
  bool was_full_ = false;
};

}  // namespace manta::wire

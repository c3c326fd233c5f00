// The batches of one stream that were sent and not acknowledged: numbers them, lets go of what has come, and says what to
// send again. Pure: no socket, no clock of its own, no thread. `Message` is the batch as it is sent.
#pragma once

#include "common/clock.h"

#include <cstddef>
#include <cstdint>
#include <deque>
#include <utility>

namespace manta::wire {

template <typename Message>
class Outgoing {
 public:
  /// How long nothing is acknowledged before the peer is asked.
  static constexpr Duration kAskAfter = std::chrono::milliseconds(500);

  /// The number of the next batch, from 1.
  [[nodiscard]] uint64_t next_sequence() const { return last_ + 1; }
  [[nodiscard]] uint64_t last_sequence() const { return last_; }
  [[nodiscard]] size_t held_bytes() const { return held_bytes_; }
  [[nodiscard]] bool is_empty() const { return kept_.empty(); }

  /// The batch of next_sequence() was sent; it occupies `size_bytes`.
  void keep(Message message, size_t size_bytes, Time now) {
    if (kept_.empty()) progress_at_ = now;
    ++last_;
    held_bytes_ += size_bytes;
    kept_.push_back({std::move(message), size_bytes});
  }

  /// Everything up to `sequence` has come; what a peer makes up beyond what was sent counts for nothing. Returns the bytes
  /// that are free now.
  size_t acknowledge(uint64_t sequence, Time now) {
    size_t freed = 0;
    if (sequence > last_) return freed;
    while (!kept_.empty() && first() <= sequence) {
      freed += kept_.front().size_bytes;
      kept_.pop_front();
    }
    if (freed != 0) progress_at_ = now;
    held_bytes_ -= freed;
    return freed;
  }

  /// Calls `send(Message&)` for what is kept, in order; the caller has acknowledged what came.
  template <typename Send>
  void resend(Time now, Send send) {
    progress_at_ = now;
    for (Kept& kept : kept_) send(kept.message);
  }

  /// Whether the peer ought to be asked what it has; asking again waits as long.
  [[nodiscard]] bool must_ask(Time now) const { return !kept_.empty() && now - progress_at_ >= kAskAfter; }
  void asked(Time now) { progress_at_ = now; }

 private:
  struct Kept {
    Message message;
    size_t size_bytes = 0;
  };
  [[nodiscard]] uint64_t first() const { return last_ - kept_.size() + 1; }

  std::deque<Kept> kept_;
  uint64_t last_ = 0;
  size_t held_bytes_ = 0;
  Time progress_at_{};
};

}  // namespace manta::wire

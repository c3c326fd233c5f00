// A channel: two single-producer single-consumer byte rings in one shared memory file, between a caller and a worker.
// Requests go one way, replies the other. Plus the bells that wake a sleeping side.
//
//   caller --- requests ring ---> worker        each message: {size, kind, state, ...} then bytes, 16-byte aligned, in place
//   caller <--- replies ring ---- worker
//
// Invariants: positions only grow; tail <= head <= tail + capacity; a message never wraps (a filler takes the end of the ring);
// bytes of a message are written before `head` passes them, and not reused before `tail` passes them.
// A position or a size read from shared memory is checked before use: a peer that scribbles gets its channel closed (kInvalid)
// and reaches nothing beyond it.
//
// A queued message can be taken back by its producer until its consumer claims it (a compare-and-swap on `state`).
//
// Thread safety: one producer thread and one consumer thread at a time per ring (callers hold their own lock when there are
// more). take_back may run on the producer's side only. Cost: push and pop without a system call, about 20 ns for 64 bytes.
#pragma once

#include "common/fd.h"

#include <manta/status.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

namespace manta::wire {

inline constexpr size_t kRingBytes = size_t{1} << 20;
inline constexpr size_t kMaxRingMessageBytes = kRingBytes / 4;

/// Where a message is in its life. The worker claims, the caller takes back; whoever comes first has it.
enum class SlotState : uint32_t { kQueued = 0, kClaimed = 1, kTakenBack = 2 };

/// A message seen in place, in the ring. Valid until `release`.
struct RingMessage {
  uint16_t kind = 0;
  std::span<const std::byte> body;
  uint64_t position = 0;  ///< Names the message to take_back and release.
};

struct RingHeader;  // in shared memory: head, tail, each on its own cache line

/// One process's view of one ring; the same class serves both ends.
class Ring {
 public:
  Ring() = default;
  Ring(RingHeader* header, std::byte* data, size_t capacity_bytes);

  /// Room for a message of `size_bytes`, or an empty span when the ring is full now. Fill it, then `publish`.
  /// Precondition: size_bytes <= kMaxRingMessageBytes.
  [[nodiscard]] std::span<std::byte> reserve(size_t size_bytes);
  /// Makes the reserved message visible (its first `size_bytes`); returns its position.
  uint64_t publish(uint16_t kind, size_t size_bytes);

  /// The next message that its producer has not taken back, claimed for this consumer; nothing when the ring is empty;
  /// kInvalid when the shared memory is not a ring any more.
  [[nodiscard]] Result<std::optional<RingMessage>> claim();
  /// Gives the claimed message's room back. Messages are released in the order they were claimed.
  void release(const RingMessage& message);

  /// Producer: true when the message at `position` was still queued and now never reaches the consumer.
  bool take_back(uint64_t position);
  /// Producer: whether the consumer has claimed the message at `position` (or is past it).
  [[nodiscard]] bool is_claimed(uint64_t position) const;

  [[nodiscard]] bool is_empty() const;  ///< A hint, for either side.

 private:
  RingHeader* header_ = nullptr;
  std::byte* data_ = nullptr;
  uint64_t capacity_bytes_ = 0;
  uint64_t position_ = 0;         // my own end
  uint64_t other_position_ = 0;   // the other end, as last seen
  uint64_t reserved_ = 0;
};

/// The shared page of one process on which its peers ring. Two bells: requests wake its executors, replies wake its waiters.
class Bell {
 public:
  enum class Line : uint8_t { kRequests = 0, kReplies = 1 };

  /// A bell page of this process's own, and its descriptor for the peers.
  static Result<Bell> create();
  /// A peer's.
  static Result<Bell> open(const Fd& fd);

  Bell() = default;
  Bell(Bell&&) noexcept;
  Bell& operator=(Bell&&) noexcept;
  ~Bell();

  /// After publishing: wakes the owner if it sleeps on that line. No system call when it does not.
  void ring(Line line);

  /// Owner: before looking at the rings one last time, says it is about to sleep; returns the ticket for `sleep`.
  [[nodiscard]] uint32_t prepare_sleep(Line line);
  /// Owner: sleeps until rung since the ticket was drawn, or the timeout passes. Clears the sleeping mark.
  void sleep(Line line, uint32_t ticket, int64_t timeout_us);
  /// Owner: found work after all.
  void cancel_sleep(Line line);

  [[nodiscard]] const Fd& fd() const { return fd_; }

 private:
  struct Page;
  Fd fd_;
  Page* page_ = nullptr;
};

/// Both rings, mapped. The creator passes the descriptor to both ends.
class Channel {
 public:
  enum class Side : uint8_t { kCaller = 0, kWorker = 1 };

  /// A new channel's memory file, sealed against resizing.
  static Result<Fd> create_file();
  static Result<std::unique_ptr<Channel>> open(const Fd& fd, Side side);
  ~Channel();
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;

  Ring requests;
  Ring replies;

  /// Counters of streaming returns, one a stream: the consumer's progress, which lets the producer go on (backpressure).
  static constexpr int kStreamSlots = 64;
  [[nodiscard]] std::atomic<uint64_t>& stream_consumed(int slot);

 private:
  Channel() = default;
  void* base_ = nullptr;
  size_t size_bytes_ = 0;
};

}  // namespace manta::wire

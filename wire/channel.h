// A channel: two single-producer single-consumer byte rings in one shared memory file, between a caller and a worker.
// Requests go one way, replies the other. Plus the bells that wake a sleeping side.
//
//   caller --- requests ring ---> worker        each message: {size, kind, state, ...} then bytes, 16-byte aligned, in place
//   caller <--- replies ring ---- worker
//
// Invariants: positions only grow; a message never wraps (a filler takes the end of the ring); the header after the last
// message says kEmpty; bytes of a message are written before its state says kQueued, and not reused before `tail` passes
// them. A consumer that waits looks at the state of the next header: one cache line moves for a small message, and no shared
// head. A position or a size read from shared memory is checked before use: a peer that scribbles gets its channel closed
// (kInvalid) and reaches nothing beyond it.
//
// A queued message can be taken back by its producer until its consumer claims it (a compare-and-swap on `state`).
//
// Thread safety: one producer thread and one consumer thread at a time per ring (callers hold their own lock when there are
// more). take_back may run on the producer's side only. Cost: push and pop without a system call, about 20 ns for 64 bytes.
#pragma once

#include "common/fd.h"
#include "common/shared_memory.h"
#include "wire/atomics.h"

#include <manta/status.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

namespace manta::wire {

inline constexpr size_t kRingBytes = size_t{1} << 20;
inline constexpr size_t kMaxRingMessageBytes = kRingBytes / 4;

/// Where a message is in its life. The worker claims, the caller takes back; whoever comes first has it.
enum class SlotState : uint32_t { kEmpty = 0, kQueued = 1, kClaimed = 2, kTakenBack = 3 };

/// A message seen in place, in the ring. Valid until `release`.
struct RingMessage {
  uint16_t kind = 0;
  std::span<const std::byte> body;
  uint64_t position = 0;  ///< Names the message to take_back and release.
};

/// In shared memory, so neither side believes what the other wrote here before checking it.
struct RingHeader {
  alignas(64) Atomic<uint64_t> tail;  ///< Written by the consumer: everything before it is free.
};
/// Before each message in the ring.
struct SlotHeader {
  uint32_t size_bytes;
  uint16_t kind;
  uint16_t reserved;
  Atomic<uint32_t> state;
  uint32_t reserved_too;
};
static_assert(sizeof(SlotHeader) == 16 && Atomic<uint64_t>::is_always_lock_free);

/// One process's view of one ring; the same class serves both ends, each opened once in the ring's life.
class Ring {
 public:
  enum class End : uint8_t { kProducer = 0, kConsumer = 1 };

  Ring() = default;
  Ring(RingHeader* header, std::byte* data, size_t capacity_bytes, End end);

  /// Room for a message of `size_bytes` (never an empty span for size 0), or an empty span when the ring is full now or
  /// broken. Fill it, then `publish`. Precondition: size_bytes <= kMaxRingMessageBytes.
  [[nodiscard]] std::span<std::byte> reserve(size_t size_bytes);
  /// Makes the reserved message visible (its first `size_bytes`); returns its position. `kind` is not 0xFFFF.
  uint64_t publish(uint16_t kind, size_t size_bytes);

  /// The next message that its producer has not taken back, claimed for this consumer; nothing when the ring is empty;
  /// kInvalid when the shared memory is not a ring any more. The body still lies in memory that the producer can write:
  /// whoever decodes it reads each byte once.
  [[nodiscard]] Result<std::optional<RingMessage>> claim();
  /// Consumer: the first queued message at or after `position` that is not claimed yet, left where it is; `position` (0 at
  /// first) becomes where to look on. Nothing at the end of the ring, or of what makes sense there. Its producer can still
  /// take it back.
  [[nodiscard]] std::optional<RingMessage> peek(uint64_t& position) const;
  /// Gives the claimed message's room back. Messages are released in the order they were claimed.
  void release(const RingMessage& message);

  /// Producer: true when the message at `position` was still queued and now never reaches the consumer.
  bool take_back(uint64_t position);
  /// Producer: whether the consumer has claimed the message at `position` (or is past it).
  [[nodiscard]] bool is_claimed(uint64_t position) const;

  /// A hint. Producer: the consumer has released everything. Consumer: there is nothing to claim.
  [[nodiscard]] bool is_empty() const;
  /// Up to which position the consumer says that it has released. For any thread; not checked.
  [[nodiscard]] uint64_t released_position() const { return header_->tail.load(std::memory_order_acquire); }
  /// Where a message of `size_bytes` ends in a ring of kRingBytes when the one before it ends at `position`: who knows what
  /// went in knows how full a ring is without seeing it.
  [[nodiscard]] static uint64_t position_after(uint64_t position, size_t size_bytes) {
    uint64_t bytes = slot_bytes(size_bytes);
    uint64_t to_end = kRingBytes - (position & (kRingBytes - 1));
    return position + (to_end < bytes ? to_end : 0) + bytes;
  }
  /// The other side wrote nonsense; nothing goes through this ring any more.
  [[nodiscard]] bool is_broken() const { return broken_; }

 private:
  static constexpr uint16_t kFiller = 0xFFFF;
  static constexpr size_t kHeaderBytes = sizeof(SlotHeader);
  static uint64_t slot_bytes(size_t size_bytes) {
    return kHeaderBytes + ((std::max<size_t>(size_bytes, 1) + 15) & ~size_t{15});
  }

  [[nodiscard]] SlotHeader* slot(uint64_t position) const {
    return reinterpret_cast<SlotHeader*>(data_ + (position & (capacity_bytes_ - 1)));
  }
  [[nodiscard]] bool refresh_tail();
  [[nodiscard]] bool next(RingMessage& message);
  struct Seen {
    SlotHeader* header = nullptr;
    SlotState state = SlotState::kEmpty;
    uint16_t kind = 0;
    uint32_t size_bytes = 0;
    uint64_t end = 0;  // of its room; 0: the header makes no sense
  };
  /// Reads a header once: the producer may change it any time.
  [[nodiscard]] Seen look_at(uint64_t position) const;
  void put(uint16_t kind, uint32_t size_bytes, uint64_t bytes, SlotState state);
  Status broken();

  RingHeader* header_ = nullptr;
  std::byte* data_ = nullptr;
  uint64_t capacity_bytes_ = 0;  // a power of two
  uint64_t position_ = 0;        // producer: its head; consumer: what it has claimed up to
  uint64_t tail_ = 0;            // producer: as last seen and checked; consumer: as it wrote it
  uint64_t reserved_ = 0;
  uint64_t claimed_ = 0;  // consumer: messages claimed and not released
  End end_ = End::kProducer;
  bool broken_ = false;
};

inline bool Ring::refresh_tail() {
  uint64_t tail = header_->tail.load(std::memory_order_acquire);
  if (tail < tail_ || tail > position_ || (tail & 15) != 0) [[unlikely]]
    return broken_ = true, false;
  tail_ = tail;
  return true;
}

inline std::span<std::byte> Ring::reserve(size_t size_bytes) {
  uint64_t bytes = slot_bytes(size_bytes);
  uint64_t to_end = capacity_bytes_ - (position_ & (capacity_bytes_ - 1));
  uint64_t filler = to_end < bytes ? to_end : 0;
  uint64_t end = position_ + filler + bytes + kHeaderBytes;  // the next header is written with this message
  if (end - tail_ > capacity_bytes_ && (broken_ || !refresh_tail() || end - tail_ > capacity_bytes_)) return {};
  if (filler != 0) [[unlikely]]
    put(kFiller, static_cast<uint32_t>(filler - kHeaderBytes), filler, SlotState::kTakenBack);
  reserved_ = bytes;
  return {data_ + (position_ & (capacity_bytes_ - 1)) + kHeaderBytes, bytes - kHeaderBytes};
}

inline uint64_t Ring::publish(uint16_t kind, size_t size_bytes) {
  uint64_t position = position_;
  put(kind, static_cast<uint32_t>(size_bytes), std::min(reserved_, slot_bytes(size_bytes)), SlotState::kQueued);
  return position;
}

inline void Ring::put(uint16_t kind, uint32_t size_bytes, uint64_t bytes, SlotState state) {
  SlotHeader* header = slot(position_);
  position_ += bytes;
  slot(position_)->state.store(static_cast<uint32_t>(SlotState::kEmpty), std::memory_order_relaxed);
  header->size_bytes = size_bytes;
  header->kind = kind;
  header->state.store(static_cast<uint32_t>(state), std::memory_order_release);
}

inline Result<std::optional<RingMessage>> Ring::claim() {
  RingMessage message;
  if (next(message)) [[likely]]
    return std::optional<RingMessage>(message);
  if (broken_) [[unlikely]]
    return broken();
  return std::optional<RingMessage>();
}

inline void Ring::release(const RingMessage& message) {
  // With nothing claimed any more, the room of skipped messages goes back too.
  tail_ = --claimed_ == 0 ? position_ : message.position + slot_bytes(message.body.size());
  header_->tail.store(tail_, std::memory_order_release);
}

inline bool Ring::is_empty() const {
  if (end_ == End::kProducer) return header_->tail.load(std::memory_order_acquire) == position_;
  return slot(position_)->state.load(std::memory_order_acquire) == static_cast<uint32_t>(SlotState::kEmpty);
}

/// The shared page of one process on which its peers ring. Two bells: requests wake its executors, replies wake its waiters.
class Bell {
 public:
  enum class Line : uint8_t { kRequests = 0, kReplies = 1 };
  /// kOne: whatever line is rung, it is one and the same, for an owner that sleeps on both.
  enum class Lines : uint32_t { kTwo = 0, kOne = 1 };

  /// A bell page of this process's own, and its descriptor for the peers.
  static Result<Bell> create(Lines lines = Lines::kTwo);
  /// A peer's.
  static Result<Bell> open(const Fd& fd);

  Bell() = default;
  Bell(Bell&&) noexcept;
  Bell& operator=(Bell&&) noexcept;
  ~Bell();

  /// After publishing: wakes the owner if it sleeps on that line. No system call when it does not, and one a sleep when it
  /// does, however many ring.
  void ring(Line line);

  /// Owner: before looking at the rings one last time, says it is about to sleep; returns the ticket for `sleep`. Several
  /// threads may sleep on one line: a ring wakes them all. Each prepare_sleep is followed by one sleep or cancel_sleep.
  [[nodiscard]] uint32_t prepare_sleep(Line line);
  /// Owner: sleeps until rung since the ticket was drawn, or the timeout passes (or for no reason). Clears the sleeping
  /// mark.
  void sleep(Line line, uint32_t ticket, int64_t timeout_us);
  /// Owner: found work after all.
  void cancel_sleep(Line line);

  /// Of a bell of one's own; none of a peer's.
  [[nodiscard]] const Fd& fd() const { return fd_; }

 private:
  struct Page;
  Fd fd_;
  Mapping mapping_;
  Page* page_ = nullptr;
  Lines lines_ = Lines::kTwo;
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
  [[nodiscard]] std::atomic<uint64_t>& stream_consumed(int slot);  ///< 0 <= slot < kStreamSlots.
  /// The slots from here on were never asked for, by either side: their counters are 0. At most kStreamSlots.
  [[nodiscard]] int stream_slots_used() const;

 private:
  Channel() = default;
  Mapping mapping_;
};

}  // namespace manta::wire

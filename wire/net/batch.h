// A batch: what one NodeLink hands to another as one ZeroMQ message. A header, then entries; little endian, not padded.
//
//   header  u32 magic, u16 version, u16 flags, u32 from, u32 reserved, u64 stream, u64 sequence, u64 ack_stream, u64 ack
//   entry   u32 size, u16 kind, u16 what, u64 channel, then `size` bytes
//
// Batches of one stream are numbered from 1. A bare batch has no entries and no number of its own: `sequence` says how many
// batches were sent before it, so that its receiver finds out what did not come. Every batch acknowledges: of `ack_stream`,
// everything up to `ack` has come.
// Hostile input: the whole batch is checked before any entry of it is looked at. Thread safety: values.
#pragma once

#include "wire/channel.h"
#include "wire/cluster.h"
#include "wire/frame.h"

#include <manta/status.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace manta::wire {

inline constexpr uint32_t kBatchMagic = 0x4B4E4C4D;  // "MLNK"
inline constexpr uint16_t kBatchVersion = 1;
inline constexpr size_t kBatchHeaderBytes = 48;
inline constexpr size_t kEntryHeaderBytes = 16;
/// Room for the largest message of a ring; several small ones share it.
inline constexpr size_t kBatchBytes = kBatchHeaderBytes + kEntryHeaderBytes + kMaxRingMessageBytes;
/// A control frame larger than kBatchBytes is a batch of its own.
inline constexpr size_t kMaxBatchBytes = kBatchHeaderBytes + kEntryHeaderBytes + kMaxFrameBytes;

struct BatchHeader {
  static constexpr uint16_t kBare = 1;    ///< No entries.
  static constexpr uint16_t kAckNow = 2;  ///< Bare: the sender waits for an acknowledgement.
  static constexpr uint16_t kResend = 4;  ///< Bare: send again what follows `ack`, or everything when ack_stream is 0.

  uint16_t flags = 0;
  NodeNumber from = 0;  ///< 0: has not joined.
  uint64_t stream = 0;  ///< Random and not 0: one sender's batches to one peer, from when it was added until it is removed.
  uint64_t sequence = 0;    ///< Not 0 unless bare.
  uint64_t ack_stream = 0;  ///< 0: nothing came yet.
  uint64_t ack = 0;
};

enum class EntryWhat : uint16_t {
  kFrame = 0,    ///< A control frame of NodeType `kind`; no channel.
  kMessage = 1,  ///< A ring's message of that `kind`.
  kOpen = 2,     ///< This end of the channel is there: messages may come.
  kClose = 3,    ///< The last of this end.
  kCredit = 4,   ///< u64: up to which position the ring at this end was consumed.
  kStream = 5,   ///< u64: the counter of streaming returns in slot `kind`.
};

struct Entry {
  EntryWhat what{};
  uint16_t kind = 0;
  ChannelId channel;
  std::span<const std::byte> body;
};

/// Writes a batch into room that the caller owns.
class BatchWriter {
 public:
  BatchWriter() = default;
  /// `room` holds at least a header and outlives the writer.
  explicit BatchWriter(std::span<std::byte> room) : room_(room) {}

  [[nodiscard]] bool fits(size_t body_bytes) const { return size_ + kEntryHeaderBytes + body_bytes <= room_.size(); }
  [[nodiscard]] bool is_empty() const { return size_ == kBatchHeaderBytes; }
  [[nodiscard]] size_t size_bytes() const { return size_; }

  /// Precondition: it fits.
  void add(const Entry& entry) {
    std::byte* out = room_.data() + size_;
    const auto size = static_cast<uint32_t>(entry.body.size());
    const uint64_t channel = entry.channel.value;
    std::memcpy(out, &size, 4);
    std::memcpy(out + 4, &entry.kind, 2);
    std::memcpy(out + 6, &entry.what, 2);
    std::memcpy(out + 8, &channel, 8);
    if (size != 0) std::memcpy(out + kEntryHeaderBytes, entry.body.data(), size);
    size_ += kEntryHeaderBytes + size;
  }
  /// The header goes in last; the batch is the first size_bytes() of the room.
  void finish(const BatchHeader& header);

 private:
  std::span<std::byte> room_;
  size_t size_ = kBatchHeaderBytes;
};

/// A batch of any origin that was checked: walks its entries without any further doubt. Refers to the bytes it was given.
class BatchReader {
 public:
  /// kInvalid with the reason when `bytes` are not one whole batch within the caps.
  static Result<BatchReader> open(std::span<const std::byte> bytes);

  [[nodiscard]] const BatchHeader& header() const { return header_; }
  /// The next entry; false at the end.
  bool next(Entry& entry);

 private:
  BatchReader(const BatchHeader& header, std::span<const std::byte> entries) : header_(header), left_(entries) {}

  BatchHeader header_;
  std::span<const std::byte> left_;
};

/// The value of a kCredit or kStream entry.
[[nodiscard]] inline uint64_t counter_of(const Entry& entry) {
  uint64_t value = 0;
  std::memcpy(&value, entry.body.data(), sizeof value);
  return value;
}

}  // namespace manta::wire

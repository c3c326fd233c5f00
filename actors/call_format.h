// What the ring messages between a caller and a worker hold. Little endian, fixed headers, 8-byte aligned parts.
//
// requests:  kTemplate  {u32 id, u32 key size, u32 name size, u32 group size} key name group
//            kCall      CallHeader, then each argument: {u32 kind, u32 size} payload padded to 8
// replies:   kResult    ReplyHeader value kept       the only result of a call, and its end
//            kPart      ReplyHeader value            one of several results, or a stream's item
//            kDone      ReplyHeader kept             the end after parts; `index` counts them
//            kFailed    ReplyHeader error kept       the end with an error
//            kNotBegun  ReplyHeader                  a task that lay behind one that waits: its caller has it back
//            kInside    ReplyHeader ids              Refs inside the stored value that follows, as many messages as they
//            take
//
// A value is a blob in place, or the 48-byte location of one in the store. `kept` are the ids of Refs that came with the
// arguments and that the worker still holds: the caller registers them with their owners before it lets its own go.
// The other side may be broken or hostile: a Cursor never reads past its end, and says so.
#pragma once

#include "wire/messages.h"

#include <manta/ids.h>
#include <manta/status.h>

#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace manta {

enum class RequestKind : uint16_t { kTemplate = 1, kCall = 2 };
enum class ReplyKind : uint16_t { kResult = 1, kPart = 2, kDone = 3, kFailed = 4, kInside = 5, kNotBegun = 6 };
enum class PartKind : uint32_t { kInline = 0, kStored = 1 };

/// Blobs up to this size travel in ring messages, larger ones through the store.
inline constexpr size_t kInlineBytes = 100 << 10;
/// The arguments of one call together; beyond, they go through the store as one object.
inline constexpr size_t kMaxCallBytes = 160 << 10;
/// Ids in one kInside message.
inline constexpr size_t kMaxInside = 4'096;

struct CallHeader {
  uint64_t cookie = 0;          ///< The caller's; comes back with each reply.
  uint64_t first_sequence = 0;  ///< Of the caller's object ids: result i is {caller, first_sequence + i}.
  uint64_t instance = 0;        ///< Of a process of shared actors: which one (its sequence). 0 elsewhere.
  uint32_t template_id = 0;
  uint32_t argument_count = 0;
  int32_t returns = 1;  ///< -1: a stream.
  uint32_t stream_slot = 0;
  uint32_t stream_buffer = 0;
  uint32_t attempt = 0;
  uint32_t arguments_stored = 0;  ///< 1: a location of the arguments part follows instead.
  uint32_t reserved = 0;
};
static_assert(sizeof(CallHeader) == 56);

struct ReplyHeader {
  uint64_t cookie = 0;
  uint32_t index = 0;
  uint32_t kept = 0;
  uint32_t value_kind = 0;
  uint32_t value_bytes = 0;
  uint64_t run_ns = 0;
};
static_assert(sizeof(ReplyHeader) == 32);

struct PartHeader {
  uint32_t kind = 0;
  uint32_t size_bytes = 0;
};

struct PackedLocation {
  uint64_t segment, offset, size_bytes;
  uint32_t slot, generation;
  uint64_t owner, sequence;  ///< Of an argument, the object: its owner knows where else it lies. Else 0.
};
static_assert(sizeof(PackedLocation) == 48);
[[nodiscard]] inline PackedLocation pack(const wire::ObjectLocation& at, const ObjectId& id = {}) {
  return {at.segment, at.offset, at.size_bytes, at.slot, at.generation, id.owner, id.sequence};
}
[[nodiscard]] inline wire::ObjectLocation unpack(const PackedLocation& at) {
  return {at.segment, at.offset, at.size_bytes, at.slot, at.generation};
}

[[nodiscard]] constexpr size_t padded(size_t size_bytes) { return (size_bytes + 7) & ~size_t{7}; }

/// Reads from bytes of any origin; past the end everything is zero and `ok()` false.
class Cursor {
 public:
  explicit Cursor(std::span<const std::byte> bytes) : bytes_(bytes) {}
  [[nodiscard]] bool ok() const { return ok_; }
  [[nodiscard]] std::span<const std::byte> rest() const { return bytes_; }

  template <typename T>
  T read() {
    T value{};
    const auto from = take(sizeof(T));
    if (!from.empty()) std::memcpy(&value, from.data(), sizeof(T));
    return value;
  }
  std::span<const std::byte> take(size_t size_bytes) {
    if (size_bytes > bytes_.size()) return ok_ = false, bytes_ = {}, std::span<const std::byte>{};
    const auto out = bytes_.first(size_bytes);
    bytes_ = bytes_.subspan(size_bytes);
    return out;
  }
  std::span<const std::byte> take_padded(size_t size_bytes) {
    const auto whole = take(padded(size_bytes));
    return ok_ ? whole.first(size_bytes) : whole;
  }
  std::string_view text(size_t size_bytes) {
    const auto bytes = take(size_bytes);
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }

 private:
  std::span<const std::byte> bytes_;
  bool ok_ = true;
};

/// Writes into room that was measured before; writing past it is a bug here and dies.
class Pen {
 public:
  explicit Pen(std::span<std::byte> room) : room_(room) {}
  template <typename T>
  void write(const T& value) {
    bytes({reinterpret_cast<const std::byte*>(&value), sizeof value});
  }
  void bytes(std::span<const std::byte> from) {
    if (from.size() > room_.size()) die("a ring message was measured too small");
    if (!from.empty()) std::memcpy(room_.data(), from.data(), from.size());
    room_ = room_.subspan(from.size());
  }
  void padded_bytes(std::span<const std::byte> from) {
    bytes(from);
    pad(from.size());
  }
  /// After `size_bytes`, up to the next part.
  void pad(size_t size_bytes) {
    static constexpr std::byte kZeros[8] = {};
    bytes({kZeros, padded(size_bytes) - size_bytes});
  }
  /// Room for who writes by himself.
  std::span<std::byte> take(size_t size_bytes) {
    if (size_bytes > room_.size()) die("a ring message was measured too small");
    const std::span<std::byte> out = room_.first(size_bytes);
    room_ = room_.subspan(size_bytes);
    return out;
  }

 private:
  std::span<std::byte> room_;
};

}  // namespace manta

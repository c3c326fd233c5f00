// How values travel: Encoder, Decoder and Codec<T>.
//
// A value becomes a blob: msgpack bytes "in band", the ids of the Refs inside it, and big buffers "out of band", 64-byte
// aligned, so that a reader in another process gets them as views of shared memory without a copy.
//
//   u32 in_band_size, u16 refs, u16 buffers | in-band bytes | refs x {u64 owner, u64 sequence} | buffers x {u64 offset, u64
//   size} | ...
//
// From 65,535 refs or buffers on, both counts are 0xffff and {u32 refs, u32 buffers} stands before the in-band bytes.
//
// What travels: bool, numbers, enums, std::string, vector, array, map, unordered_map, set, unordered_set, deque, pair,
// tuple, optional, variant, unique_ptr, chrono durations, Buffer, Array, Ref, Actor, aggregates of up to 16 such members (no
// macro), types with MSGPACK_DEFINE (include <msgpack.hpp> before), trivially copyable closures, and whatever a
// specialisation of Codec<T> handles.
//
// A Decoder treats its bytes as hostile: every count is checked against the bytes left, depth is capped, and after the first
// fault it returns empty values and `ok()` is false. Thread safety: one thread at a time.
#pragma once

#include <manta/buffer.h>
#include <manta/detail/reflect.h>
#include <manta/ids.h>
#include <manta/status.h>

#include <array>
#include <bit>
#include <chrono>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <unordered_map>
#include <unordered_set>
#include <variant>
#include <vector>

namespace manta {

inline constexpr size_t kBufferAlignment = 64;
/// Text and vectors of numbers from this size on travel out of band: what a Codec of your own encodes through them must live
/// until the blob is written, so encode members, not temporaries.
inline constexpr size_t kOutOfBandBytes = 4096;

namespace detail {
struct ObjectEntry;
}

/// Collects one value. Out-of-band memory that was added must stay valid until the blob is written.
class Encoder {
 public:
  void raw(const void* bytes, size_t size_bytes) { in_band_.append(static_cast<const char*>(bytes), size_bytes); }
  void byte(uint8_t value) { in_band_.push_back(static_cast<char>(value)); }
  template <typename T>
  void big_endian(T value) {
    if constexpr (sizeof(T) > 1) value = swap(value);
    raw(&value, sizeof value);
  }

  void nil() { byte(0xc0); }
  void boolean(bool value) { byte(value ? 0xc3 : 0xc2); }
  void integer(int64_t value);
  void unsigned_integer(uint64_t value);
  void real(double value);
  void real(float value);
  void text(std::string_view value);
  void array_header(size_t count);
  void map_header(size_t count);
  void binary(const void* bytes, size_t size_bytes);

  /// Bytes that readers see in place. `owner` keeps them alive; null when the value being encoded does.
  void buffer(std::span<const std::byte> bytes, std::shared_ptr<const void> owner = nullptr);
  void buffer(const Buffer& bytes);  ///< Its memory is read only from now on.
  /// A reference to another object: its id goes with the blob, so that the runtime keeps it alive.
  void ref(const ObjectId& id);

  /// Throws Error(kInvalid) when the in-band part is too long for a blob (4 GiB).
  [[nodiscard]] size_t blob_size() const;
  void write_blob(std::span<std::byte> out) const;
  [[nodiscard]] std::string to_blob() const;
  /// The memory of the value's only buffer, when it is of this process's own making; else null.
  [[nodiscard]] detail::OwnMemory* only_own_memory() const;
  /// For a blob whose only buffer lies there already, right behind `head`: writes the rest. False when the rest is longer.
  [[nodiscard]] bool write_head(std::span<std::byte> head) const;
  [[nodiscard]] const std::vector<ObjectId>& refs() const { return refs_; }
  void clear();

 private:
  template <typename T>
  static T swap(T value) {
    if constexpr (sizeof(T) == 2) return __builtin_bswap16(value);
    if constexpr (sizeof(T) == 4) return __builtin_bswap32(value);
    if constexpr (sizeof(T) == 8) return __builtin_bswap64(value);
  }
  struct OutOfBand {
    std::span<const std::byte> bytes;
    std::shared_ptr<const void> owner;
    detail::OwnMemory* own = nullptr;
  };
  [[nodiscard]] bool has_long_counts() const;
  [[nodiscard]] size_t head_size() const;
  /// Hands the pieces before the buffers in order to `write(pointer, size)`. The first buffer is to lie at `buffers_at`.
  template <typename Write>
  void each_head_piece(size_t buffers_at, Write&& write) const;
  /// All pieces; a null pointer stands for zeros.
  template <typename Write>
  void each_piece(Write&& write) const;
  std::string in_band_;
  std::vector<ObjectId> refs_;
  std::vector<OutOfBand> buffers_;
};

/// Reads one value. With an `owner` (shared memory, or a heap block) buffers are views; without one they are copied.
class Decoder {
 public:
  explicit Decoder(std::span<const std::byte> blob, std::shared_ptr<const void> owner = nullptr);

  [[nodiscard]] bool ok() const { return status_.ok(); }
  [[nodiscard]] const Status& status() const { return status_; }
  void fail(std::string_view what);

  bool next_is_nil();  ///< Consumes it when it is.
  bool boolean();
  int64_t integer();
  uint64_t unsigned_integer();
  double real();
  std::string_view text();
  size_t array_header();
  size_t map_header();
  std::span<const std::byte> binary();
  Buffer buffer();
  /// The bytes of a buffer in place: valid as long as the blob.
  std::span<const std::byte> buffer_bytes();
  [[nodiscard]] bool next_is_buffer() const;
  /// The id at this place of the value (see Encoder::ref).
  ObjectId ref();

  /// The extent of the next value, whatever it is; skips it.
  std::span<const std::byte> raw_value();

  bool enter();  ///< One level deeper; false (and failed) past the depth cap.
  void leave() { --depth_; }
  [[nodiscard]] size_t bytes_left() const { return static_cast<size_t>(end_ - at_); }

  /// The ids of the Refs inside a blob, without decoding it.
  static Result<std::vector<ObjectId>> refs_of(std::span<const std::byte> blob);

 private:
  uint8_t take();
  const std::byte* take(size_t size_bytes);
  template <typename T>
  T big_endian();
  void skip(int depth);

  const std::byte* at_ = nullptr;
  const std::byte* end_ = nullptr;
  std::span<const std::byte> blob_;
  const std::byte* refs_ = nullptr;
  const std::byte* buffers_ = nullptr;
  size_t ref_count_ = 0;
  size_t buffer_count_ = 0;
  std::shared_ptr<const void> owner_;
  int depth_ = 0;
  Status status_;
};

/// How a T travels. Specialise it for a type of your own: `static void encode(Encoder&, const T&)`, `static T
/// decode(Decoder&)`.
template <typename T>
struct Codec;

template <typename T>
void encode(Encoder& out, const T& value) {
  Codec<T>::encode(out, value);
}
template <typename T>
T decode(Decoder& in) {
  return Codec<T>::decode(in);
}

namespace detail {

template <typename T, template <typename...> class Of>
inline constexpr bool is_a = false;
template <template <typename...> class Of, typename... Args>
inline constexpr bool is_a<Of<Args...>, Of> = true;

template <typename T>
concept Msgpacked = requires {
  &T::template msgpack_pack<int>;
}
|| requires(T& t) { t.msgpack_unpack(0); };

template <typename T>
concept Number = std::is_arithmetic_v<T> && !std::is_same_v<T, bool>;
template <typename T>
concept Sequence = is_a<T, std::vector> || is_a<T, std::deque>;
template <typename T>
concept Set = is_a<T, std::set> || is_a<T, std::unordered_set>;
template <typename T>
concept Map = is_a<T, std::map> || is_a<T, std::unordered_map>;
template <typename T>
concept Tuple = is_a<T, std::tuple> || is_a<T, std::pair>;
template <typename T>
concept Reflected = std::is_aggregate_v<T> && std::is_class_v<T> && !Msgpacked<T>;
template <typename T>
concept Closure = std::is_class_v<T> && !std::is_aggregate_v<T> && !Msgpacked<T> && requires {
  &T::operator();
};

template <typename T>
inline constexpr bool cannot_travel = false;

}  // namespace detail

/// Whether `manta` can send a T (a readable compile-time question; nesting is judged one level at a time).
template <typename T>
concept Travels = requires {
  sizeof(Codec<std::remove_cvref_t<T>>);
};

}  // namespace manta

#include <manta/detail/codec_impl.h>  // IWYU pragma: keep

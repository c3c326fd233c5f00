// Bytes that may live in shared memory: read-only views that keep what they look at alive.
//
// A Buffer got from the object store is the shared memory itself, mapped read-only: no copy was made, and the object stays
// pinned while any copy of the Buffer lives. Copying a Buffer copies a pointer.
//
// Big results are best made where they will lie:
//
//   manta::Array<float> squares(size_t count) {
//     auto out = manta::Array<float>::uninitialized(count);
//     for (size_t i = 0; float& each : out.writable()) each = static_cast<float>(i * i), ++i;
//     return out;                                            // no copy: it is the object
//   }
//
// From 100 KiB on such memory comes from the object store, when the store has plenty, else from the heap. As the value of a
// put, a task or a method (or its only Array, with little beside it) it becomes the object in place; dropped, it goes back.
// Thread safety: what is read-only any thread may read; `writable` is for the one thread that fills it.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <new>
#include <span>
#include <type_traits>
#include <utility>

namespace manta {

namespace detail {
/// Memory of this process's own, to be written until something is made of it.
class OwnMemory {
 public:
  OwnMemory() = default;
  OwnMemory(const OwnMemory&) = delete;
  OwnMemory& operator=(const OwnMemory&) = delete;
  virtual ~OwnMemory() = default;
  [[nodiscard]] std::span<std::byte> bytes() const { return bytes_; }
  /// From now on it is read only.
  void freeze() { is_frozen_.store(true, std::memory_order_relaxed); }
  [[nodiscard]] bool is_frozen() const { return is_frozen_.load(std::memory_order_relaxed); }

 protected:
  std::span<std::byte> bytes_;  ///< 64-byte aligned.

 private:
  std::atomic<bool> is_frozen_{false};
};
}  // namespace detail

class Buffer {
 public:
  Buffer() = default;
  /// A view of `bytes`, which `owner` keeps alive.
  Buffer(std::span<const std::byte> bytes, std::shared_ptr<const void> owner) : bytes_(bytes), owner_(std::move(owner)) {}

  /// A private copy on the heap.
  static Buffer copy_of(std::span<const std::byte> bytes);

  /// Memory to be filled in through `writable`, 64-byte aligned. Waits for nobody's memory; std::bad_alloc when there is
  /// none.
  static Buffer uninitialized(size_t size_bytes);

  /// Throws Error(kInvalid) unless this was made by `uninitialized`, is the only one of its memory, and has not been put,
  /// passed or returned yet: others may read it then.
  [[nodiscard]] std::span<std::byte> writable();

  [[nodiscard]] const std::byte* data() const { return bytes_.data(); }
  [[nodiscard]] size_t size() const { return bytes_.size(); }
  [[nodiscard]] std::span<const std::byte> bytes() const { return bytes_; }
  [[nodiscard]] const std::shared_ptr<const void>& owner() const { return owner_; }
  [[nodiscard]] detail::OwnMemory* own_memory() const { return own_; }  ///< Not for users.

 private:
  explicit Buffer(const std::shared_ptr<detail::OwnMemory>& own) : bytes_(own->bytes()), owner_(own), own_(own.get()) {}

  std::span<const std::byte> bytes_;
  std::shared_ptr<const void> owner_;
  detail::OwnMemory* own_ = nullptr;  // what owner_ keeps, when it is that
};

/// An array of numbers, zero-copy wherever a Buffer is. The natural type for big arguments and results. Read-only, but for
/// whoever makes one in place with `uninitialized`.
template <typename T>
requires std::is_arithmetic_v<T>
class Array {
 public:
  Array() = default;
  explicit Array(Buffer buffer) : buffer_(std::move(buffer)) {}
  explicit Array(std::span<const T> values) : buffer_(Buffer::copy_of(std::as_bytes(values))) {}
  /// `count` times `value`, in memory as of `uninitialized`.
  Array(size_t count, T value) : Array(uninitialized(count)) {
    if (count > 0) std::ranges::fill(writable(), value);
  }

  /// `count` numbers that are yet to be written, through `writable`; see Buffer::uninitialized.
  static Array uninitialized(size_t count) {
    if (count > std::numeric_limits<size_t>::max() / 2 / sizeof(T)) throw std::bad_array_new_length();
    return Array(Buffer::uninitialized(count * sizeof(T)));
  }
  /// The same memory, to be filled in; see Buffer::writable for when it throws.
  [[nodiscard]] std::span<T> writable() {
    const std::span<std::byte> bytes = buffer_.writable();
    return {reinterpret_cast<T*>(bytes.data()), bytes.size() / sizeof(T)};
  }

  [[nodiscard]] const T* data() const { return reinterpret_cast<const T*>(buffer_.data()); }
  [[nodiscard]] size_t size() const { return buffer_.size() / sizeof(T); }
  [[nodiscard]] const T& operator[](size_t i) const { return data()[i]; }
  [[nodiscard]] const T* begin() const { return data(); }
  [[nodiscard]] const T* end() const { return data() + size(); }
  [[nodiscard]] std::span<const T> span() const { return {data(), size()}; }
  [[nodiscard]] const Buffer& buffer() const { return buffer_; }

 private:
  Buffer buffer_;
};

}  // namespace manta

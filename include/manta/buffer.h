// Bytes that may live in shared memory: read-only views that keep what they look at alive.
//
// A Buffer got from the object store is the shared memory itself, mapped read-only: no copy was made, and the object stays
// pinned while any copy of the Buffer lives. Copying a Buffer copies a pointer. Thread safety: immutable, so any thread may
// read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <type_traits>
#include <utility>

namespace manta {

class Buffer {
 public:
  Buffer() = default;
  /// A view of `bytes`, which `owner` keeps alive.
  Buffer(std::span<const std::byte> bytes, std::shared_ptr<const void> owner) : bytes_(bytes), owner_(std::move(owner)) {}

  /// A private copy on the heap.
  static Buffer copy_of(std::span<const std::byte> bytes);

  [[nodiscard]] const std::byte* data() const { return bytes_.data(); }
  [[nodiscard]] size_t size() const { return bytes_.size(); }
  [[nodiscard]] std::span<const std::byte> bytes() const { return bytes_; }
  [[nodiscard]] const std::shared_ptr<const void>& owner() const { return owner_; }

 private:
  std::span<const std::byte> bytes_;
  std::shared_ptr<const void> owner_;
};

/// A read-only array of numbers, zero-copy wherever a Buffer is. The natural type for big arguments and results.
template <typename T>
requires std::is_arithmetic_v<T>
class Array {
 public:
  Array() = default;
  explicit Array(Buffer buffer) : buffer_(std::move(buffer)) {}
  explicit Array(std::span<const T> values) : buffer_(Buffer::copy_of(std::as_bytes(values))) {}

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

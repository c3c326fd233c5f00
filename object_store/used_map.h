// Which 64-byte units of a segment belong to objects: one bit each, over a vector that grows to what is used.
//
// Thread safety: none. Cost: a word operation for each 4 KiB of the extent.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace manta::object_store {

inline constexpr uint64_t kUnitBytes = 64;

/// The bytes that an object of this size takes: whole units, one at least.
[[nodiscard]] inline uint64_t extent_bytes(uint64_t size_bytes) {
  return (std::max<uint64_t>(size_bytes, 1) + kUnitBytes - 1) / kUnitBytes * kUnitBytes;
}

class UsedMap {
 public:
  explicit UsedMap(std::vector<uint64_t>& words) : words_(words) {}

  [[nodiscard]] bool any(uint64_t offset, uint64_t bytes) const {
    bool found = false;
    each(offset, bytes,
         [&](uint64_t word, uint64_t mask) { found = found || (word < words_.size() && (words_[word] & mask) != 0); });
    return found;
  }
  void set(uint64_t offset, uint64_t bytes) {
    uint64_t words = (offset + bytes + kUnitBytes * 64 - 1) / (kUnitBytes * 64);
    if (words_.size() < words) words_.resize(words);
    each(offset, bytes, [&](uint64_t word, uint64_t mask) { words_[word] |= mask; });
  }
  void clear(uint64_t offset, uint64_t bytes) {
    each(offset, bytes, [&](uint64_t word, uint64_t mask) {
      if (word < words_.size()) words_[word] &= ~mask;
    });
  }

 private:
  template <typename F>
  static void each(uint64_t offset, uint64_t bytes, F&& f) {
    uint64_t bit = offset / kUnitBytes;
    const uint64_t end = (offset + bytes + kUnitBytes - 1) / kUnitBytes;
    while (bit < end) {
      uint64_t in_word = bit % 64;
      uint64_t count = std::min<uint64_t>(64 - in_word, end - bit);
      uint64_t ones = count == 64 ? ~uint64_t{0} : (uint64_t{1} << count) - 1;
      f(bit / 64, ones << in_word);
      bit += count;
    }
  }

  std::vector<uint64_t>& words_;
};

}  // namespace manta::object_store

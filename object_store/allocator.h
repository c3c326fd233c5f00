// Where blocks lie inside one segment: first fit over free extents that merge with their neighbours. Pure bookkeeping in the
// private heap of the segment's only producer; the memory itself is never touched, and a block that is out costs nothing.
//
// Thread safety: none. Cost: allocate walks free extents from the lowest; give_back is O(log n).
#pragma once

#include <cstdint>
#include <map>
#include <optional>

namespace manta::object_store {

class Allocator {
 public:
  explicit Allocator(uint64_t size_bytes);

  /// The offset of `size_bytes` (at least 1), 64-byte aligned; nothing when no free extent is that long.
  [[nodiscard]] std::optional<uint64_t> allocate(uint64_t size_bytes);
  [[nodiscard]] bool fits(uint64_t size_bytes) const;
  /// False, and nothing changes, when any of it is free already or lies outside.
  [[nodiscard]] bool give_back(uint64_t offset, uint64_t size_bytes);
  /// Gives up what is free at the end, in whole units of `grain`; returns where the end is now.
  uint64_t cut_tail(uint64_t grain);

  [[nodiscard]] uint64_t size_bytes() const { return size_bytes_; }
  [[nodiscard]] uint64_t used_bytes() const { return used_bytes_; }
  [[nodiscard]] bool is_empty() const { return used_bytes_ == 0; }

 private:
  std::map<uint64_t, uint64_t> free_;  // offset -> bytes; never two that touch
  uint64_t size_bytes_ = 0;
  uint64_t used_bytes_ = 0;
};

}  // namespace manta::object_store

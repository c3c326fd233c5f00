// Where blocks lie inside one segment: first fit over free extents that merge with their neighbours. Pure bookkeeping in the
// private heap of the segment's only producer; the memory itself is never touched.
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
  /// False, and nothing changes, when this is no extent that `allocate` gave and that is still out.
  [[nodiscard]] bool give_back(uint64_t offset, uint64_t size_bytes);

  [[nodiscard]] uint64_t used_bytes() const { return used_bytes_; }
  [[nodiscard]] bool is_empty() const { return used_bytes_ == 0; }

 private:
  std::map<uint64_t, uint64_t> free_;  // offset -> bytes; never two that touch
  std::map<uint64_t, uint64_t> out_;
  uint64_t used_bytes_ = 0;
};

}  // namespace manta::object_store

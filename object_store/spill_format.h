// The layout of a spill file: records one after another, each a header and the object's bytes, padded.
#pragma once

#include <cstdint>

namespace manta::object_store {

inline constexpr uint64_t kSpillMagic = 0x4d414e5441535031;  // "MANTASP1"

/// 64 bytes before the bytes of an object. `header_checksum` covers the fields before it.
struct SpillHeader {
  uint64_t magic = kSpillMagic;
  uint64_t owner = 0;
  uint64_t sequence = 0;
  uint64_t size_bytes = 0;
  uint64_t checksum = 0;
  uint64_t reserved[2] = {};
  uint64_t header_checksum = 0;
};
static_assert(sizeof(SpillHeader) == 64);

inline constexpr uint64_t kPunchedFrom = uint64_t{16} << 10;  ///< Records of objects from this size on own whole pages.

/// What a record of an object takes: it ends at a whole page, or at 64 bytes where that would waste much.
[[nodiscard]] inline uint64_t record_bytes(uint64_t object_bytes) {
  const uint64_t grain = object_bytes >= kPunchedFrom ? 4096 : 64;
  return (sizeof(SpillHeader) + object_bytes + grain - 1) / grain * grain;
}

}  // namespace manta::object_store

// What crosses a bulk connection between two nodes, inside TLS or, on loopback, in the clear.
//
//   puller -> server   Opening                                then requests, many at a time
//   server -> puller   Opening (its own number)               then for each request, in order, one Reply and what follows it
//
//   Reply kData       the bytes that were asked for, then the xxh3 of them (8 bytes; 0 inside TLS, which has a better one)
//   Reply kElsewhere  `size` node numbers of 4 bytes: who has these bytes, or will soon
//   Reply kFailed     `size` bytes of text; `code` says what the puller does next
//
// All integers are little-endian, and every structure is sent as it lies in memory. Whoever sends anything else loses its
// connection, and nothing but that.
#pragma once

#include "wire/cluster.h"

#include <manta/status.h>

#include <bit>
#include <cstdint>
#include <type_traits>

namespace manta::object_store {

static_assert(std::endian::native == std::endian::little, "the structures are sent as they lie in memory");

inline constexpr uint64_t kBulkMagic = 0x314b4c55'41544e4d;  // "MNTAULK1"
inline constexpr uint32_t kBulkVersion = 1;
inline constexpr uint64_t kChunkBytes = uint64_t{4} << 20;  ///< The most that one request asks for.
inline constexpr uint32_t kMaxTextBytes = 1'024;
inline constexpr uint32_t kMaxElsewhere = 8;

/// The first thing that either side says.
struct BulkOpening {
  uint64_t magic = kBulkMagic;
  uint32_t version = kBulkVersion;
  wire::NodeNumber node = 0;  ///< Of who says it.
  wire::NodeNumber peer = 0;  ///< Of whom it thinks that it speaks to; 0: it takes whoever called.
  uint32_t reserved = 0;
};
static_assert(sizeof(BulkOpening) == 24);

/// A part of an object: at most kChunkBytes.
struct BulkRequest {
  uint64_t id = 0;  ///< Comes back in the reply.
  uint64_t segment = 0;
  uint64_t segment_offset = 0;
  uint64_t object_bytes = 0;
  uint64_t offset = 0;  ///< In the object.
  uint64_t size_bytes = 0;
  uint32_t slot = 0;
  uint32_t generation = 0;
  uint32_t timeout_ms = 0;  ///< How long the server may take to have it in memory.
  uint8_t priority = 0;
  uint8_t no_redirect = 0;  ///< The one it was sent to did not have it.
  uint16_t reserved = 0;

  [[nodiscard]] wire::ObjectLocation location() const { return {segment, segment_offset, object_bytes, slot, generation}; }
};
static_assert(sizeof(BulkRequest) == 64);

enum class BulkKind : uint32_t { kData = 1, kElsewhere = 2, kFailed = 3 };

struct BulkReply {
  uint64_t id = 0;
  BulkKind kind = BulkKind::kData;
  uint32_t code = 0;  ///< Of kFailed.
  uint64_t size = 0;
};
static_assert(sizeof(BulkReply) == 24);

static_assert(std::has_unique_object_representations_v<BulkOpening> &&
              std::has_unique_object_representations_v<BulkRequest> && std::has_unique_object_representations_v<BulkReply>);

/// kInvalid, with what is wrong, for what no honest peer says.
[[nodiscard]] Status check_opening(const BulkOpening& opening, wire::NodeNumber self, wire::NodeNumber wanted_peer);
[[nodiscard]] Status check_request(const BulkRequest& request);
/// `size_bytes` is what was asked for.
[[nodiscard]] Status check_reply(const BulkReply& reply, uint64_t size_bytes);

}  // namespace manta::object_store

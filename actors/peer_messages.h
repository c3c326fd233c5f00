// What clients say to each other through the raylet (wire::Relay): rare things, off the ring path. One kind byte, then
// msgpack.
#pragma once

#include "wire/frame.h"

#include <string>

namespace manta {

enum class PeerKind : uint8_t { kBorrow = 1, kFetch = 2, kFetched = 3, kCancel = 4, kTaken = 5 };

/// To an owner: `who` holds `delta` more tokens of the owner's object `sequence`. Deltas commute; see object_table.h.
struct PeerBorrow {
  static constexpr PeerKind kKind = PeerKind::kBorrow;
  uint64_t sequence = 0;
  uint64_t who = 0;
  int64_t delta = 0;
  MSGPACK_DEFINE(sequence, who, delta)
};

/// To an owner: send the value of your object once it is there. With a location: nothing is found there any more, and `why`;
/// send another.
struct PeerFetch {
  static constexpr PeerKind kKind = PeerKind::kFetch;
  uint64_t sequence = 0;
  wire::ObjectLocation lost;
  std::string why;
  MSGPACK_DEFINE(sequence, lost, why)
};

/// The answer: the error, the blob, or where the blob lies.
struct PeerFetched {
  static constexpr PeerKind kKind = PeerKind::kFetched;
  uint64_t sequence = 0;
  wire::WireStatus status;
  bool stored = false;
  std::string blob;
  wire::ObjectLocation location;
  MSGPACK_DEFINE(sequence, status, stored, blob, location)
};

/// To an owner: so many bytes of its answers, as `answer_bytes` counts them, have been read here.
struct PeerTaken {
  static constexpr PeerKind kKind = PeerKind::kTaken;
  uint64_t bytes = 0;
  MSGPACK_DEFINE(bytes)
};

/// Both ends count the same.
[[nodiscard]] inline uint64_t answer_bytes(const PeerFetched& answer) { return 64 + answer.blob.size(); }

/// To a worker: the call with this cookie, from the sender, is no longer wanted.
struct PeerCancel {
  static constexpr PeerKind kKind = PeerKind::kCancel;
  uint64_t cookie = 0;
  MSGPACK_DEFINE(cookie)
};

template <typename Message>
[[nodiscard]] std::string peer_payload(const Message& message) {
  return static_cast<char>(Message::kKind) + wire::encode(message);
}

}  // namespace manta

// The control messages between the object store's clients and the raylet: segments, objects, pins. See messages.h.
#pragma once

#include "wire/message_types.h"

namespace manta::wire {

/// Where a sealed object lies, on the node that its segment's id names. `slot` and `generation` name its entry in that
/// node's object table.
struct ObjectLocation {
  uint64_t segment = 0;
  uint64_t offset = 0;
  uint64_t size_bytes = 0;
  uint32_t slot = 0;
  uint32_t generation = 0;
  MSGPACK_DEFINE(segment, offset, size_bytes, slot, generation)
};

struct RequestSegment {  ///< producer -> raylet: room for at least `size_bytes`, granted whole to this process.
  static constexpr Type kType = Type::kRequestSegment;
  uint64_t request = 0;
  uint64_t size_bytes = 0;
  uint32_t timeout_ms = 0;  ///< How long it may wait for others to free before SegmentRefused with kFull.
  bool dedicated = false;   ///< For one object; goes back to the pool when that object is freed.
  uint64_t more_slots = 0;  ///< Not memory, but more slots for this segment of the sender's: small objects used them up.
  bool ahead = false;       ///< For later: served only from what is plentiful, and at once or not at all.
  MSGPACK_DEFINE(request, size_bytes, timeout_ms, dedicated, more_slots, ahead)
};

struct CancelSegmentRequest {  ///< producer -> raylet: room was found elsewhere. A grant that crossed it is kept or
                               ///< returned.
  static constexpr Type kType = Type::kCancelSegmentRequest;
  uint64_t request = 0;
  MSGPACK_DEFINE(request)
};

/// raylet -> producer. Descriptor: the segment, read-write; none when only slots were asked for. `slots[i]` is usable at
/// `generations[i]`.
struct SegmentGranted {
  static constexpr Type kType = Type::kSegmentGranted;
  uint64_t request = 0;
  uint64_t segment = 0;
  uint64_t size_bytes = 0;
  std::vector<uint32_t> slots;
  std::vector<uint32_t> generations;
  MSGPACK_DEFINE(request, segment, size_bytes, slots, generations)
};

struct SegmentRefused {
  static constexpr Type kType = Type::kSegmentRefused;
  uint64_t request = 0;
  WireStatus status;
  MSGPACK_DEFINE(request, status)
};

struct OpenSegment {  ///< reader -> raylet. Answer: SegmentOpened.
  static constexpr Type kType = Type::kOpenSegment;
  uint64_t segment = 0;
  MSGPACK_DEFINE(segment)
};

struct SegmentOpened {  ///< raylet -> reader. Descriptor when ok: the segment, opened read-only.
  static constexpr Type kType = Type::kSegmentOpened;
  uint64_t segment = 0;
  uint64_t size_bytes = 0;
  WireStatus status;
  MSGPACK_DEFINE(segment, size_bytes, status)
};

struct ReturnSegment {  ///< producer -> raylet: holds no object of mine from `from_offset` on; take that back.
  static constexpr Type kType = Type::kReturnSegment;
  uint64_t segment = 0;
  uint64_t from_offset = 0;  ///< Whole pages; 0: the segment itself, warm.
  MSGPACK_DEFINE(segment, from_offset)
};

struct TrimSegments {  ///< raylet -> producer: others need memory, or nothing happens any more; return segments that hold
                       ///< nothing.
  static constexpr Type kType = Type::kTrimSegments;
  uint64_t wanted_bytes = 0;  ///< By the request that waits; 0 when the store is merely idle.
  MSGPACK_DEFINE(wanted_bytes)
};

struct SegmentRetired {  ///< raylet -> readers: unmap it when you can; its id is never used again.
  static constexpr Type kType = Type::kSegmentRetired;
  uint64_t segment = 0;
  MSGPACK_DEFINE(segment)
};

struct Sealed {  ///< producer -> raylet, before anybody is told of the object.
  static constexpr Type kType = Type::kSealed;
  uint64_t object_owner = 0;
  uint64_t object_sequence = 0;
  ObjectLocation location;
  MSGPACK_DEFINE(object_owner, object_sequence, location)
};

struct Free {  ///< owner -> raylet: no reference is left. The memory is reused once no reader has it pinned.
  static constexpr Type kType = Type::kFree;
  std::vector<ObjectLocation> objects;
  MSGPACK_DEFINE(objects)
};

struct Reclaimed {  ///< raylet -> producer: these extents are yours again; each slot now has this generation.
  static constexpr Type kType = Type::kReclaimed;
  std::vector<ObjectLocation> objects;
  MSGPACK_DEFINE(objects)
};

/// reader -> raylet: the table has another generation, so the object was freed or spilled. Answer: ObjectRestored.
struct RestoreObject {
  static constexpr Type kType = Type::kRestoreObject;
  uint64_t request = 0;
  ObjectLocation location;  ///< As the owner knows it: from when the object was sealed.
  uint32_t timeout_ms = 0;  ///< How long it may wait for room, and for another node.
  uint8_t priority = 0;     ///< TransferPriority
  bool only_here = false;   ///< kNotFound rather than ask another node.
  bool is_patient = false;  ///< The time begins anew as long as something comes from other nodes.
  MSGPACK_DEFINE(request, location, timeout_ms, priority, only_here, is_patient)
};

/// Whose need for an object is served first, when not all can be at once.
enum class TransferPriority : uint8_t { kGet = 0, kWait = 1, kArgument = 2 };

/// reader -> raylet: these will be read soon; bring those that are elsewhere. No answer: whoever then reads asks as usual.
struct PrefetchObjects {
  static constexpr Type kType = Type::kPrefetchObjects;
  std::vector<ObjectLocation> objects;
  uint8_t priority = 0;
  MSGPACK_DEFINE(objects, priority)
};

/// raylet -> owner: these lie elsewhere from now on, since the node where they were is drained. What the owner frees of the
/// two places is what it does not need: the old one, or the new one if it knows nothing of the object any more.
struct ObjectsMoved {
  static constexpr Type kType = Type::kObjectsMoved;
  struct Move {
    ObjectLocation from;  ///< Node, slot and generation name the object; the rest may differ from what the owner knows.
    ObjectLocation to;
    MSGPACK_DEFINE(from, to)
  };
  std::vector<Move> moves;
  MSGPACK_DEFINE(moves)
};

/// raylet -> reader: it lies there now, for some time at least; ask again if it went away before it was pinned.
struct ObjectRestored {
  static constexpr Type kType = Type::kObjectRestored;
  uint64_t request = 0;
  ObjectLocation location;
  WireStatus status;
  MSGPACK_DEFINE(request, location, status)
};

}  // namespace manta::wire

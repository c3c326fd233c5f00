// What happens to StoreCore and what it wants done: the words between the policy and the I/O around it.
#pragma once

#include "common/clock.h"
#include "wire/cluster.h"

#include <manta/ids.h>
#include <manta/status.h>

#include <cstdint>
#include <variant>
#include <vector>

namespace manta::object_store {

/// An object's name for life: slot << 32 | generation of its first location, which is what its owner and readers know. A
/// copy of another node's object has a name of this node's making instead, with the highest bit set.
using Name = uint64_t;

/// Where a record lies in a spill file.
struct SpillRecord {
  uint64_t offset = 0;
  uint64_t size_bytes = 0;  ///< With header and padding.
  uint64_t checksum = 0;    ///< Of the object's bytes.
};

namespace event {

struct ClientJoined {
  ProcessId process;
  int pid = 0;
};
struct ClientGone {
  ProcessId process;
};
struct Request {
  ProcessId process;
  wire::RequestSegment message;
};
struct Cancel {
  ProcessId process;
  uint64_t request = 0;
};
struct Return {
  ProcessId process;
  SegmentId segment;
  uint64_t from_offset = 0;
};
struct Failed {
  ProcessId process;
  SegmentId segment;
};  ///< A new segment could not be made; its request, if it had one, is answered.
struct Seal {
  ProcessId process;
  wire::Sealed message;
};
struct Freed {
  ProcessId process;
  std::vector<wire::ObjectLocation> objects;
};
struct Restore {
  ProcessId process;
  wire::RestoreObject message;
};
/// Every pin of every client, looked at after the effects of the steps before were carried out.
struct Scanned {
  std::vector<uint64_t> pins;
};
/// A WriteSpill was carried out.
struct SpillDone {
  uint64_t file = 0;
  std::vector<uint64_t> checksums;  ///< Of its objects, in order.
};
struct SpillFailed {
  uint64_t file = 0;
  Status status;  ///< kFull: no room on the disk.
};
/// A punched record gave so many bytes back to the disk.
struct SpillPunched {
  uint64_t file = 0;
  uint64_t size_bytes = 0;
};
struct RestoreDone {
  Name name = 0;
  Status status;  ///< kLost: the file is damaged, or another node's object gone; else reading may work another time.
};
struct Prefetch {
  std::vector<wire::ObjectLocation> objects;
  wire::TransferPriority priority = wire::TransferPriority::kGet;
};
/// Objects of this node were given to another, or are about to be.
struct Copied {
  wire::NodeNumber to = 0;
  std::vector<wire::ObjectLocation> objects;
};
/// Their owner freed them: said by the node that they were copied from.
struct CopiesFreed {
  wire::NodeNumber home = 0;
  std::vector<Name> names;  ///< On that node.
};
/// This node is drained: its objects are to go to these, or failing them to their owners' nodes. Again, when it is others.
struct MoveAway {
  std::vector<wire::NodeNumber> to;
};
/// `from` is drained, and asks this node to keep objects of its.
struct Adopt {
  wire::NodeNumber from = 0;
  wire::AdoptObjects message;
};
/// A node that was asked to keep objects of this one's does not, for now.
struct AdoptionRefused {
  wire::NodeNumber by = 0;
  std::vector<Name> names;
};
/// A process of another node ended.
struct OwnerGone {
  ProcessId process;
};
struct NodeLost {
  wire::NodeNumber node = 0;
  Status cause;
};
/// A node that was lost is there again in another life, whose ids are above `ids_from`.
struct NodeBack {
  wire::NodeNumber node = 0;
  uint64_t ids_from = 0;
};
struct Tick {};

}  // namespace event

using Event = std::variant<event::ClientJoined, event::ClientGone, event::Request, event::Cancel, event::Return,
                           event::Failed, event::Seal, event::Freed, event::Restore, event::Scanned, event::SpillDone,
                           event::SpillFailed, event::SpillPunched, event::RestoreDone, event::Prefetch, event::Copied,
                           event::CopiesFreed, event::MoveAway, event::Adopt, event::AdoptionRefused, event::OwnerGone,
                           event::NodeLost, event::NodeBack, event::Tick>;

namespace effect {

struct Grant {
  ProcessId process;
  uint64_t request = 0;
  SegmentId segment;
  uint64_t size_bytes = 0;
  bool is_new = false;      ///< Make it; else it exists and may be warm.
  bool only_slots = false;  ///< The process has it already; these are more slots for it.
  std::vector<uint32_t> slots, generations;
};
struct Refuse {
  ProcessId process;
  uint64_t request = 0;
  Status status;
};
struct Reclaim {
  ProcessId process;
  std::vector<wire::ObjectLocation> objects;
};
struct SetGeneration {
  uint32_t slot = 0;
  uint32_t generation = 0;
};
struct Scan {};  ///< Look at the pins now, then step(Scanned).
struct Punch {
  SegmentId segment;
  uint64_t offset = 0;
  uint64_t size_bytes = 0;
};
struct Retire {
  SegmentId segment;
};  ///< Give its memory back, tell whoever has it open.
struct Trim {
  ProcessId process;
  uint64_t wanted_bytes = 0;
};  ///< Ask it to return segments that hold nothing.
struct Reject {
  ProcessId process;
  Status status;
};
struct MakeOwn {
  SegmentId segment;
  uint64_t size_bytes = 0;
};  ///< A new segment for the raylet itself. When it cannot be made, the ReadSpill into it fails.
struct MakeWarm {
  struct Segment {
    SegmentId segment;
    uint64_t size_bytes = 0;
  };
  std::vector<Segment> segments;
};  ///< New segments that nobody has yet; their pages are taken when there is time. One that cannot be made: Failed.
struct WriteSpill {
  struct Object {
    uint64_t offset = 0;
    uint64_t size_bytes = 0;
    ObjectId id;
    SpillRecord record;  ///< Where to write it; the checksum is to be found out.
  };
  uint64_t file = 0;
  SegmentId segment;  ///< That they all lie in.
  std::vector<Object> objects;
};
struct ReadSpill {
  Name name = 0;
  ObjectId id;
  uint64_t file = 0;
  SpillRecord record;
  uint64_t object_bytes = 0;
  SegmentId segment;
  uint64_t offset = 0;
};
struct Pull {
  Name name = 0;
  wire::ObjectLocation from;
  wire::TransferPriority priority = wire::TransferPriority::kGet;
  Time deadline;
  SegmentId segment;
  uint64_t offset = 0;
  Duration patience{};  ///< Not 0: past the deadline, until nothing came from that node for so long.
};                      ///< Read it from the node that has it, until the deadline; then step(RestoreDone).
struct ForwardFree {
  wire::NodeNumber node = 0;
  ProcessId process;
  std::vector<wire::ObjectLocation> objects;
};
struct DropCopies {
  wire::NodeNumber node = 0;
  std::vector<Name> names;
};
struct AskToAdopt {
  wire::NodeNumber node = 0;
  wire::AdoptObjects message;
};
struct RefuseAdoption {
  wire::NodeNumber node = 0;
  std::vector<Name> names;  ///< On that node.
};
/// To the owner: an object of another node is this node's now.
struct TellMoved {
  ProcessId owner;
  wire::ObjectsMoved::Move move;
};
struct PunchSpill {
  uint64_t file = 0;
  SpillRecord record;
};
struct RemoveSpill {
  uint64_t file = 0;
};
struct Restored {
  ProcessId process;
  uint64_t request = 0;
  wire::ObjectLocation location;
  Status status;
};

}  // namespace effect

using Effect =
    std::variant<effect::Grant, effect::Refuse, effect::Reclaim, effect::SetGeneration, effect::Scan, effect::Punch,
                 effect::Retire, effect::Trim, effect::Reject, effect::MakeOwn, effect::MakeWarm, effect::WriteSpill,
                 effect::ReadSpill, effect::Pull, effect::ForwardFree, effect::DropCopies, effect::AskToAdopt,
                 effect::RefuseAdoption, effect::TellMoved, effect::PunchSpill, effect::RemoveSpill, effect::Restored>;
using Effects = std::vector<Effect>;

}  // namespace manta::object_store

// What mantads say to each other: the messages of a cluster. They cross a NodeLink (wire/net/node_link.h) as {type, body};
// see docs/cluster-internals.md for who says what when.
//
// Every id that a node gives out starts with the node's number (see node_of), so who must handle a message is read off the
// ids in it and nobody keeps a directory of processes. A number stands for one incarnation of one node: a mantad that is
// started again gets another, and what an earlier number says has no effect any more.
#pragma once

#include "wire/messages.h"
#include "wire/net/program_parts.h"
#include "wire/quota.h"

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace manta::wire {

/// 1 is the head's own node, and the one node of a local session. 0 is none: ids without a number are the node's own.
using NodeNumber = uint32_t;
inline constexpr NodeNumber kHeadNode = 1;
inline constexpr int kNodeShift = 40;  ///< 24 bits of node, 40 bits of what the node counts.
inline constexpr NodeNumber kMaxNodeNumber = (1u << 24) - 1;

/// Of a ProcessId, SegmentId, LeaseId or ChannelId.
[[nodiscard]] constexpr NodeNumber node_of(uint64_t id) { return static_cast<NodeNumber>(id >> kNodeShift); }
[[nodiscard]] constexpr uint64_t first_id_of(NodeNumber node) { return uint64_t{node} << kNodeShift; }
/// Where the ids of a life of the head's own node begin: they count from the milliseconds since 2025, so that those of an
/// earlier life, which gave out fewer than a thousand a second, are all below.
[[nodiscard]] constexpr uint64_t first_id_of_life(int64_t unix_ms) {
  constexpr int64_t kStartOf2025Ms = 1'735'689'600'000;
  return first_id_of(kHeadNode) + static_cast<uint64_t>(unix_ms > kStartOf2025Ms ? unix_ms - kStartOf2025Ms : 0);
}

/// What a node has, or has left. Per device, because a share that fits a sum may fit no device.
struct DeviceAmount {
  int64_t share = 0;  ///< In 1/10,000 of the device.
  int64_t memory_bytes = 0;
  auto operator<=>(const DeviceAmount&) const = default;
  MSGPACK_DEFINE(share, memory_bytes)
};
struct NodeResources {
  int64_t cpus = 0;  ///< Of what is left: may be negative while a worker that waited goes on.
  int64_t memory_bytes = 0;
  std::map<std::string, int64_t> custom;
  std::vector<DeviceAmount> devices;
  auto operator<=>(const NodeResources&) const = default;
  MSGPACK_DEFINE(cpus, memory_bytes, custom, devices)
};

struct NodeInfo {
  NodeNumber number = 0;
  std::string name;           ///< For people: host and pid.
  std::string endpoint;       ///< tcp://host:port, where its NodeLink listens.
  std::string bulk_endpoint;  ///< host:port of its object transfer; empty: it serves none.
  std::string public_key;     ///< CURVE, z85; empty in a cluster without keys (loopback only).
  std::string certificate;    ///< SHA-256 of its TLS certificate, hex; empty likewise.
  std::map<std::string, std::string> labels;
  NodeResources capacity;
  bool is_driver = false;  ///< Came with a driver and goes with it; takes no work of others.
  /// Its ids are above this one. Of the head's own node, which keeps its number over its lives: what is below is of an
  /// earlier life. 0: of the others.
  uint64_t ids_from = 0;
  MSGPACK_DEFINE(number, name, endpoint, bulk_endpoint, public_key, certificate, labels, capacity, is_driver, ids_from)
};

enum class NodeType : uint16_t {
  kJoin = 1,
  kJoined,
  kJoinRefused,
  kHeartbeat,
  kMembers,
  kView,
  kToHead = 20,
  kFromHead,
  kForward = 30,
  kDeliver,
  kProcessGone,
  kRemoteLease,
  kLeaseSpilled,
  kLeaseNews,
  kGetJob = 40,
  kJob,
  kGetProgram,
  kProgramChunk,
  kCredit = 60,
  kDropCopies = 70,
  kAdoptObjects,
  kAdoptionRefused,
  kVisitorFrame = 80,
};

// ---------------------------------------------------------------------------------------------------- membership

/// node -> head, before it has a number. The head answers by connecting to `info.endpoint`: joined means that both ways
/// work.
struct Join {
  static constexpr NodeType kType = NodeType::kJoin;
  uint32_t protocol = kProtocolVersion;
  std::string version;  ///< Of Manta.
  NodeInfo info;        ///< Without a number.
  uint64_t nonce = 0;   ///< Random; comes back, so that a repeated Join is answered with the same number.
  MSGPACK_DEFINE(protocol, version, info, nonce)
};

struct Joined {  ///< head -> node.
  static constexpr NodeType kType = NodeType::kJoined;
  uint64_t nonce = 0;
  NodeNumber number = 0;
  std::string cluster;            ///< Random, made with the head's state.
  std::vector<NodeInfo> members;  ///< With itself.
  uint64_t life = 0;              ///< How often the head has started, this time included.
  Amounts job_quota = {};         ///< Of every job, besides its own.
  MSGPACK_DEFINE(nonce, number, cluster, members, life, job_quota)
};

struct JoinRefused {  ///< head -> whoever sent the Join: it has no number, so this goes to the endpoint that it named.
  static constexpr NodeType kType = NodeType::kJoinRefused;
  uint64_t nonce = 0;
  WireStatus status;
  std::string endpoint;
  MSGPACK_DEFINE(nonce, status, endpoint)
};

/// node -> head twice a second, and at once when `available` changed much; head -> node as often (then without resources).
struct Heartbeat {
  static constexpr NodeType kType = NodeType::kHeartbeat;
  uint64_t sequence = 0;
  uint64_t view_version = 0;  ///< From a node: the newest view it has. From the head: the newest there is.
  bool has_resources = false;
  NodeResources available;
  uint32_t waiting = 0;      ///< Requests in its queue.
  bool is_draining = false;  ///< Takes no new work.
  /// The largest PlaceActor::number and PrepareBundles::number that had come when `available` was read: the head stops
  /// counting these twice.
  uint64_t placed_up_to = 0;
  uint64_t heard_up_to = 0;   ///< From the head: what the node told up to this number (Told::number) is in its tables.
  NodeResources leased = {};  ///< Of what is not available: what tasks have, and give back when they are asked to.
  uint64_t refusals = 0;      ///< Requests of others that found no room so far: if more, what they believe of it is old.
  MSGPACK_DEFINE(sequence, view_version, has_resources, available, waiting, is_draining, placed_up_to, heard_up_to, leased,
                 refusals)
};

struct NodeGone {
  NodeNumber number = 0;
  WireStatus cause;
  MSGPACK_DEFINE(number, cause)
};

/// head -> nodes. A node that finds its own number among the gone ends its work and joins anew.
struct Members {
  static constexpr NodeType kType = NodeType::kMembers;
  std::vector<NodeInfo> joined;
  std::vector<NodeGone> gone;
  MSGPACK_DEFINE(joined, gone)
};

struct NodeView {
  NodeNumber number = 0;
  NodeResources available;
  uint32_t waiting = 0;
  bool is_draining = false;
  bool is_suspect = false;  ///< Not heard of for 2 s: nothing new goes there.
  MSGPACK_DEFINE(number, available, waiting, is_draining, is_suspect)
};

struct View {  ///< head -> nodes: what changed since the version the node had.
  static constexpr NodeType kType = NodeType::kView;
  uint64_t version = 0;
  std::vector<NodeView> changed;
  MSGPACK_DEFINE(version, changed)
};

// ---------------------------------------------------------------------------------------------------- between raylets

/// One raylet hands a client's message on to the raylet that must handle it (that of the lease, process or object).
struct Forward {
  static constexpr NodeType kType = NodeType::kForward;
  uint64_t from = 0;  ///< A process of the sending node.
  uint16_t type = 0;  ///< wire::Type
  std::string body;
  MSGPACK_DEFINE(from, type, body)
};

/// One raylet says something to another node's client, through that client's raylet.
struct Deliver {
  static constexpr NodeType kType = NodeType::kDeliver;
  uint64_t to = 0;
  uint16_t type = 0;
  std::string body;
  MSGPACK_DEFINE(to, type, body)
};

/// To every node that dealt with it: a process of the sending node ended.
struct ProcessGone {
  static constexpr NodeType kType = NodeType::kProcessGone;
  uint64_t process = 0;
  int32_t pid = 0;
  WireStatus cause;
  MSGPACK_DEFINE(process, pid, cause)
};

/// The owner's raylet asks another for a worker: granted now (Deliver of LeaseGranted) or spilled back.
struct RemoteLease {
  static constexpr NodeType kType = NodeType::kRemoteLease;
  uint64_t owner = 0;
  uint64_t job = 0;
  RequestLease request;
  bool may_wait = false;    ///< Nobody has room now: it may stand in this node's queue.
  bool is_metered = false;  ///< It counts for its job's quota: the owner's raylet wants LeaseNews of it.
  MSGPACK_DEFINE(owner, job, request, may_wait, is_metered)
};

struct LeaseSpilled {
  static constexpr NodeType kType = NodeType::kLeaseSpilled;
  uint64_t owner = 0;
  uint64_t request = 0;
  WireStatus why;  ///< kUnavailable: no room now; else it cannot be served there.
  MSGPACK_DEFINE(owner, request, why)
};

/// The node of a metered lease, or where one was asked for, to the owner's raylet. kOver comes once for each request that
/// was not spilled back.
struct LeaseNews {
  static constexpr NodeType kType = NodeType::kLeaseNews;
  uint64_t owner = 0;
  uint64_t request = 0;
  uint8_t event = 0;  ///< LeaseEvent
  MSGPACK_DEFINE(owner, request, event)
};

// ---------------------------------------------------------------------------------------------------- jobs

/// What a node must know to start workers of a job. A job's id is its driver's ProcessId, so the driver's node answers.
struct JobSpec {
  uint64_t job = 0;
  std::string name;
  std::string build_id;
  std::string program_name;
  std::string program_hash;  ///< SHA-256, hex.
  uint64_t program_bytes = 0;
  std::vector<std::string> arguments;
  std::string working_directory;
  std::map<std::string, std::string> env;
  std::vector<ProgramLibrary> libraries = {};
  Amounts quota = {};  ///< Empty: none.
  MSGPACK_DEFINE(job, name, build_id, program_name, program_hash, program_bytes, arguments, working_directory, env,
                 libraries, quota)
};

struct GetJob {
  static constexpr NodeType kType = NodeType::kGetJob;
  uint64_t job = 0;
  MSGPACK_DEFINE(job)
};

struct Job {
  static constexpr NodeType kType = NodeType::kJob;
  WireStatus status;  ///< kNotFound: it has ended.
  JobSpec spec;
  MSGPACK_DEFINE(status, spec)
};

inline constexpr size_t kProgramChunkBytes = size_t{1} << 20;

/// Of the program or one of its libraries.
struct GetProgram {
  static constexpr NodeType kType = NodeType::kGetProgram;
  std::string hash;
  uint64_t offset = 0;
  MSGPACK_DEFINE(hash, offset)
};

struct ProgramChunk {
  static constexpr NodeType kType = NodeType::kProgramChunk;
  WireStatus status;
  std::string hash;
  uint64_t offset = 0;
  std::string bytes;
  MSGPACK_DEFINE(status, hash, offset, bytes)
};

// ---------------------------------------------------------------------------------------------------- visitors

/// A control message of, or for, somebody who has no mantad: the command line. What an observer says to its mantad over a
/// Unix socket goes to the head's endpoint in these instead, and the answers come back over the same connection.
struct VisitorFrame {
  static constexpr NodeType kType = NodeType::kVisitorFrame;
  uint16_t type = 0;  ///< wire::Type; 0: no message, it is still there.
  std::string body;
  MSGPACK_DEFINE(type, body)
};

// ---------------------------------------------------------------------------------------------------- objects

/// The node where objects were sealed, to one that has copies: their owner freed them. `names` are slot << 32 | generation
/// of the home node's table.
struct DropCopies {
  static constexpr NodeType kType = NodeType::kDropCopies;
  NodeNumber home = 0;
  std::vector<uint64_t> names;
  MSGPACK_DEFINE(home, names)
};

/// A node that is drained, to one that stays: copy these objects of mine, keep them as your own, and tell their owners
/// (ObjectsMoved). Asked again, it says so again. There is no other answer: the owners free what is here.
struct AdoptObjects {
  static constexpr NodeType kType = NodeType::kAdoptObjects;
  struct Object {
    uint64_t owner = 0;
    uint64_t sequence = 0;
    ObjectLocation at;
    MSGPACK_DEFINE(owner, sequence, at)
  };
  std::vector<Object> objects;
  MSGPACK_DEFINE(objects)
};

/// The answer when some of them find no room there, or cannot be copied.
struct AdoptionRefused {
  static constexpr NodeType kType = NodeType::kAdoptionRefused;
  std::vector<uint64_t> names;  ///< As in DropCopies.
  MSGPACK_DEFINE(names)
};

/// What the store of one node says to that of another.
using StoreWord = std::variant<DropCopies, AdoptObjects, AdoptionRefused>;

}  // namespace manta::wire

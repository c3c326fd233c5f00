// Every control message between the processes of a node: what crosses the Unix socket between a client (driver or worker)
// and the raylet. Calls and their results do not pass here: they go through rings (see channel.h).
//
// A frame is a 16-byte header (see frame.h), then the msgpack array of the struct's fields, then any descriptors as
// SCM_RIGHTS. The comment of a message says who sends it ("client" = driver or worker) and the descriptors that ride along,
// in order. Fields are only ever appended; a peer of another protocol version or build is refused at Hello.
#pragma once

#include <manta/ids.h>
#include <manta/status.h>

#include <cstdint>
#include <map>
#include <msgpack.hpp>
#include <string>
#include <vector>

namespace manta::wire {

inline constexpr uint32_t kProtocolVersion = 1;

enum class Type : uint16_t {
  kHello = 1,
  kWelcome,
  kRefused,
  kGoodbye,
  kRequestLease = 10,
  kCancelLeaseRequest,
  kReturnLease,
  kKillLease,
  kLeaseGranted,
  kLeaseRefused,
  kReclaimLease,
  kLeaseBlocked,
  kAttachChannel = 20,
  kDetachChannel,
  kBlocked,
  kProcessDied,
  kRelay,
  kWatchProcess,
  kCreateActor = 30,
  kWatchActor,
  kKillActor,
  kFindActor,
  kActorFound,
  kActorUpdate,
  kStartActor,
  kActorStarted,
  kStopActor,
  kSaveActorState,
  kRequestSegment = 50,
  kSegmentGranted,
  kSegmentRefused,
  kOpenSegment,
  kSegmentOpened,
  kReturnSegment,
  kSegmentRetired,
  kSealed,
  kFree,
  kReclaimed,
  kPin,
  kTrimSegments,
  kCancelSegmentRequest,
  kRestoreObject,
  kObjectRestored,
  kLogLines = 70,
  kLogLineage,
  kCleanupPath,
  kGetNodeState,
  kNodeState,
  kForkServerReady = 80,
  kForkWorker,
  kWorkerForked,
  kCreatePlacementGroup = 90,
  kRemovePlacementGroup,
  kGetPlacementGroup,
  kPlacementGroupUpdate,
  kList = 100,
  kListed,
};

enum class Role : uint8_t { kDriver = 0, kWorker = 1, kObserver = 2 };

/// A Status as it travels.
struct WireStatus {
  uint8_t code = 0;
  std::string message;
  std::string origin_type;
  MSGPACK_DEFINE(code, message, origin_type)
};
[[nodiscard]] WireStatus to_wire(const Status& status);
[[nodiscard]] Status from_wire(const WireStatus& status);

/// What work needs. Amounts are fixed point in 1/10,000: integers, because a scheduler that adds 0.1 ten times must get one.
struct Resources {
  int64_t cpus = 0;
  int64_t gpus = 0;  ///< Below 10,000 a share of one device, else a whole number of devices.
  int64_t gpu_memory_bytes = 0;
  int64_t memory_bytes = 0;
  std::map<std::string, int64_t> custom;
  auto operator<=>(const Resources&) const = default;
  MSGPACK_DEFINE(cpus, gpus, gpu_memory_bytes, memory_bytes, custom)
};
inline constexpr int64_t kWhole = 10'000;

/// Work of one class can share workers: same resources, same environment, same place.
struct SchedulingClass {
  Resources resources;
  std::map<std::string, std::string> env;
  std::map<std::string, std::string> labels = {};  ///< A node must have all of them.
  uint32_t node = 0;                               ///< A node's number: there; 0: anywhere.
  bool is_soft = false;                            ///< Elsewhere, if that node is gone or could never hold it.
  bool spread = false;                             ///< Rather on another node than where its owner and its like are.
  uint64_t group = 0;                              ///< Placement group that gives the resources; 0: none.
  int32_t bundle = -1;                             ///< Of the group; -1: any that has room.
  int32_t priority = 0;                            ///< More is sooner.
  auto operator<=>(const SchedulingClass&) const = default;
  MSGPACK_DEFINE(resources, env, labels, node, is_soft, spread, group, bundle, priority)
};

// ---------------------------------------------------------------------------------------------------- session

/// client -> raylet, first frame. Descriptors: the client's bell page, the client's hazard page (see object_store).
struct Hello {
  static constexpr Type kType = Type::kHello;
  uint32_t protocol = kProtocolVersion;
  std::string build_id;
  uint64_t process = 0;
  int32_t pid = 0;
  uint8_t role = 0;
  uint64_t spawn_token = 0;  ///< For a worker: which spawn of the raylet it is.
  // For a driver: how to start its workers, which are the same program.
  std::string program;
  std::vector<std::string> arguments;
  std::string working_directory;
  std::map<std::string, std::string> env;
  std::string job_name;
  MSGPACK_DEFINE(protocol, build_id, process, pid, role, spawn_token, program, arguments, working_directory, env, job_name)
};

/// raylet -> client. Descriptor: the object table, read-only.
struct Welcome {
  static constexpr Type kType = Type::kWelcome;
  uint64_t node = 0;
  uint64_t job = 0;
  Resources capacity;
  std::string session_dir;
  std::string raylet_name;  ///< For messages: "mantad 4711 on host".
  MSGPACK_DEFINE(node, job, capacity, session_dir, raylet_name)
};

struct Refused {  ///< raylet -> client, which then ends.
  static constexpr Type kType = Type::kRefused;
  WireStatus status;
  MSGPACK_DEFINE(status)
};

/// driver -> raylet: the program ended by itself. The raylet then ends the workers, forwards what they printed and hangs up;
/// the driver may wait for that to see their last lines. raylet -> worker: end now with code 0. A worker whose objects
/// others still need answers Goodbye{1} and stays; it is asked again later. One that does neither is killed after 2 s.
struct Goodbye {
  static constexpr Type kType = Type::kGoodbye;
  int32_t exit_code = 0;
  MSGPACK_DEFINE(exit_code)
};

// ---------------------------------------------------------------------------------------------------- leases

/// owner -> raylet: asks for one more worker of a class. `backlog` is how many tasks wait, for sizing the prestart.
struct RequestLease {
  static constexpr Type kType = Type::kRequestLease;
  uint64_t request = 0;
  SchedulingClass scheduling_class;
  uint32_t backlog = 0;
  MSGPACK_DEFINE(request, scheduling_class, backlog)
};

struct CancelLeaseRequest {  ///< owner -> raylet. A grant that crossed it is returned by the owner as usual.
  static constexpr Type kType = Type::kCancelLeaseRequest;
  uint64_t request = 0;
  MSGPACK_DEFINE(request)
};

struct ReturnLease {  ///< owner -> raylet: nothing of this owner runs on the worker any more.
  static constexpr Type kType = Type::kReturnLease;
  uint64_t lease = 0;
  MSGPACK_DEFINE(lease)
};

struct KillLease {  ///< owner -> raylet: kill the worker (a forced cancel, a task past its deadline).
  static constexpr Type kType = Type::kKillLease;
  uint64_t lease = 0;
  std::string reason;
  MSGPACK_DEFINE(lease, reason)
};

/// raylet -> owner. Descriptors when `new_channel`: the channel, the worker's bell page. A worker leased again to the same
/// owner keeps its channel: then no descriptors, and `channel` names the one both have.
struct LeaseGranted {
  static constexpr Type kType = Type::kLeaseGranted;
  uint64_t request = 0;
  uint64_t lease = 0;
  uint64_t worker = 0;  ///< Its ProcessId.
  int32_t worker_pid = 0;
  uint64_t channel = 0;
  bool new_channel = true;
  std::vector<int32_t> devices;
  MSGPACK_DEFINE(request, lease, worker, worker_pid, channel, new_channel, devices)
};

struct LeaseRefused {  ///< raylet -> owner: can never be served on this node (infeasible), or the worker cannot start.
  static constexpr Type kType = Type::kLeaseRefused;
  uint64_t request = 0;
  WireStatus status;
  MSGPACK_DEFINE(request, status)
};

struct ReclaimLease {  ///< raylet -> owner: others wait; return this lease as soon as nothing is running on it.
  static constexpr Type kType = Type::kReclaimLease;
  uint64_t lease = 0;
  MSGPACK_DEFINE(lease)
};

struct LeaseBlocked {  ///< raylet -> owner: the worker waits inside a task; take back calls that it has not started.
  static constexpr Type kType = Type::kLeaseBlocked;
  uint64_t lease = 0;
  bool blocked = true;
  MSGPACK_DEFINE(lease, blocked)
};

// ---------------------------------------------------------------------------------------------------- processes

/// raylet -> worker: somebody will call you. Descriptors: the channel, the caller's bell page.
struct AttachChannel {
  static constexpr Type kType = Type::kAttachChannel;
  uint64_t channel = 0;
  uint64_t caller = 0;
  std::vector<int32_t> devices;
  MSGPACK_DEFINE(channel, caller, devices)
};

struct DetachChannel {  ///< raylet -> worker: the caller is gone.
  static constexpr Type kType = Type::kDetachChannel;
  uint64_t channel = 0;
  MSGPACK_DEFINE(channel)
};

struct Blocked {  ///< worker -> raylet: the running task waits for others (true) or goes on (false).
  static constexpr Type kType = Type::kBlocked;
  bool blocked = true;
  MSGPACK_DEFINE(blocked)
};

/// raylet -> the driver, who has a channel to it, who watches it: a process ended. `cause` says by what, never a guess.
struct ProcessDied {
  static constexpr Type kType = Type::kProcessDied;
  uint64_t process = 0;
  int32_t pid = 0;
  WireStatus cause;
  MSGPACK_DEFINE(process, pid, cause)
};

/// client -> raylet: tell me when this process ends; at once, if it has ended already. A client watches those whose objects
/// it borrows and those who borrow its own.
struct WatchProcess {
  static constexpr Type kType = Type::kWatchProcess;
  uint64_t process = 0;
  MSGPACK_DEFINE(process)
};

/// client -> raylet -> client, unchanged but for `from`, which the raylet sets. The payload is theirs (see actors/peer.h).
/// To a process that is gone it is dropped (the sender hears ProcessDied).
struct Relay {
  static constexpr Type kType = Type::kRelay;
  uint64_t from = 0;
  uint64_t to = 0;
  std::string payload;
  MSGPACK_DEFINE(from, to, payload)
};

/// fork server -> raylet, first: it is there, or why it cannot fork safely (after which it ends). See actors/fork_server.h.
struct ForkServerReady {
  static constexpr Type kType = Type::kForkServerReady;
  WireStatus status;
  MSGPACK_DEFINE(status)
};

struct ForkWorker {  ///< raylet -> fork server. Descriptors: the worker's socket, its standard output, its standard error.
  static constexpr Type kType = Type::kForkWorker;
  uint64_t spawn_token = 0;
  MSGPACK_DEFINE(spawn_token)
};

struct WorkerForked {  ///< fork server -> raylet. The new process is the raylet's own child.
  static constexpr Type kType = Type::kWorkerForked;
  uint64_t spawn_token = 0;
  int32_t pid = 0;
  WireStatus status;
  MSGPACK_DEFINE(spawn_token, pid, status)
};

// ---------------------------------------------------------------------------------------------------- actors

struct ActorKey {
  uint64_t owner = 0;
  uint64_t sequence = 0;
  auto operator<=>(const ActorKey&) const = default;
  MSGPACK_DEFINE(owner, sequence)
};

/// owner -> raylet -> head. The answer is an ActorUpdate (the sender watches the actor from now on).
struct CreateActor {
  static constexpr Type kType = Type::kCreateActor;
  ActorKey actor;
  std::string class_key;   ///< Which constructor in the program's registry.
  std::string class_name;  ///< For people.
  std::string arguments;   ///< Encoded constructor arguments, opaque here, at most 1 MiB.
  SchedulingClass scheduling_class;
  int32_t max_restarts = 0;  ///< -1 without limit.
  int32_t max_concurrency = 1;
  std::map<std::string, int32_t> concurrency_groups;
  std::string name;  ///< Empty: not findable by name.
  std::string name_space;
  bool detached = false;  ///< Outlives its owner and its job.
  bool get_if_exists = false;
  MSGPACK_DEFINE(actor, class_key, class_name, arguments, scheduling_class, max_restarts, max_concurrency,
                 concurrency_groups, name, name_space, detached, get_if_exists)
};

struct WatchActor {  ///< client -> raylet: has a handle and wants to call. Answer: ActorUpdate, now and at each change.
  static constexpr Type kType = Type::kWatchActor;
  ActorKey actor;
  MSGPACK_DEFINE(actor)
};

struct KillActor {  ///< client -> raylet. `drain`: calls already sent are run first (the last handle is gone).
  static constexpr Type kType = Type::kKillActor;
  ActorKey actor;
  bool drain = false;
  bool no_restart = true;
  std::string reason;
  MSGPACK_DEFINE(actor, drain, no_restart, reason)
};

struct FindActor {  ///< client -> raylet: the actor of this name. Answer: ActorFound.
  static constexpr Type kType = Type::kFindActor;
  uint64_t request = 0;
  std::string name;
  std::string name_space;
  MSGPACK_DEFINE(request, name, name_space)
};

struct ActorFound {
  static constexpr Type kType = Type::kActorFound;
  uint64_t request = 0;
  WireStatus status;
  ActorKey actor;
  std::string class_name;
  MSGPACK_DEFINE(request, status, actor, class_name)
};

enum class ActorPhase : uint8_t { kPending = 0, kAlive = 1, kRestarting = 2, kDead = 3 };

/// raylet -> watchers. Descriptors when alive and `new_channel`: the channel, the worker's bell page.
struct ActorUpdate {
  static constexpr Type kType = Type::kActorUpdate;
  ActorKey actor;
  uint8_t phase = 0;
  uint32_t incarnation = 0;  ///< From 1, +1 a restart. A message of an older incarnation has no effect.
  uint64_t worker = 0;
  int32_t worker_pid = 0;
  uint64_t channel = 0;
  bool new_channel = false;
  WireStatus cause;  ///< Why it restarts, or is dead; or, while pending, what it waits for.
  std::string class_name;
  /// In the answer to a CreateActor with `get_if_exists` when the name was taken: the key that was asked for. `actor` is
  /// then the one that has the name, which the sender watches from now on; the asked key never comes to be.
  ActorKey instead_of;
  MSGPACK_DEFINE(actor, phase, incarnation, worker, worker_pid, channel, new_channel, cause, class_name, instead_of)
};

struct StartActor {  ///< raylet -> worker: become this actor. `state` is the last saved one, when `has_state`.
  static constexpr Type kType = Type::kStartActor;
  ActorKey actor;
  uint32_t incarnation = 0;
  std::string class_key;
  std::string class_name;
  std::string arguments;
  int32_t max_concurrency = 1;
  std::map<std::string, int32_t> concurrency_groups;
  bool has_state = false;
  std::string state;
  std::vector<int32_t> devices;
  MSGPACK_DEFINE(actor, incarnation, class_key, class_name, arguments, max_concurrency, concurrency_groups, has_state, state,
                 devices)
};

struct ActorStarted {  ///< worker -> raylet: constructed, or why not.
  static constexpr Type kType = Type::kActorStarted;
  ActorKey actor;
  uint32_t incarnation = 0;
  WireStatus status;
  MSGPACK_DEFINE(actor, incarnation, status)
};

struct StopActor {  ///< raylet -> worker: run what the rings hold (drain), then exit with code 0.
  static constexpr Type kType = Type::kStopActor;
  ActorKey actor;
  bool drain = true;
  MSGPACK_DEFINE(actor, drain)
};

struct SaveActorState {  ///< worker -> raylet, before the reply of the call that made it.
  static constexpr Type kType = Type::kSaveActorState;
  ActorKey actor;
  uint32_t incarnation = 0;
  std::string state;
  MSGPACK_DEFINE(actor, incarnation, state)
};

// ---------------------------------------------------------------------------------------------------- object store

/// Where a sealed object lies on this node. `slot` and `generation` name its entry in the object table.
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
  uint32_t timeout_ms = 0;  ///< How long it may wait for room.
  MSGPACK_DEFINE(request, location, timeout_ms)
};

/// raylet -> reader: it lies there now, for some time at least; ask again if it went away before it was pinned.
struct ObjectRestored {
  static constexpr Type kType = Type::kObjectRestored;
  uint64_t request = 0;
  ObjectLocation location;
  WireStatus status;
  MSGPACK_DEFINE(request, location, status)
};

// ---------------------------------------------------------------------------------------------------- the rest

struct LogLines {  ///< raylet -> driver: what a worker printed. `label` is the task or actor, if it was known.
  static constexpr Type kType = Type::kLogLines;
  int32_t pid = 0;
  bool is_error_stream = false;
  std::string label;
  std::vector<std::string> lines;
  MSGPACK_DEFINE(pid, is_error_stream, label, lines)
};

struct LogLineage {  ///< owner -> raylet -> head, in batches: the spec of each task whose results lie in an object store.
  static constexpr Type kType = Type::kLogLineage;
  std::vector<uint64_t> task_sequences;
  std::vector<std::string> specs;
  std::vector<uint64_t> dropped;  ///< Tasks none of whose objects lives any more.
  MSGPACK_DEFINE(task_sequences, specs, dropped)
};

/// driver -> raylet: when this driver dies, remove this staging folder (add), or no longer (not add). Only paths whose last
/// component starts with ".manta-" are accepted.
struct CleanupPath {
  static constexpr Type kType = Type::kCleanupPath;
  std::string path;
  bool add = true;
  MSGPACK_DEFINE(path, add)
};

struct GetNodeState {  ///< client -> raylet: counts for tests, progress and `manta status`.
  static constexpr Type kType = Type::kGetNodeState;
  uint64_t request = 0;
  MSGPACK_DEFINE(request)
};

struct NodeState {
  static constexpr Type kType = Type::kNodeState;
  uint64_t request = 0;
  Resources capacity;
  Resources available;
  uint32_t workers = 0;
  uint32_t idle_workers = 0;
  uint32_t leases = 0;
  uint32_t waiting_leases = 0;
  uint32_t actors = 0;
  uint64_t store_capacity_bytes = 0;
  uint64_t store_granted_bytes = 0;
  uint64_t store_objects = 0;
  uint64_t store_object_bytes = 0;
  uint64_t store_spilled_objects = 0;  ///< Of the objects: those that lie on disk only.
  uint64_t store_spilled_bytes = 0;
  MSGPACK_DEFINE(request, capacity, available, workers, idle_workers, leases, waiting_leases, actors, store_capacity_bytes,
                 store_granted_bytes, store_objects, store_object_bytes, store_spilled_objects, store_spilled_bytes)
};

}  // namespace manta::wire

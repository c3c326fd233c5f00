// Every control message between the processes of a node: what crosses the Unix socket between a client (driver or worker)
// and the raylet. Calls and their results do not pass here: they go through rings (see channel.h).
//
// A frame is a 16-byte header (see frame.h), then the msgpack array of the struct's fields, then any descriptors as
// SCM_RIGHTS. The comment of a message says who sends it ("client" = driver or worker) and the descriptors that ride along,
// in order. Fields are only ever appended; a peer of another protocol version or build is refused at Hello.
#pragma once

#include "wire/message_types.h"
#include "wire/object_messages.h"

namespace manta::wire {

// ---------------------------------------------------------------------------------------------------- session

/// client -> raylet, first frame. Descriptors: the client's bell page, the client's hazard page (see object_store).
struct Hello {
  static constexpr Type kType = Type::kHello;
  uint32_t protocol = kProtocolVersion;
  std::string build_id;
  uint64_t process = 0;  ///< 0: the raylet chooses, and Welcome says.
  int32_t pid = 0;
  uint8_t role = 0;
  uint64_t spawn_token = 0;  ///< For a worker: which spawn of the raylet it is.
  // For a driver: how to start its workers, which are the same program.
  std::string program;
  std::vector<std::string> arguments;
  std::string working_directory;
  std::map<std::string, std::string> env;
  std::string job_name;
  std::vector<std::string> libraries;  ///< Files of shared libraries that go with the program to other nodes.
  MSGPACK_DEFINE(protocol, build_id, process, pid, role, spawn_token, program, arguments, working_directory, env, job_name,
                 libraries)
};

/// raylet -> client. Descriptor: the object table, read-only.
struct Welcome {
  static constexpr Type kType = Type::kWelcome;
  uint64_t node = 0;
  uint64_t job = 0;
  Resources capacity;
  std::string session_dir;
  std::string raylet_name;  ///< For messages: "mantad 4711 on host".
  uint64_t process = 0;     ///< The client's ProcessId; it starts with the node's number (see cluster.h).
  MSGPACK_DEFINE(node, job, capacity, session_dir, raylet_name, process)
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
  uint32_t near = 0;  ///< The node with most of what such a task reads from stores; 0: none in particular.
  MSGPACK_DEFINE(request, scheduling_class, backlog, near)
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

/// raylet -> owner: what all nodes together have, when that changed. An owner asks for no more leases than could be granted.
/// And which nodes were lost with this change, and why: what lay in their stores is gone.
struct ClusterCapacity {
  static constexpr Type kType = Type::kClusterCapacity;
  Resources capacity;
  std::map<uint32_t, WireStatus> lost_nodes;
  std::map<uint32_t, uint64_t> back_nodes;  ///< Lost before, there again: ids up to this one are of their earlier life.
  MSGPACK_DEFINE(capacity, lost_nodes, back_nodes)
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
  uint64_t job = 0;  ///< Filled in by the raylet: whose program its worker runs.
  MSGPACK_DEFINE(actor, class_key, class_name, arguments, scheduling_class, max_restarts, max_concurrency,
                 concurrency_groups, name, name_space, detached, get_if_exists, job)
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

/// kMoving is said to watchers only: the actor's node is drained. It still answers what it was sent; nothing more is to be
/// sent to this incarnation, what it has not begun is taken back, and when all is answered the watcher says ReleaseActor.
enum class ActorPhase : uint8_t { kPending = 0, kAlive = 1, kRestarting = 2, kDead = 3, kMoving = 4 };

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

/// watcher -> raylet -> head: the answer to kMoving. Nothing of the sender is under way to this incarnation any more.
struct ReleaseActor {
  static constexpr Type kType = Type::kReleaseActor;
  ActorKey actor;
  uint32_t incarnation = 0;
  MSGPACK_DEFINE(actor, incarnation)
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

/// client -> raylet: why work waits. Answer: Explained.
struct Explain {
  static constexpr Type kType = Type::kExplain;
  uint64_t request = 0;
  uint64_t lease_request = 0;  ///< The sender's RequestLease; 0: all that waits on this node.
  MSGPACK_DEFINE(request, lease_request)
};

struct Explained {
  static constexpr Type kType = Type::kExplained;
  uint64_t request = 0;
  std::vector<std::string> lines;  ///< For people. Empty: nothing waits.
  MSGPACK_DEFINE(request, lines)
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

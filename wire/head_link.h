// What passes between raylets and the head: plain structs in two queues. To the raylet in its own process the queues are in
// memory; to the others the same structs travel in NodeType::kToHead and kFromHead frames. Neither includes the other's
// code.
//
// The head owns what outlives a process or a node: members, the actor table, names, jobs, placement groups, lineage. The
// raylet owns what lives on its node: processes, resources, channels. So a client's actor request goes raylet -> head as it
// is (with the sender's id), the head decides, and a raylet does: places an actor on a worker, stops it, tells a watcher
// (adding the channel, which only a raylet can make).
//
// A node's life with the head: Join -> Joined; then Heartbeat -> Heartbeat, View; Members when others come and go; it ends
// with HeadNodeLeaves, HeadNodeLost or silence. When the head was restarted it asks (HeadRestarted) and the node says what
// it has (HeadNodeReturns).
#pragma once

#include "wire/cluster.h"
#include "wire/drain_messages.h"
#include "wire/group_messages.h"
#include "wire/job_messages.h"
#include "wire/messages.h"
#include "wire/variant_codec.h"
#include "wire/visitor_messages.h"

#include <optional>
#include <string_view>
#include <variant>
#include <vector>

namespace manta::wire {

// ---------------------------------------------------------------------------------------------------- raylet -> head

/// A client was accepted. Its id is never used again after HeadClientGone.
struct HeadClientJoined {
  uint64_t process = 0;
  uint8_t role = 0;
  int32_t pid = 0;
  uint64_t job = 0;
  std::string job_name;
  Amounts quota = {};  ///< Of the job, from its driver. Empty: none.
  MSGPACK_DEFINE(process, role, pid, job, job_name, quota)
};

struct HeadClientGone {
  uint64_t process = 0;
  WireStatus cause;
  MSGPACK_DEFINE(process, cause)
};

using ClientRequest = std::variant<CreateActor, WatchActor, KillActor, FindActor, SaveActorState, LogLineage,
                                   CreatePlacementGroup, RemovePlacementGroup, GetPlacementGroup, ListRequest, ReleaseActor,
                                   DrainNode, SubmitJob, UploadProgram, StopJob, FindJob, ReadJobLog, GetClusterStatus>;

/// A client's message, unchanged. SaveActorState comes only from the worker that is this incarnation (the raylet checked).
struct HeadRequest {
  uint64_t from = 0;
  ClientRequest request;

  template <typename Packer>
  void msgpack_pack(Packer& packer) const {
    packer.pack_array(2);
    packer.pack(from);
    pack_one_of(packer, request);
  }
  void msgpack_unpack(const msgpack::object& object) {
    if (object.type != msgpack::type::ARRAY || object.via.array.size < 2) throw msgpack::type_error();
    object.via.array.ptr[0].convert(from);
    OneOf<ClientRequest> one;
    object.via.array.ptr[1].convert(one);
    request = std::move(one.value);
  }
};

/// How the placement of one incarnation goes on.
enum class ActorEvent : uint8_t {
  kWaiting = 0,  ///< No room now; `cause` says what it waits for.
  kStarted = 1,  ///< Constructed on `worker`.
  kRefused = 2,  ///< Can never run here, or its constructor failed: no restart.
  kEnded = 3,    ///< Its worker died.
  kLeft = 4,     ///< Its worker ended by itself with code 0 after a StopActor.
  // Of actors that are metered: it waits inside a call and lends its CPUs, or goes on.
  kLent = 5,
  kTookBack = 6,
};

struct HeadActorEvent {
  ActorKey actor;
  uint32_t incarnation = 0;
  uint8_t event = 0;
  uint64_t worker = 0;
  int32_t worker_pid = 0;
  WireStatus cause;
  int64_t lived_us = 0;  ///< With kEnded: since it had its worker.
  MSGPACK_DEFINE(actor, incarnation, event, worker, worker_pid, cause, lived_us)
};

/// A node goes by itself: it is drained, or its driver ended. Said by the node.
struct HeadNodeLeaves {
  NodeNumber number = 0;
  std::string reason;
  bool is_drained = false;  ///< What it cut off was preempted: that costs nobody a retry.
  MSGPACK_DEFINE(number, reason, is_drained)
};

/// The connection to a node shows that its process is gone: its machine refuses it. Said by the head's own node only.
struct HeadNodeLost {
  NodeNumber number = 0;
  std::string why;
  MSGPACK_DEFINE(number, why)
};

struct LiveActor {
  ActorKey actor;
  uint32_t incarnation = 0;
  uint64_t worker = 0;  ///< 0: it waits for room, or is being started.
  int32_t worker_pid = 0;
  MSGPACK_DEFINE(actor, incarnation, worker, worker_pid)
};

struct ActorWatch {
  uint64_t watcher = 0;
  ActorKey actor;
  MSGPACK_DEFINE(watcher, actor)
};

struct HeldBundles {
  uint64_t group = 0;
  uint64_t attempt = 0;
  MSGPACK_DEFINE(group, attempt)
};

/// The answer to HeadRestarted: all that the head's earlier life knew only in memory. What is not named here has ended.
struct HeadNodeReturns {
  NodeInfo info;  ///< With its number.
  std::vector<HeadClientJoined> clients = {};
  std::vector<LiveActor> actors = {};
  std::vector<ActorWatch> watches = {};
  std::vector<HeldBundles> bundles = {};
  std::vector<QuotaReport> quotas = {};
  MSGPACK_DEFINE(info, clients, actors, watches, bundles, quotas)
};

/// The answer to PrepareBundles. kUnavailable: no room now; kInvalid: never.
struct BundlesPrepared {
  uint64_t group = 0;
  uint64_t attempt = 0;
  WireStatus status;
  MSGPACK_DEFINE(group, attempt, status)
};

/// Append only: the place in the list is what travels.
using ToHead =
    std::variant<HeadClientJoined, HeadClientGone, HeadRequest, HeadActorEvent, Join, Heartbeat, HeadNodeLeaves,
                 HeadNodeLost, HeadNodeReturns, BundlesPrepared, JobReport, JobLogPart, GetProgramPart, QuotaReport>;

// ---------------------------------------------------------------------------------------------------- head -> raylet

/// Find resources and a worker of its own for this incarnation, and start it there.
struct PlaceActor {
  uint64_t owner = 0;
  SchedulingClass scheduling_class;
  StartActor start;          ///< Without the devices, which the raylet fills in.
  int64_t delay_us = 0;      ///< Not before this has passed: it died too soon the last times.
  bool may_restart = false;  ///< Should its process die, there would be another.
  uint64_t number = 0;       ///< Grows with each that is sent to this node; see Heartbeat::placed_up_to.
  uint64_t job = 0;
  bool is_metered = false;  ///< It counts for its job's quota: the head wants kLent and kTookBack of it.
  MSGPACK_DEFINE(owner, scheduling_class, start, delay_us, may_restart, number, job, is_metered)
};

/// This incarnation must end: with `drain`, after the calls that its rings hold.
struct EndActor {
  ActorKey actor;
  uint32_t incarnation = 0;
  bool drain = false;
  std::string reason;
  MSGPACK_DEFINE(actor, incarnation, drain, reason)
};

/// For one watcher. When the phase is alive this goes to the actor's node, whose raylet makes the channel and delivers the
/// update; else to the watcher's.
struct ActorNotice {
  uint64_t to = 0;
  ActorUpdate update;
  MSGPACK_DEFINE(to, update)
};

struct ActorAnswer {
  uint64_t to = 0;
  ActorFound found;
  MSGPACK_DEFINE(to, found)
};

/// The head was restarted and knows the node only from its tables: say what you have (HeadNodeReturns). Sent again with each
/// heartbeat until that has come.
struct HeadRestarted {
  uint64_t life = 0;
  MSGPACK_DEFINE(life)
};

struct Bundle {
  int32_t index = 0;  ///< In the group.
  Resources resources;
  MSGPACK_DEFINE(index, resources)
};

/// Set these bundles of the group aside, all or none, and answer BundlesPrepared. Attempts of a group only grow: an older
/// one than the raylet has seen has no effect, the same again is answered again, a newer one releases what the older held.
struct PrepareBundles {
  uint64_t group = 0;
  uint64_t attempt = 0;
  std::vector<Bundle> bundles;
  uint64_t number = 0;     ///< As PlaceActor::number.
  bool is_commit = false;  ///< The whole group is here: no CommitBundles follows.
  MSGPACK_DEFINE(group, attempt, bundles, number, is_commit)
};

struct CommitBundles {  ///< Every node has prepared: work may run in them.
  uint64_t group = 0;
  uint64_t attempt = 0;
  MSGPACK_DEFINE(group, attempt)
};

/// Give back what attempts up to this one hold, and end what runs in it.
struct ReleaseBundles {
  uint64_t group = 0;
  uint64_t attempt = 0;
  std::string reason;
  MSGPACK_DEFINE(group, attempt, reason)
};

struct GroupNotice {
  uint64_t to = 0;
  PlacementGroupUpdate update;
  MSGPACK_DEFINE(to, update)
};

struct ListAnswer {
  uint64_t to = 0;
  Listed listed;
  MSGPACK_DEFINE(to, listed)
};

struct StatusAnswer {
  uint64_t to = 0;
  ClusterStatus status;
  MSGPACK_DEFINE(to, status)
};

/// The node is to be drained: see docs/cluster-internals.md. Said again, the earlier deadline counts.
struct BeginDrain {
  int64_t deadline_us = 0;  ///< From now.
  std::string reason;
  MSGPACK_DEFINE(deadline_us, reason)
};

struct DrainNotice {
  uint64_t to = 0;
  DrainProgress progress;
  MSGPACK_DEFINE(to, progress)
};

/// To the client that asked.
struct JobsAnswer {
  using Answer = std::variant<JobAnswer, ProgramReceived, JobLogChunk>;
  uint64_t to = 0;
  Answer answer;

  template <typename Packer>
  void msgpack_pack(Packer& packer) const {
    packer.pack_array(2);
    packer.pack(to);
    pack_one_of(packer, answer);
  }
  void msgpack_unpack(const msgpack::object& object) {
    if (object.type != msgpack::type::ARRAY || object.via.array.size < 2) throw msgpack::type_error();
    object.via.array.ptr[0].convert(to);
    OneOf<Answer> one;
    object.via.array.ptr[1].convert(one);
    answer = std::move(one.value);
  }
};

/// Append only. Members that name a node come to the head's own raylet before anything that goes to that node.
using FromHead =
    std::variant<PlaceActor, EndActor, ActorNotice, ActorAnswer, Joined, JoinRefused, Heartbeat, Members, View,
                 HeadRestarted, PrepareBundles, CommitBundles, ReleaseBundles, GroupNotice, ListAnswer, BeginDrain,
                 DrainNotice, RunJob, EndJob, JobNoted, ProgramChunk, JobsAnswer, StatusAnswer, QuotaShare>;

struct ToNode {
  NodeNumber to = 0;  ///< 0: to the endpoint that the message names (JoinRefused).
  FromHead message;
};

// ---------------------------------------------------------------------------------------------------- as bytes

/// What a node says to the head. Numbered from 1 for what the head must not miss: it is kept until a Heartbeat of the head
/// acknowledges it (heard_up_to) and said again to a head that was restarted. 0: nothing is lost with it.
struct Told {
  uint64_t number = 0;
  ToHead message;

  template <typename Packer>
  void msgpack_pack(Packer& packer) const {
    packer.pack_array(2);
    packer.pack(number);
    pack_one_of(packer, message);
  }
  void msgpack_unpack(const msgpack::object& object) {
    if (object.type != msgpack::type::ARRAY || object.via.array.size != 2) throw msgpack::type_error();
    object.via.array.ptr[0].convert(number);
    OneOf<ToHead> one;
    object.via.array.ptr[1].convert(one);
    message = std::move(one.value);
  }
};

/// The body of a frame of NodeType::kToHead or kFromHead.
[[nodiscard]] std::string encode_to_head(const Told& told);
[[nodiscard]] std::string encode_from_head(const FromHead& message);
/// From bytes of any origin: kInvalid when they are no such message within the caps of wire/frame.h.
[[nodiscard]] Result<Told> decode_to_head(std::string_view bytes);
[[nodiscard]] Result<FromHead> decode_from_head(std::string_view bytes);

// ---------------------------------------------------------------------------------------------------- the way to the head

/// The way to a head in this process. Used by one thread.
class HeadLink {
 public:
  virtual ~HeadLink() = default;

  /// What node `from` says (0: one that has no number yet, with a Join). Never blocks. The queue behind it is bounded: a
  /// head whose disk is behind for long makes this fail with kFull.
  virtual Status send(NodeNumber from, Told told) = 0;
  Status send(NodeNumber from, ToHead message) { return send(from, Told{0, std::move(message)}); }

  /// Something of this node came then (microseconds of the steady clock), though it may not have been said yet: the node
  /// lives.
  virtual void note_heard(NodeNumber, int64_t /*at_us*/) {}

  /// The head said this: it may concern the way to it.
  virtual void note(const FromHead&) {}
  /// The connection to the head was begun anew; what was under way is lost with the old one.
  virtual void say_again() {}

  /// What the head decided since the last call, in order.
  virtual std::vector<ToNode> receive() = 0;

  /// Becomes readable when `receive` has something that no `send` or `tick` of this thread led to; -1 when that never
  /// happens.
  [[nodiscard]] virtual int wake_fd() const = 0;

  /// When `tick` is due, in microseconds of the steady clock; none while nothing waits for time to pass.
  [[nodiscard]] virtual std::optional<int64_t> next_deadline_us() const = 0;
  virtual Status tick() = 0;
};

}  // namespace manta::wire

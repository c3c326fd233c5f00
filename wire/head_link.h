// What passes between a raylet and the head: plain structs in two queues. In a local node both are one process and the
// queues are in memory; between machines the same structs travel in frames. Neither includes the other's code.
//
// The head owns what outlives a process: the actor table, names, jobs, lineage. The raylet owns what lives on its node:
// processes, resources, channels. So a client's actor request goes raylet -> head as it is (with the sender's id), the head
// decides, and the raylet does: places an actor on a worker, stops it, tells a watcher (adding the channel, which only a
// raylet can make).
#pragma once

#include "wire/messages.h"

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
  MSGPACK_DEFINE(process, role, pid, job, job_name)
};

struct HeadClientGone {
  uint64_t process = 0;
  WireStatus cause;
  MSGPACK_DEFINE(process, cause)
};

using ActorRequest = std::variant<CreateActor, WatchActor, KillActor, FindActor, SaveActorState, LogLineage>;

/// A client's message, unchanged. SaveActorState comes only from the worker that is this incarnation (the raylet checked).
struct HeadRequest {
  uint64_t from = 0;
  ActorRequest request;
};

/// How the placement of one incarnation goes on.
enum class ActorEvent : uint8_t {
  kWaiting = 0,  ///< No room now; `cause` says what it waits for.
  kStarted = 1,  ///< Constructed on `worker`.
  kRefused = 2,  ///< Can never run here, or its constructor failed: no restart.
  kEnded = 3,    ///< Its worker died.
  kLeft = 4,     ///< Its worker ended by itself with code 0 after a StopActor.
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

using ToHead = std::variant<HeadClientJoined, HeadClientGone, HeadRequest, HeadActorEvent>;

// ---------------------------------------------------------------------------------------------------- head -> raylet

/// Find resources and a worker of its own for this incarnation, and start it there.
struct PlaceActor {
  uint64_t owner = 0;
  SchedulingClass scheduling_class;
  StartActor start;          ///< Without the devices, which the raylet fills in.
  int64_t delay_us = 0;      ///< Not before this has passed: it died too soon the last times.
  bool may_restart = false;  ///< Should its process die, there would be another.
  MSGPACK_DEFINE(owner, scheduling_class, start, delay_us, may_restart)
};

/// This incarnation must end: with `drain`, after the calls that its rings hold.
struct EndActor {
  ActorKey actor;
  uint32_t incarnation = 0;
  bool drain = false;
  std::string reason;
  MSGPACK_DEFINE(actor, incarnation, drain, reason)
};

/// For one watcher. When the phase is alive, the raylet adds the channel.
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

using FromHead = std::variant<PlaceActor, EndActor, ActorNotice, ActorAnswer>;

/// A raylet's way to its head. Used by one thread.
class HeadLink {
 public:
  virtual ~HeadLink() = default;

  /// Never blocks. The queue behind it is bounded: a head that is away for long makes this fail with kFull.
  virtual Status send(ToHead message) = 0;

  /// What the head decided since the last call, in order.
  virtual std::vector<FromHead> receive() = 0;

  /// Becomes readable when `receive` has something that no `send` of this thread led to; -1 when that never happens.
  [[nodiscard]] virtual int wake_fd() const = 0;
};

}  // namespace manta::wire

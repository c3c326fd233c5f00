// The actors this process calls: where each one is, and the calls to it, in order.
//
//   kPending --ActorUpdate(alive)--> kAlive --process died--> kRestarting --ActorUpdate(alive)--> kAlive
//                                       \------------------------------------------------------> kDead (final)
//
// Calls of this process to one actor are sent in the order they were made; a call whose Ref arguments are not ready holds up
// those behind it. When the actor's process dies, calls it had not begun are sent again; those it had begun are sent again
// while max_task_retries allows, in the old order and before later ones, and fail with kDied otherwise. Being cut off by a
// node that is drained uses up no retry. Of an actor that moves (kMoving) nothing is cut off: what it has begun
// ends there, the rest waits for its next incarnation.
//
// Invariants: a call is queued or sent, never both; an update of an older incarnation changes nothing; after kDead nothing
// is sent. Under the runtime's lock; nothing blocks.
#pragma once

#include "actors/call.h"
#include "actors/peer.h"

#include <chrono>
#include <functional>
#include <unordered_map>
#include <unordered_set>

namespace manta {

struct ActorClient {
  ActorId id;
  wire::ActorPhase phase = wire::ActorPhase::kPending;
  uint32_t incarnation = 0;
  /// The incarnation that is about to go elsewhere: nothing more is sent to it, and when `sent` is empty that is said.
  uint32_t leaving = 0;
  bool owes_release = false;
  Peer* peer = nullptr;
  Status cause;              ///< Why it is dead, restarts, or what it waits for.
  std::deque<Call*> queued;  ///< In order; includes those that wait for arguments.
  std::deque<Call*> sent;    ///< In order.
  int max_task_retries = 0;
  int hasty_calls = 0;                      ///< Calls that do not wait for room, since it did not come lately.
  bool was_let_go = false;                  ///< Its last handle went here: its end is no news.
  bool is_forgotten = false;                ///< No handle in this process.
  bool drain_asked = false;                 ///< The last handle is gone: end it when nothing is queued any more.
  bool is_mine = false;                     ///< This process made it: its last reference decides its end.
  wire::CreateActor creation;               ///< Sent once the constructor's arguments are ready.
  std::vector<detail::Argument> arguments;  ///< Of the constructor; held for restarts.
  int unresolved = 0;
};

class ActorOwner {
 public:
  struct Io {
    std::function<void(const wire::CreateActor&)> create;
    std::function<void(const ActorId&)> watch;
    std::function<void(const wire::KillActor&)> kill;
    std::function<void(const wire::ReleaseActor&)> release;
    std::function<bool(Call&, Peer&)> send;
    std::function<void(Call&, const Status&)> fail;
    std::function<std::string(const ActorClient&)> encode_arguments;
    std::function<bool(const Call&)> has_lost_argument{};  ///< Since it was ready: then the call waits in its place,
    std::function<void(Call&)> hold{};                     ///< and `argument_ready` follows.
  };
  explicit ActorOwner(Io io) : io_(std::move(io)) {}

  /// Its entry, made and watched when this process has not heard of it.
  ActorClient& client_for(const ActorId& id);
  ActorClient* find(const ActorId& id);

  /// A new actor of this process: created once `unresolved` arguments are ready.
  ActorClient& create(const ActorId& id, wire::CreateActor creation, std::vector<detail::Argument> arguments,
                      int unresolved);
  void creation_argument_ready(ActorClient& actor, const Status& status);

  void enqueue(Call& call);
  void argument_ready(Call& call) { pump(*call.actor); }
  void finished(Call& call);
  /// Removes a queued call, or takes it back. False when it runs.
  bool withdraw(Call& call);

  void on_update(const wire::ActorUpdate& update, Peer* peer);
  void on_peer_died(const Peer& peer, const Status& cause);
  void fail_all(const Status& cause);
  void last_handle_gone(const ActorId& id);
  /// This process has no handle to it any more: its entry goes once it is dead and has no calls.
  void forget(const ActorId& id);
  /// Sends what waits for room in a ring.
  void tick();

 private:
  void pump(ActorClient& actor);
  void become_dead(ActorClient& actor, const Status& cause);
  void fail_queued(ActorClient& actor);
  void recall(ActorClient& actor, const Status& cause);
  void drain_if_done(ActorClient& actor);
  void begin_move(ActorClient& actor, uint32_t incarnation);
  void release_if_done(ActorClient& actor);

  Io io_;
  std::unordered_map<ActorId, std::unique_ptr<ActorClient>> actors_;
  std::unordered_set<ActorId> wait_for_room_;
};

}  // namespace manta

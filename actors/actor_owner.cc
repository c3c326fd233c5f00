#include "actors/actor_owner.h"

#include "common/check.h"
#include "common/log.h"
#include "wire/drain_messages.h"

#include <algorithm>
#include <utility>

namespace manta {

using wire::ActorPhase;

ActorClient* ActorOwner::find(const ActorId& id) {
  const auto at = actors_.find(id);
  return at == actors_.end() ? nullptr : at->second.get();
}

ActorClient& ActorOwner::client_for(const ActorId& id) {
  if (ActorClient* const known = find(id); known != nullptr) return known->is_forgotten = false, *known;
  auto& made = actors_[id] = std::make_unique<ActorClient>();
  made->id = id;
  io_.watch(id);
  return *made;
}

ActorClient& ActorOwner::create(const ActorId& id, wire::CreateActor creation, std::vector<detail::Argument> arguments,
                                int unresolved) {
  auto& made = actors_[id] = std::make_unique<ActorClient>();
  made->id = id;
  made->is_mine = true;
  made->creation = std::move(creation);
  made->arguments = std::move(arguments);
  made->unresolved = unresolved + 1;
  creation_argument_ready(*made, {});
  return *made;
}

void ActorOwner::creation_argument_ready(ActorClient& actor, const Status& status) {
  --actor.unresolved;
  if (!status.ok() && actor.phase != ActorPhase::kDead)
    become_dead(actor, status.with_context("an argument of the actor's constructor"));
  if (actor.unresolved > 0 || actor.phase == ActorPhase::kDead) return;
  actor.creation.arguments = io_.encode_arguments(actor);
  io_.create(actor.creation);
}

void ActorOwner::enqueue(Call& call) {
  ActorClient& actor = *call.actor;
  if (actor.phase == ActorPhase::kDead) return io_.fail(call, actor.cause);
  actor.queued.push_back(&call);
  pump(actor);
}

void ActorOwner::pump(ActorClient& actor) {
  while (actor.phase == ActorPhase::kAlive && actor.peer != nullptr && !actor.queued.empty()) {
    Call& call = *actor.queued.front();
    if (call.unresolved > 0) break;
    if (io_.has_lost_argument && io_.has_lost_argument(call)) return io_.hold(call);
    if (!io_.send(call, *actor.peer)) {
      wait_for_room_.insert(actor.id);
      break;
    }
    actor.queued.pop_front();
    actor.sent.push_back(&call);
  }
  release_if_done(actor);
  drain_if_done(actor);
}

void ActorOwner::finished(Call& call) {
  ActorClient& actor = *call.actor;
  const auto at = std::find(actor.sent.begin(), actor.sent.end(), &call);
  MANTA_CHECK(at != actor.sent.end(), actor.id.to_string());
  actor.sent.erase(at);
  pump(actor);
}

bool ActorOwner::withdraw(Call& call) {
  ActorClient& actor = *call.actor;
  if (const auto at = std::find(actor.queued.begin(), actor.queued.end(), &call); at != actor.queued.end()) {
    actor.queued.erase(at);
    pump(actor);
    return true;
  }
  if (call.state != CallState::kSent || !call.peer->take_back(call)) return false;
  std::erase(actor.sent, &call);
  release_if_done(actor);
  return true;
}

// Calls in flight when the process died: in the old order, to the front of the queue or to their end.
void ActorOwner::recall(ActorClient& actor, const Status& cause) {
  std::deque<Call*> sent;
  sent.swap(actor.sent);
  std::vector<Call*> lost;
  for (auto at = sent.rbegin(); at != sent.rend(); ++at) {
    Call& call = **at;
    const bool unbegun = call.peer->take_back(call);
    if (!unbegun) call.peer->forget(call);
    const bool again = unbegun || (!call.cancelled && !call.stream && call.retries_left != 0);
    if (!again) {
      lost.push_back(&call);
      continue;
    }
    if (!unbegun) {
      MANTA_LOG(kInfo, "owner", "call retried", {"actor", actor.id}, {"attempt", call.attempt + 1}, {"why", cause});
      if (call.retries_left > 0 && !wire::is_preempted(cause)) --call.retries_left;
      ++call.attempt;
    }
    call.state = CallState::kQueued;
    actor.queued.push_front(&call);
  }
  for (auto at = lost.rbegin(); at != lost.rend(); ++at) io_.fail(**at, cause);
}

void ActorOwner::begin_move(ActorClient& actor, uint32_t incarnation) {
  actor.incarnation = actor.leaving = incarnation;
  actor.owes_release = true;
  if (actor.phase == ActorPhase::kAlive) actor.phase = ActorPhase::kRestarting;
  for (size_t i = actor.sent.size(); i-- > 0;) {
    Call& call = *actor.sent[i];
    if (!call.peer->take_back(call)) continue;
    call.state = CallState::kQueued;
    actor.sent.erase(actor.sent.begin() + static_cast<ptrdiff_t>(i));
    actor.queued.push_front(&call);
  }
  release_if_done(actor);
}

void ActorOwner::release_if_done(ActorClient& actor) {
  if (!actor.owes_release || !actor.sent.empty()) return;
  actor.owes_release = false;
  io_.release({{actor.id.owner, actor.id.sequence}, actor.leaving});
}

void ActorOwner::on_peer_died(const Peer& peer, const Status& cause) {
  for (const auto& [id, actor] : actors_) {
    if (actor->peer != &peer) continue;
    actor->peer = nullptr;
    // The head decides whether it comes back; until its word arrives, calls wait.
    if (actor->phase == ActorPhase::kAlive) actor->phase = ActorPhase::kRestarting;
    recall(*actor, cause);
    release_if_done(*actor);
  }
}

void ActorOwner::on_update(const wire::ActorUpdate& update, Peer* peer) {
  ActorClient* const actor = find({update.actor.owner, update.actor.sequence});
  if (actor == nullptr || update.incarnation < actor->incarnation || actor->phase == ActorPhase::kDead) return;
  const auto phase = static_cast<ActorPhase>(update.phase);
  const Status cause = wire::from_wire(update.cause);
  if (phase == ActorPhase::kDead) {
    become_dead(*actor, cause.ok() ? Status(Code::kDied, "the actor ended") : cause);
    if (actor->is_forgotten) forget(actor->id);
    return;
  }
  if (phase == ActorPhase::kMoving) return begin_move(*actor, update.incarnation);
  if (phase == ActorPhase::kAlive && update.incarnation == actor->leaving) return;  // said before it was to leave
  if (phase == ActorPhase::kAlive && (peer == nullptr || peer->is_dead)) return;    // died since; the next update says more
  actor->incarnation = update.incarnation;
  actor->cause = cause;
  if (actor->peer != nullptr && actor->peer != peer) recall(*actor, cause);
  actor->phase = phase;
  actor->peer = phase == ActorPhase::kAlive ? peer : nullptr;
  pump(*actor);
}

void ActorOwner::become_dead(ActorClient& actor, const Status& cause) {
  actor.phase = ActorPhase::kDead;
  actor.cause = cause;
  if (actor.is_mine && !actor.was_let_go)
    MANTA_LOG(kWarn, "owner", "actor died", {"actor", actor.id}, {"class", actor.creation.class_name}, {"why", cause});
  for (Call* call : actor.sent) call->retries_left = 0;
  recall(actor, cause);
  actor.peer = nullptr;
  fail_queued(actor);
  actor.arguments.clear();
}

void ActorOwner::fail_all(const Status& cause) {
  for (const auto& [id, actor] : actors_) {
    if (actor->phase != ActorPhase::kDead) become_dead(*actor, cause);
  }
}

void ActorOwner::fail_queued(ActorClient& actor) {
  std::deque<Call*> queued;
  queued.swap(actor.queued);
  for (Call* call : queued) io_.fail(*call, actor.cause);
}

void ActorOwner::last_handle_gone(const ActorId& id) {
  ActorClient* const actor = find(id);
  if (actor == nullptr || actor->phase == ActorPhase::kDead || actor->creation.detached) return;
  actor->drain_asked = true;
  actor->was_let_go = true;
  drain_if_done(*actor);
}

void ActorOwner::forget(const ActorId& id) {
  ActorClient* const actor = find(id);
  if (actor == nullptr) return;
  actor->is_forgotten = true;
  if (actor->phase == ActorPhase::kDead && actor->queued.empty() && actor->sent.empty()) actors_.erase(id);
}

void ActorOwner::drain_if_done(ActorClient& actor) {
  if (!actor.drain_asked || !actor.queued.empty() || actor.phase == ActorPhase::kDead) return;
  // While something is in flight it may still have to be sent again.
  if (!actor.sent.empty() || actor.unresolved > 0) return;
  actor.drain_asked = false;
  io_.kill({{actor.id.owner, actor.id.sequence}, true, true, "its last handle is gone"});
}

void ActorOwner::tick() {
  for (const ActorId& id : std::exchange(wait_for_room_, {})) {
    if (ActorClient* const actor = find(id)) pump(*actor);
  }
}

}  // namespace manta

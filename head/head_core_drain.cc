// Nodes that are drained: what is on them goes elsewhere while it still answers.
#include "head/head_core.h"

#include "common/check.h"

namespace manta::head {

using wire::ActorKey;
using wire::ActorPhase;
using wire::NodeNumber;

void HeadCore::on_request(uint64_t from, wire::DrainNode& message) {
  const auto answer = [&](const Status& status) {
    wire::DrainProgress progress{.request = message.request, .status = wire::to_wire(status), .how = {}};
    say(node_of_process(from), wire::DrainNotice{from, std::move(progress)});
  };
  const std::string named = "node " + std::to_string(message.node);
  const Membership::Member* member = members_.find(message.node);
  if (member == nullptr) return answer(Status(Code::kNotFound, "no member has the number " + std::to_string(message.node)));
  if (message.node == wire::kHeadNode)
    return answer(Status(Code::kInvalid, named + " is the head's own: end the others first, then its mantad"));
  if (member->info.is_driver)
    return answer(Status(Code::kInvalid, named + " takes no work: it came with a program and goes with it"));
  if (message.deadline_us < 0) return answer(Status(Code::kInvalid, "the deadline lies in the past"));
  auto& waiting = drains_[message.node];
  if (waiting.size() >= settings_.max_drain_waiters)
    return answer(Status(Code::kFull, std::to_string(waiting.size()) + " others wait for the end of " + named));
  waiting.emplace_back(from, message.request);
  say(message.node, wire::BeginDrain{.deadline_us = message.deadline_us, .reason = message.reason});
  answer({});
  if (member->is_draining) return;
  members_.drain(message.node);
  note_takes_work(message.node);
  node_drains(message.node);
}

void HeadCore::node_drains(NodeNumber number) {
  const auto placed = on_node_.find(number);
  if (placed == on_node_.end()) return;
  const std::set<ActorKey> keys = placed->second;
  for (const ActorKey& key : keys) move_away(actors_.at(key));
}

// One that cannot be made again without losing what it knows stays to the node's end, as do those whose bundle is there.
void HeadCore::move_away(Actor& actor) {
  if (actor.spec.scheduling_class.group != 0 || actor.is_moving || actor.is_draining) return;
  if (actor.phase != ActorPhase::kAlive) {
    end_worker(actor, false, "its node is drained");
    ++actor.incarnation;
    return place(actor);
  }
  if (!actor.may_restart || (actor.spec.max_restarts == 0 && !actor.has_state)) return;
  actor.is_moving = true;
  for (const uint64_t watcher : actor.watchers)
    if (processes_.contains(watcher)) actor.awaited.insert(watcher);
  tell_watchers(actor);
  if (actor.awaited.empty()) end_worker(actor, true, "its node is drained");
}

void HeadCore::on_request(uint64_t from, wire::ReleaseActor& message) {
  const auto it = actors_.find(message.actor);
  if (it != actors_.end() && it->second.incarnation == message.incarnation) no_longer_awaits(it->second, from);
}

void HeadCore::no_longer_awaits(Actor& actor, uint64_t watcher) {
  if (actor.is_moving && actor.awaited.erase(watcher) > 0 && actor.awaited.empty())
    end_worker(actor, true, "its node is drained");
}

}  // namespace manta::head

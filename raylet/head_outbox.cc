#include "raylet/head_outbox.h"

namespace manta::raylet {

Status HeadOutbox::add(wire::ToHead message) {
  Kept kept;
  if (const auto* joined = std::get_if<wire::HeadClientJoined>(&message)) clients_[joined->process] = *joined;
  if (const auto* gone = std::get_if<wire::HeadClientGone>(&message)) kept.ended_client = gone->process;
  if (const auto* event = std::get_if<wire::HeadActorEvent>(&message)) {
    const auto what = static_cast<wire::ActorEvent>(event->event);
    const bool is_end =
        what == wire::ActorEvent::kRefused || what == wire::ActorEvent::kEnded || what == wire::ActorEvent::kLeft;
    if (is_end) kept.ended_actor = {event->actor, event->incarnation, event->worker, event->worker_pid};
  }
  if (const auto* request = std::get_if<wire::HeadRequest>(&message))
    if (const auto* save = std::get_if<wire::SaveActorState>(&request->request))
      kept.state = {save->actor, save->incarnation};
  wire::Told told{.number = last_ + 1, .message = std::move(message)};
  kept.frame = wire::encode_to_head(told);
  if (kept.state)
    if (const auto older = states_.find(*kept.state); older != states_.end()) drop(kept_.find(older->second));
  if (bytes_ + kept.frame.size() > max_bytes_)
    return Status(Code::kFull, "the head has not acknowledged " + std::to_string(kept_.size()) + " messages with " +
                                   std::to_string(bytes_) + " bytes: it is away or too slow");
  ++last_;
  bytes_ += kept.frame.size();
  if (kept.state) states_[*kept.state] = last_;
  kept_.emplace(last_, std::move(kept));
  return {};
}

void HeadOutbox::drop(std::map<uint64_t, Kept>::iterator at) {
  bytes_ -= at->second.frame.size();
  if (at->second.state) states_.erase(*at->second.state);
  kept_.erase(at);
}

void HeadOutbox::acknowledge(uint64_t up_to) {
  while (!kept_.empty() && kept_.begin()->first <= up_to) {
    clients_.erase(kept_.begin()->second.ended_client);
    drop(kept_.begin());
  }
}

std::optional<std::pair<uint64_t, const std::string*>> HeadOutbox::next_after(uint64_t number) const {
  const auto next = kept_.upper_bound(number);
  if (next == kept_.end()) return std::nullopt;
  return std::pair(next->first, &next->second.frame);
}

void HeadOutbox::complete(wire::HeadNodeReturns& returns) const {
  for (const auto& [process, joined] : clients_) returns.clients.push_back(joined);
  for (const auto& [number, kept] : kept_)
    if (kept.ended_actor) returns.actors.push_back(*kept.ended_actor);
}

}  // namespace manta::raylet

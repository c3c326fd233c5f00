#include "raylet/join.h"

#include "common/check.h"
#include "wire/head_link.h"
#include "wire/net/own_keys.h"

#include <poll.h>

#include <algorithm>
#include <random>

namespace manta::raylet {
namespace {

using Clock = std::chrono::steady_clock;

constexpr auto kAgain = std::chrono::milliseconds(500);
constexpr auto kTurn = std::chrono::seconds(3);  // for each key that the head may have

uint64_t random_nonce() {
  std::random_device device;
  return (uint64_t{device()} << 32 | device()) | 1;
}

/// The head's answer, if this event is it.
std::optional<Result<wire::Joined>> answer_in(const wire::LinkEvent& event, uint64_t nonce) {
  if (event.what != wire::LinkEvent::What::kFrame || event.type != wire::NodeType::kFromHead) return std::nullopt;
  Result<wire::FromHead> message = wire::decode_from_head(event.body);
  if (!message.ok()) return std::nullopt;
  if (auto* joined = std::get_if<wire::Joined>(&*message); joined != nullptr && joined->nonce == nonce)
    return std::move(*joined);
  if (const auto* refused = std::get_if<wire::JoinRefused>(&*message); refused != nullptr && refused->nonce == nonce)
    return wire::from_wire(refused->status).with_context("the head refused this node");
  return std::nullopt;
}

/// Nothing when there is no answer until then; `last` is why the connection was lost, if it was.
Result<std::optional<JoinedCluster>> ask_to_join(wire::NodeLink& link, const wire::LinkPeer& head, const wire::Join& join,
                                                 Clock::time_point until, Status& last) {
  auto next = Clock::now();
  while (Clock::now() < until) {
    if (Clock::now() >= next) {
      next = Clock::now() + kAgain;
      MANTA_RETURN_IF_ERROR(link.send_frame(head.number, wire::NodeType::kToHead, wire::encode_to_head({.message = join})));
    }
    pollfd ready{link.wake_fd(), POLLIN, 0};
    const auto patience = std::chrono::ceil<std::chrono::milliseconds>(std::min(next, until) - Clock::now());
    if (::poll(&ready, 1, std::max(0, static_cast<int>(patience.count()))) <= 0) continue;
    std::vector<wire::LinkEvent> events = link.receive();
    for (auto it = events.begin(); it != events.end(); ++it) {
      if (it->what == wire::LinkEvent::What::kLost) last = it->why;
      std::optional<Result<wire::Joined>> answer = answer_in(*it, join.nonce);
      if (!answer) continue;
      if (!answer->ok()) return answer->status();
      link.set_number((*answer)->number);
      return std::optional(JoinedCluster{
          std::move(**answer), {std::make_move_iterator(it + 1), std::make_move_iterator(events.end())}, head});
    }
  }
  return std::optional<JoinedCluster>();
}

}  // namespace

Result<JoinedCluster> join_cluster(wire::NodeLink& link, const std::vector<wire::LinkPeer>& heads, wire::NodeInfo self,
                                   std::chrono::milliseconds timeout) {
  const wire::Join join{.version = MANTA_VERSION, .info = std::move(self), .nonce = random_nonce()};
  const auto deadline = Clock::now() + timeout;
  Status last;
  for (size_t turn = 0; Clock::now() < deadline; ++turn) {
    const wire::LinkPeer& head = heads[turn % heads.size()];
    link.remove_peer(head.number);
    MANTA_RETURN_IF_ERROR(link.add_peer(head));
    if (!head.public_key.empty()) link.allow(head.public_key, wire::LinkRole::kNode);
    const auto until = heads.size() == 1 ? deadline : std::min(deadline, Clock::now() + kTurn);
    Result<std::optional<JoinedCluster>> joined = ask_to_join(link, head, join, until, last);
    if (!joined.ok()) return joined.status();
    if (*joined) return std::move(**joined);
  }
  return Status(Code::kTimeout, "the head at " + heads.front().endpoint + " did not answer within " +
                                    std::to_string(timeout.count()) + " ms" + (last.ok() ? "" : ": " + last.message()));
}

Status settle_with_head(wire::NodeLink& link, const wire::LinkPeer& head, const std::string& keys_dir) {
  if (keys_dir.empty()) return {};
  MANTA_RETURN_IF_ERROR(wire::remember_head(keys_dir, head.public_key));
  if (!head.as.are_given()) return {};
  wire::LinkPeer settled = head;
  settled.as = {};
  link.remove_peer(head.number);
  return link.add_peer(settled);
}

}  // namespace manta::raylet

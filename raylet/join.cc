#include "raylet/join.h"

#include "common/check.h"
#include "wire/head_link.h"

#include <poll.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <random>

namespace manta::raylet {
namespace {

using Clock = std::chrono::steady_clock;

constexpr auto kAgain = std::chrono::milliseconds(500);

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

}  // namespace

Result<JoinedCluster> join_cluster(wire::NodeLink& link, const wire::LinkPeer& head, wire::NodeInfo self,
                                   std::chrono::milliseconds timeout) {
  MANTA_RETURN_IF_ERROR(link.add_peer(head));
  if (!head.public_key.empty()) link.allow(head.public_key, wire::LinkRole::kNode);
  const wire::Join join{.version = MANTA_VERSION, .info = std::move(self), .nonce = random_nonce()};
  const auto deadline = Clock::now() + timeout;
  auto next = Clock::now();
  Status last;
  while (Clock::now() < deadline) {
    if (Clock::now() >= next) {
      next = Clock::now() + kAgain;
      MANTA_RETURN_IF_ERROR(link.send_frame(head.number, wire::NodeType::kToHead, wire::encode_to_head({.message = join})));
    }
    pollfd ready{link.wake_fd(), POLLIN, 0};
    const auto patience = std::chrono::ceil<std::chrono::milliseconds>(std::min(next, deadline) - Clock::now());
    if (::poll(&ready, 1, std::max(0, static_cast<int>(patience.count()))) <= 0) continue;
    std::vector<wire::LinkEvent> events = link.receive();
    for (auto it = events.begin(); it != events.end(); ++it) {
      if (it->what == wire::LinkEvent::What::kLost) last = it->why;
      std::optional<Result<wire::Joined>> answer = answer_in(*it, join.nonce);
      if (!answer) continue;
      if (!answer->ok()) return answer->status();
      link.set_number((*answer)->number);
      return JoinedCluster{std::move(**answer), {std::make_move_iterator(it + 1), std::make_move_iterator(events.end())}};
    }
  }
  return Status(Code::kTimeout, "the head at " + head.endpoint + " did not answer within " +
                                    std::to_string(timeout.count()) + " ms" + (last.ok() ? "" : ": " + last.message()));
}

Result<wire::LinkKeys> own_keys(const std::string& keys_dir, bool may_make) {
  if (keys_dir.empty()) return wire::LinkKeys{};
  const std::string path = keys_dir + "/node.keys";
  Result<wire::LinkKeys> keys = wire::load_keys(path);
  if (keys.ok() || keys.status().code() != Code::kNotFound) return keys;
  if (!may_make)
    return Status(Code::kNotFound,
                  "there is no " + path + "; make the head's keys with: manta keys create --keys " + keys_dir);
  std::error_code error;
  std::filesystem::create_directories(keys_dir, error);
  MANTA_ASSIGN_OR_RETURN(wire::LinkKeys made, wire::make_keys());
  MANTA_RETURN_IF_ERROR(wire::save_keys(path, made));
  return made;
}

Result<wire::LinkPeer> find_head(const std::string& address, const std::string& keys_dir, const std::string& token_file) {
  wire::LinkPeer head{.number = wire::kHeadNode, .endpoint = address, .public_key = {}};
  if (keys_dir.empty()) return head;
  if (!token_file.empty()) {
    MANTA_ASSIGN_OR_RETURN(const wire::JoinToken token, wire::load_token(token_file));
    head.public_key = token.head_public_key;
    head.as = token.keys;
    return head;
  }
  std::ifstream file(keys_dir + "/head");
  if (!(file >> head.public_key) || !wire::is_key(head.public_key))
    return Status(Code::kNotFound, "this machine has not joined a cluster with the keys in " + keys_dir +
                                       " before; give it a token: --join-token FILE (manta token create)");
  return head;
}

Status settle_with_head(wire::NodeLink& link, const wire::LinkPeer& head, const std::string& keys_dir) {
  if (keys_dir.empty()) return {};
  std::ofstream(keys_dir + "/head") << head.public_key << "\n";
  if (!head.as.are_given()) return {};
  wire::LinkPeer settled = head;
  settled.as = {};
  link.remove_peer(head.number);
  return link.add_peer(settled);
}

}  // namespace manta::raylet

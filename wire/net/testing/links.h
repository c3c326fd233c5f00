// What the tests of NodeLink and its benchmark share: links in one process, and local processes played by threads.
#pragma once

#include "common/check.h"
#include "wire/net/node_link.h"

#include <poll.h>

#include <chrono>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace manta::wire::testing {

inline constexpr auto kPatience = std::chrono::seconds(30);

/// A link and what it heard so far.
class Node {
 public:
  struct Options {
    bool has_keys = true;
    size_t max_outbox_bytes = size_t{64} << 20;
    size_t max_inbox_bytes = size_t{64} << 20;
  };

  Node(NodeNumber own, Options options) : number(own) {
    if (options.has_keys) keys = make_keys().value();
    link = NodeLink::start({.listen = "tcp://127.0.0.1:*",
                            .advertise = {},
                            .keys = keys,
                            .max_outbox_bytes = options.max_outbox_bytes,
                            .max_inbox_bytes = options.max_inbox_bytes})
               .value();
    link->set_number(number);
  }
  explicit Node(NodeNumber own) : Node(own, Options{}) {}

  /// Lets the other in, and connects to it: at its own endpoint or at `through`.
  void add(const Node& other, const std::string& through = "") {
    if (keys.are_given()) link->allow(other.keys.public_key, LinkRole::kNode);
    const Status status = link->add_peer({.number = other.number,
                                          .endpoint = through.empty() ? other.link->endpoint() : through,
                                          .public_key = other.keys.public_key});
    MANTA_CHECK(status.ok(), status.to_string());
  }

  /// The next event that `is_wanted`; events before it stay for later calls. Nothing when it does not come in time.
  std::optional<LinkEvent> wait_for(const std::function<bool(const LinkEvent&)>& is_wanted,
                                    std::chrono::milliseconds patience = kPatience) {
    const auto deadline = std::chrono::steady_clock::now() + patience;
    while (true) {
      for (size_t i = 0; i < heard.size(); ++i) {
        if (!is_wanted(heard[i])) continue;
        LinkEvent event = std::move(heard[i]);
        heard.erase(heard.begin() + static_cast<std::ptrdiff_t>(i));
        return event;
      }
      const auto left =
          std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now()).count();
      if (left <= 0) return std::nullopt;
      pollfd wake{link->wake_fd(), POLLIN, 0};
      ::poll(&wake, 1, static_cast<int>(left));
      for (LinkEvent& event : link->receive()) heard.push_back(std::move(event));
    }
  }
  std::optional<LinkEvent> wait_for(LinkEvent::What what, std::chrono::milliseconds patience = kPatience) {
    return wait_for([&](const LinkEvent& event) { return event.what == what; }, patience);
  }

  const NodeNumber number;
  LinkKeys keys;
  std::unique_ptr<NodeLink> link;
  std::vector<LinkEvent> heard;
};

/// Two nodes that are each other's peers.
inline void introduce(Node& a, Node& b) {
  a.add(b);
  b.add(a);
}

/// One local process's end of a channel.
class Local {
 public:
  explicit Local(Channel::Side side)
      : side_(side),
        file_(Channel::create_file().value()),
        bell_(Bell::create().value()),
        channel_(Channel::open(file_, side).value()) {}

  /// Hands the other side of the channel to `node`'s link.
  Status relay(ChannelId id, Node& node, NodeNumber peer) {
    rings(node.link->bell_fd());
    const auto relays_side = side_ == Channel::Side::kCaller ? Channel::Side::kWorker : Channel::Side::kCaller;
    return node.link->open_channel(id, peer, relays_side, file_, bell_.fd());
  }

  /// For a process that plays this end while another has the link.
  void rings(const Fd& relay_bell) { relay_bell_ = Bell::open(relay_bell).value(); }

  [[nodiscard]] Ring& out() { return side_ == Channel::Side::kCaller ? channel_->requests : channel_->replies; }
  [[nodiscard]] Ring& in() { return side_ == Channel::Side::kCaller ? channel_->replies : channel_->requests; }
  [[nodiscard]] Channel& channel() { return *channel_; }

  /// False when the ring is full.
  bool try_send(uint16_t kind, std::span<const std::byte> body) {
    const std::span<std::byte> room = out().reserve(body.size());
    if (room.empty()) return false;
    if (!body.empty()) std::memcpy(room.data(), body.data(), body.size());
    out().publish(kind, body.size());
    return true;
  }
  void ring() { relay_bell_.ring(side_ == Channel::Side::kCaller ? Bell::Line::kRequests : Bell::Line::kReplies); }

  /// Calls `handle` for each message that is there; how many there were.
  template <typename Handle>
  size_t take(Handle handle) {
    size_t count = 0;
    while (true) {
      const std::optional<RingMessage> message = in().claim().value();
      if (!message) return count;
      handle(*message);
      in().release(*message);
      ++count;
    }
  }

  /// Sleeps until there may be something to take.
  void wait(int64_t timeout_us = 100'000) {
    const Bell::Line line = side_ == Channel::Side::kCaller ? Bell::Line::kReplies : Bell::Line::kRequests;
    const uint32_t ticket = bell_.prepare_sleep(line);
    if (in().is_empty()) return bell_.sleep(line, ticket, timeout_us);
    bell_.cancel_sleep(line);
  }
  [[nodiscard]] Bell& bell() { return bell_; }

 private:
  const Channel::Side side_;
  Fd file_;
  Bell bell_;
  Bell relay_bell_;
  std::unique_ptr<Channel> channel_;
};

}  // namespace manta::wire::testing

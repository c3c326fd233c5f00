// A relayed channel as the two threads of a NodeLink share it: the sender claims what the local process says, the receiver
// puts in what the other node's process said.
//
// Each ring end has one thread. What crosses between the threads is atomic, and each of those has one writer.
#pragma once

#include "wire/channel.h"
#include "wire/cluster.h"

#include <array>
#include <atomic>
#include <memory>
#include <utility>

namespace manta::wire {

/// What the other relay may have on its way here before it sees that something was consumed: it claims a message while less
/// than this is in flight, and the rest of the ring has room for that message and the filler before it, whatever its size.
inline constexpr uint64_t kCreditBytes = kRingBytes / 2 - 64;
static_assert(kCreditBytes + 2 * (kMaxRingMessageBytes + 16) + 16 <= kRingBytes);

/// The bell of a local process, and when the receiver rang it last.
struct LocalBell {
  Bell bell;
  std::array<uint64_t, 2> rung_in_batch{};  ///< By line; the receiver's own.
};

struct RelayChannel {
  RelayChannel(ChannelId channel_id, NodeNumber with, Channel::Side as, std::unique_ptr<Channel> rings,
               std::shared_ptr<LocalBell> bell)
      : id(channel_id), peer(with), side(as), channel(std::move(rings)), local_bell(std::move(bell)) {}

  const ChannelId id;
  const NodeNumber peer;
  const Channel::Side side;  ///< Whose part the relay plays towards the local process.
  const std::unique_ptr<Channel> channel;
  const std::shared_ptr<LocalBell> local_bell;  ///< All channels of a process share it: a batch rings it once.

  [[nodiscard]] bool is_caller() const { return side == Channel::Side::kCaller; }
  /// The receiver fills it, the local process consumes.
  [[nodiscard]] Ring& filled_ring() const { return is_caller() ? channel->requests : channel->replies; }
  /// The local process fills it, the sender claims.
  [[nodiscard]] Ring& claimed_ring() const { return is_caller() ? channel->replies : channel->requests; }
  [[nodiscard]] Bell::Line local_line() const { return is_caller() ? Bell::Line::kRequests : Bell::Line::kReplies; }

  // Written by the receiver.
  std::atomic<bool> is_open{false};  ///< The other end said so.
  std::atomic<uint64_t> credit{0};   ///< As the other end gave it; the sender checks it.
  std::atomic<uint64_t> filled{0};   ///< Where the filled ring ends.
  // Written by the sender.
  std::atomic<uint64_t> reported{0};  ///< How far the other end knows the filled ring to be consumed.

  /// Set by whoever ends it first: nothing more is claimed or filled.
  std::atomic<bool> has_ended{false};
};

}  // namespace manta::wire

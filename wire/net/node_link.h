// The one ZeroMQ endpoint of a node: frames to and from other mantads, and channels whose other end is on another node.
//
//   local process ==ring==> sender thread --ZeroMQ, CURVE--> other node's receiver thread ==ring==> its process
//
// Frames and messages of rings travel in batches (batch.h). To one peer they arrive once each and in order for as long as
// both links keep the other as a peer, whatever its connections do: batches are numbered, kept until acknowledged, and sent
// again when they did not come. After a connection ended they wait for the next.
//
// Credit: less than half a ring of a channel is in flight that the other side has not seen consumed, else its ring is
// left alone and fills: whoever submits waits. A channel speaks after both ends are open, so nothing comes before
// open_channel. What a peer leaves unread counts against `max_outbox_bytes`; past it send says kFull, and past half
// of it the peer's rings wait.
//
// Hostile input: a batch is checked as a whole before anything of it counts. One that is malformed, or that comes with a
// number its key does not have, costs that key (without keys: that connection) ten seconds of silence, and nothing else.
//
// Threads: three of its own (sender, receiver, gate: who may connect) and ZeroMQ's. Every method may be called by any
// thread, none blocks on the network; `receive` by one thread at a time.
#pragma once

#include "common/clock.h"
#include "common/fd.h"
#include "wire/channel.h"
#include "wire/cluster.h"
#include "wire/frame.h"
#include "wire/net/keys.h"

#include <manta/ids.h>
#include <manta/status.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace manta::wire {

struct NodeLinkOptions {
  std::string listen;     ///< tcp://ADDRESS:PORT; port * or 0: any. Without keys only an address of 127.0.0.0/8 or [::1].
  std::string advertise;  ///< The host in endpoint(), when `listen` names none that others can reach.
  LinkKeys keys;
  size_t max_outbox_bytes = size_t{64} << 20;  ///< A peer: what waits or is not acknowledged.
  size_t max_inbox_bytes = size_t{64} << 20;   ///< Frames that nobody has received; past it no peer is listened to.
};

struct LinkPeer {
  NodeNumber number = 0;
  std::string endpoint;    ///< tcp://HOST:PORT
  std::string public_key;  ///< Empty exactly if this link has no keys.
  LinkKeys as{};           ///< Speak to it with these keys, such as a token's; none: with the link's own.
};

struct LinkEvent {
  enum class What : uint8_t {
    kFrame,
    kConnected,
    kLost,  ///< The connection to `from` was refused (code kDied: nobody listens there), or ended, or it misbehaved.
            ///< With `reply_to`: a stranger that was answered is gone, or does not read.
    kChannelClosed,  ///< The other end closed it; everything it had said is in the ring.
    kChannelBroken,  ///< Nonsense in a ring or from the peer, or the peer began anew. Nothing goes through it any more.
  };
  What what = What::kFrame;
  NodeNumber from = 0;  ///< 0: a frame of somebody who has not joined.
  std::string from_key{};
  LinkRole role = LinkRole::kNode;
  std::string reply_to{};  ///< Of a frame with from 0: the connection that it came by. See `answer`.
  NodeType type{};
  std::string body{};  ///< decode<M>() it.
  ChannelId channel{};
  Status why{};
};

struct LinkStats {
  uint64_t batches_sent = 0;
  uint64_t bytes_sent = 0;
  uint64_t batches_resent = 0;
  uint64_t batches_received = 0;
  uint64_t batches_refused = 0;  ///< Malformed, of an unknown number or key, or of a banned one.
};

class NodeLink {
 public:
  /// Listens. kInvalid for keys that are none or an address that may not be listened on without keys; kIo when it cannot be.
  static Result<std::unique_ptr<NodeLink>> start(NodeLinkOptions options);
  /// What was sent has 200 ms to go out; events that were not received are gone.
  ~NodeLink();
  NodeLink(const NodeLink&) = delete;
  NodeLink& operator=(const NodeLink&) = delete;

  /// What others connect to.
  [[nodiscard]] std::string endpoint() const;
  /// This node's own number, once it has joined; it goes with every batch.
  void set_number(NodeNumber own);

  /// Connects when there is something to say, and then keeps connecting. Frames may be sent at once. Batches that come with
  /// its number must have its key. kExists for a number that is a peer.
  Status add_peer(LinkPeer peer);
  /// Drops what waits for it; its channels break.
  void remove_peer(NodeNumber number);

  /// Who may connect: at once, and for connections that stand already. Without keys everybody is kNode.
  void allow(const std::string& public_key, LinkRole role);
  void revoke(const std::string& public_key);

  /// Never blocks. kNotFound: no such peer. kFull: it is too slow, and its owner decides. kInvalid: over 16 MiB.
  template <typename Message>
  Status send(NodeNumber to, const Message& message) {
    return send_frame(to, Message::kType, encode(message));
  }
  Status send_frame(NodeNumber to, NodeType type, std::string body);

  /// To a stranger, over the connection that its frame came by: it need not listen anywhere. Nothing is sent again: what the
  /// connection loses, or has no room for (64 frames), is told of by kLost. kFull: 64 MiB of answers wait to go out.
  Status answer(const std::string& reply_to, NodeType type, std::string body);

  /// Some of what came, each sender's in order; `wake_fd` is readable while there is something.
  std::vector<LinkEvent> receive();
  [[nodiscard]] int wake_fd() const;
  /// When frames of each peer last came here, those that nobody has received included; not of peers that never sent any.
  [[nodiscard]] std::vector<std::pair<NodeNumber, Time>> heard() const;

  /// Relays between the local process at the other side of `channel_file` and the channel of the same id at `peer`.
  /// `side` is whose part the relay plays: kWorker when the local process is the caller. Both ends of the file are fresh.
  Status open_channel(ChannelId id, NodeNumber peer, Channel::Side side, const Fd& channel_file, const Fd& local_bell);
  /// The local process is gone: what it had said before still goes out (within a second), what comes for it is dropped.
  void close_channel(ChannelId id);
  /// What local processes ring, on either line.
  [[nodiscard]] const Fd& bell_fd() const;

  [[nodiscard]] LinkStats stats() const;

 private:
  struct State;
  explicit NodeLink(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace manta::wire

// The receiving half of a NodeLink: one thread that takes batches off the ROUTER socket, checks who sent them and that each
// counts once, puts messages into the rings of local processes and frames into the inbox.
//
// Thread safety: the public methods may be called by any thread.
#pragma once

#include "common/clock.h"
#include "wire/net/access.h"
#include "wire/net/batch.h"
#include "wire/net/inbox.h"
#include "wire/net/incoming.h"
#include "wire/net/peer_state.h"
#include "wire/net/relay_channel.h"

#include <zmq.hpp>

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

namespace manta::wire {

class Receiver {
 public:
  struct Options {
    bool has_keys = false;
    size_t max_outbox_bytes = 0;  ///< Of this link's sender, which waits for room past half of it.
    std::function<void()> wake_sender;
  };

  /// `wake` is raised when the inbox has room again.
  Receiver(Options options, zmq::socket_t router, Access& access, Inbox& inbox, const Signal& wake);
  ~Receiver();
  void start();
  void stop();

  void add_peer(std::shared_ptr<PeerState> peer);
  void remove_peer(NodeNumber number);

  /// kExists when the channel is there.
  Status open(std::shared_ptr<RelayChannel> channel);
  /// Nothing more for the local process; credit still counts. False when there is no such channel.
  bool close(ChannelId id);
  void forget(ChannelId id);

  /// See NodeLink::answer.
  Status answer(const std::string& reply_to, NodeType type, std::string body);

  /// Where a batch came from.
  struct Origin {
    std::string key;   // empty without keys
    std::string name;  // what is banned: the key or, without keys, the connection
    std::string reply_to;
    LinkRole role = LinkRole::kNode;
  };
  /// A batch that came, of any bytes. For the thread, and for those who try it without a socket and do not start it.
  void on_batch(const Origin& origin, std::span<const std::byte> bytes);

  struct Counters {
    std::atomic<uint64_t> batches{0}, refused{0};
  };
  [[nodiscard]] const Counters& counters() const { return counters_; }

 private:
  struct Peer {
    std::shared_ptr<PeerState> state;  // shared with the sender and the gate
    uint64_t stream = 0;               // the one it speaks on
    uint64_t asked_for = 0;            // the batch that was missing when it was last asked
    Time asked_at{};
  };
  struct Inlet {
    std::shared_ptr<RelayChannel> channel;  // the sender has it too, and either may be the last
    bool is_closed = false;                 // the local process is gone
    uint64_t fill = 0;
  };

  struct Answer {
    std::string reply_to;
    NodeType type{};
    std::string body;
  };

  void run();
  bool receive_one();
  void send_answers();
  void send(const Answer& answer);
  void on_batch_of_peer(const Origin& origin, Peer& peer, BatchReader& batch, size_t size_bytes);
  void on_stranger(const Origin& origin, BatchReader& batch);
  void on_acknowledgement(Peer& peer, const BatchHeader& header);
  void begin_stream(const Origin& origin, Peer& peer, uint64_t stream);
  void ask(Peer& peer, uint64_t stream, uint64_t last);
  void refuse(const Origin& origin, NodeNumber from, const Status& why);
  void on_frame(const Origin& origin, NodeNumber from, const Entry& entry);
  void on_channel_entry(NodeNumber from, const Entry& entry);
  void on_open(NodeNumber from, ChannelId id);
  void on_message(Inlet& inlet, const Entry& entry);
  void ring_later(LocalBell& bell, Bell::Line line);
  void end(RelayChannel& channel, LinkEvent::What what, Status why);
  void end_channels_of(NodeNumber number, const std::string& why);

  const Options options_;
  zmq::socket_t router_;
  Access& access_;
  Inbox& inbox_;
  const Signal& wake_;
  std::atomic<bool> is_stopping_{false};
  Counters counters_;

  std::mutex answers_mutex_;  // guards the next two
  std::vector<Answer> answers_;
  size_t answers_bytes_ = 0;

  std::mutex mutex_;  // guards the rest; held for one batch
  std::unordered_map<NodeNumber, Peer> peers_;
  std::unordered_map<ChannelId, Inlet> inlets_;
  std::unordered_map<ChannelId, NodeNumber> opened_early_;  // the other end was there first
  std::set<NodeNumber> strangers_;                          // numbers whose batches were dropped
  Incoming incoming_;
  uint64_t batch_ = 0;
  bool must_wake_sender_ = false;
  std::vector<std::pair<LocalBell*, Bell::Line>> to_ring_;

  std::thread thread_;
};

}  // namespace manta::wire

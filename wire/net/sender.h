// The sending half of a NodeLink: one thread that sleeps on the relay's bell, claims what lies in the rings of local
// processes, and packs it with the frames that wait into batches for each peer. It never waits in order to form a batch.
//
// Thread safety: the public methods may be called by any thread.
#pragma once

#include "common/clock.h"
#include "wire/net/buffers.h"
#include "wire/net/inbox.h"
#include "wire/net/outgoing.h"
#include "wire/net/peer_state.h"
#include "wire/net/relay_channel.h"

#include <zmq.hpp>

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

namespace manta::wire {

class Sender {
 public:
  struct Options {
    size_t max_outbox_bytes = 0;
    /// A new socket to a peer that is spoken to for the first time, or whose socket gave up.
    std::function<Result<zmq::socket_t>(const std::shared_ptr<PeerState>&)> connect;
    /// The sender has let go of the channel: nothing of it is needed any more.
    std::function<void(ChannelId)> forget;
  };

  Sender(Options options, Bell bell, BufferPool& pool, Inbox& inbox);
  ~Sender();
  void start();
  /// Ends the thread, which first sends what waits and then closes its sockets.
  void stop();

  void set_number(NodeNumber own) { own_ = own; }
  /// The connection is made when there is something to say: in a large cluster most nodes never speak to each other.
  void add_peer(std::shared_ptr<PeerState> peer);
  void remove_peer(NodeNumber number);
  Status send_frame(NodeNumber to, NodeType type, std::string body);

  /// Begins to serve a channel of a peer that was added.
  void open(std::shared_ptr<RelayChannel> channel);
  /// Sends what is there, then says kClose.
  void close(ChannelId id);

  /// There is something to look at.
  void wake() { bell_.ring(Bell::Line::kRequests); }
  [[nodiscard]] const Fd& bell_fd() const { return bell_.fd(); }

  struct Counters {
    std::atomic<uint64_t> batches{0}, bytes{0}, resent{0};
  };
  [[nodiscard]] const Counters& counters() const { return counters_; }

 private:
  struct OutFrame {
    NodeType type{};
    std::string body;
  };
  /// A channel as the sender sees it.
  struct Relay {
    std::shared_ptr<RelayChannel> channel;  // the receiver has it too, and either may be the last
    uint64_t claimed = 0;                   // where what was sent ends in the ring at the other side
    uint64_t credit = 0;                    // up to where the other side has consumed it, checked
    bool is_announced = false;
    std::optional<Time> close_by{};
    std::vector<uint64_t> streams{};  // the counters as they were sent
  };
  struct Peer {
    std::shared_ptr<PeerState> state;  // shared with the receiver and the gate
    zmq::socket_t socket;              // none yet: see add_peer
    Outgoing<zmq::message_t> outgoing;
    std::vector<OutFrame> frames;
    std::vector<Relay> relays;
    size_t turn = 0;
    PeerState::News news;
    std::optional<Time> owes_ack_since;
    std::optional<Time> reopen_at;
  };
  struct Outbox {
    std::shared_ptr<PeerState> state;
    std::vector<OutFrame> frames;
  };

  void run();
  bool pass();
  void take_posted();
  void post(std::function<void()> work);
  void close_all();

  bool serve(Peer& peer);
  void take_news(Peer& peer);
  [[nodiscard]] static bool has_to_say(const Peer& peer);
  void connect(Peer& peer);
  bool send_frames(Peer& peer);
  bool serve_relays(Peer& peer);
  bool serve_relay(Peer& peer, Relay& relay);
  bool send_messages(Peer& peer, Relay& relay);
  void send_credit(Peer& peer, Relay& relay);
  void send_streams(Peer& peer, Relay& relay);
  bool has_credit(Relay& relay);
  bool is_over(Relay& relay);
  void end(Relay& relay, const std::string& why);
  void send_bare_if_due(Peer& peer, bool has_shipped);

  void add(Peer& peer, const Entry& entry);
  bool ship(Peer& peer);
  void ship_large(Peer& peer, const Entry& entry);
  void transmit(Peer& peer, zmq::message_t message, size_t occupied_bytes);
  [[nodiscard]] BatchHeader header(const Peer& peer, uint16_t flags) const;
  void look_again_in(Duration wait) { wait_ = std::min(wait_, wait); }

  const Options options_;
  Bell bell_;
  BufferPool& pool_;
  Inbox& inbox_;
  std::atomic<NodeNumber> own_{0};
  std::atomic<bool> is_stopping_{false};
  Counters counters_;

  std::mutex mutex_;  // guards the next two
  std::unordered_map<NodeNumber, Outbox> outboxes_;
  std::vector<std::function<void()>> posted_;
  std::atomic<bool> has_posted_{false};  // something was added to them

  // The thread's own.
  std::vector<std::unique_ptr<Peer>> peers_;
  BufferPool::Buffer buffer_;
  BatchWriter writer_;
  Time now_{};
  Duration wait_{};
  std::thread thread_;
};

}  // namespace manta::wire

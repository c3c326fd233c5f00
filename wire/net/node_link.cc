#include "wire/net/node_link.h"

#include "common/check.h"
#include "common/random.h"
#include "wire/net/access.h"
#include "wire/net/buffers.h"
#include "wire/net/endpoint.h"
#include "wire/net/gate.h"
#include "wire/net/inbox.h"
#include "wire/net/peer_state.h"
#include "wire/net/receiver.h"
#include "wire/net/sender.h"

#include <sys/stat.h>

#include <map>
#include <utility>

namespace manta::wire {
namespace {

constexpr int kReconnectMs = 100;
constexpr int kReconnectMaxMs = 2'000;
constexpr int kHandshakeMs = 5'000;
constexpr int kMaxSockets = 8'192;  // two a peer
constexpr int kReceiveBatches = 64;
constexpr size_t kCurveBytes = 256;  // more than encryption adds to a message

Status io_error(const std::string& what, const zmq::error_t& error) { return {Code::kIo, what + ": " + error.what()}; }

void set_keys(zmq::socket_t& socket, const LinkKeys& keys) {
  socket.set(zmq::sockopt::curve_publickey, keys.public_key);
  socket.set(zmq::sockopt::curve_secretkey, keys.secret_key);
}

Result<zmq::socket_t> listen(zmq::context_t& context, const Endpoint& endpoint, const LinkKeys& keys) {
  zmq::socket_t router(context, zmq::socket_type::router);
  router.set(zmq::sockopt::linger, 0);
  router.set(zmq::sockopt::ipv6, endpoint.is_ipv6);
  router.set(zmq::sockopt::rcvhwm, kReceiveBatches);
  router.set(zmq::sockopt::sndhwm, kReceiveBatches);
  router.set(zmq::sockopt::router_mandatory, true);
  router.set(zmq::sockopt::maxmsgsize, static_cast<int64_t>(kMaxBatchBytes + kCurveBytes));
  router.set(zmq::sockopt::handshake_ivl, kHandshakeMs);
  if (keys.are_given()) {
    router.set(zmq::sockopt::curve_server, true);
    set_keys(router, keys);
    router.set(zmq::sockopt::zap_domain, "manta");
  }
  try {
    router.bind(endpoint.text());
  } catch (const zmq::error_t& error) {
    return io_error("listening on " + endpoint.text(), error);
  }
  return router;
}

}  // namespace

struct NodeLink::State {
  NodeLinkOptions options;
  std::string endpoint;
  BufferPool buffers;  // outlives the context
  Signal room;
  zmq::context_t context;
  Access access;
  std::unique_ptr<Inbox> inbox;
  std::atomic<uint64_t> monitors{0};

  std::mutex mutex;                                        // guards the next two
  std::map<NodeNumber, std::shared_ptr<PeerState>> peers;  // shared with the threads
  std::map<std::pair<dev_t, ino_t>, std::weak_ptr<LocalBell>> bells;

  std::unique_ptr<Gate> gate;
  std::unique_ptr<Receiver> receiver;
  std::unique_ptr<Sender> sender;

  explicit State(NodeLinkOptions given) : options(std::move(given)), access(options.keys.are_given()) {}
  /// Each thread may wake the others: all of them end before any of them goes.
  ~State() {
    if (receiver) receiver->stop();
    if (sender) sender->stop();
    if (gate) gate->stop();
  }

  Status start();
  Result<zmq::socket_t> connect(const std::shared_ptr<PeerState>& peer);
  Result<std::shared_ptr<LocalBell>> bell_of(const Fd& fd);
};

Status NodeLink::State::start() {
  MANTA_RETURN_IF_ERROR(check_keys(options.keys));
  MANTA_ASSIGN_OR_RETURN(Endpoint wanted, parse_endpoint(options.listen));
  if (!options.keys.are_given() && !wanted.is_loopback()) {
    return {Code::kInvalid, "without keys a node listens on 127.0.0.1 or [::1] only, not on " + options.listen};
  }
  MANTA_ASSIGN_OR_RETURN(Bell bell, Bell::create(Bell::Lines::kOne));
  MANTA_ASSIGN_OR_RETURN(room, Signal::create());
  MANTA_ASSIGN_OR_RETURN(Signal events, Signal::create());
  MANTA_ASSIGN_OR_RETURN(Signal gate_wake, Signal::create());
  context.set(zmq::ctxopt::max_sockets, kMaxSockets);
  inbox = std::make_unique<Inbox>(options.max_inbox_bytes, std::move(events), room);
  gate = std::make_unique<Gate>(context, access, *inbox, std::move(gate_wake), [this] { sender->wake(); });
  MANTA_ASSIGN_OR_RETURN(zmq::socket_t router, listen(context, wanted, options.keys));
  MANTA_ASSIGN_OR_RETURN(Endpoint bound, parse_endpoint(router.get(zmq::sockopt::last_endpoint)));
  if (!options.advertise.empty()) {
    bound.host = options.advertise;
    bound.is_ipv6 = bound.host.find(':') != std::string::npos;
  }
  endpoint = bound.text();
  receiver = std::make_unique<Receiver>(Receiver::Options{.has_keys = options.keys.are_given(),
                                                          .max_outbox_bytes = options.max_outbox_bytes,
                                                          .wake_sender = [this] { sender->wake(); }},
                                        std::move(router), access, *inbox, room);
  sender = std::make_unique<Sender>(Sender::Options{.max_outbox_bytes = options.max_outbox_bytes,
                                                    .connect = [this](const auto& peer) { return connect(peer); },
                                                    .forget = [this](ChannelId id) { receiver->forget(id); }},
                                    std::move(bell), buffers, *inbox);
  gate->start();
  receiver->start();
  sender->start();
  return {};
}

Result<zmq::socket_t> NodeLink::State::connect(const std::shared_ptr<PeerState>& peer) {
  const LinkPeer& to = peer->peer;
  try {
    zmq::socket_t socket(context, zmq::socket_type::dealer);
    socket.set(zmq::sockopt::linger, 0);
    socket.set(zmq::sockopt::sndhwm, 0);  // what is not acknowledged is bounded, which is more
    socket.set(zmq::sockopt::ipv6, true);
    socket.set(zmq::sockopt::reconnect_ivl, kReconnectMs);
    socket.set(zmq::sockopt::reconnect_ivl_max, kReconnectMaxMs);
    socket.set(zmq::sockopt::handshake_ivl, kHandshakeMs);
    if (options.keys.are_given()) {
      set_keys(socket, to.as.are_given() ? to.as : options.keys);
      socket.set(zmq::sockopt::curve_serverkey, to.public_key);
    }
    const std::string address = "inproc://monitor-" + std::to_string(++monitors);
    if (zmq_socket_monitor(socket.handle(), address.c_str(), ZMQ_EVENT_ALL) != 0) throw zmq::error_t();
    zmq::socket_t monitor(context, zmq::socket_type::pair);
    monitor.set(zmq::sockopt::linger, 0);
    monitor.connect(address);
    gate->watch(peer, std::move(monitor));
    socket.connect(to.endpoint);
    return socket;
  } catch (const zmq::error_t& error) {
    return io_error("connecting to " + to.endpoint, error);
  }
}

Result<std::shared_ptr<LocalBell>> NodeLink::State::bell_of(const Fd& fd) {
  struct stat file {};
  if (::fstat(fd.get(), &file) != 0) return Status(Code::kIo, "the bell of a local process is no open file");
  std::lock_guard lock(mutex);
  std::weak_ptr<LocalBell>& known = bells[{file.st_dev, file.st_ino}];
  if (std::shared_ptr<LocalBell> bell = known.lock()) return bell;
  MANTA_ASSIGN_OR_RETURN(Bell bell, Bell::open(fd));
  auto opened = std::make_shared<LocalBell>();
  opened->bell = std::move(bell);
  known = opened;
  std::erase_if(bells, [](const auto& entry) { return entry.second.expired(); });
  return opened;
}

NodeLink::NodeLink(std::unique_ptr<State> state) : state_(std::move(state)) {}
NodeLink::~NodeLink() = default;

Result<std::unique_ptr<NodeLink>> NodeLink::start(NodeLinkOptions options) {
  try {
    auto state = std::make_unique<State>(std::move(options));
    MANTA_RETURN_IF_ERROR(state->start());
    return std::unique_ptr<NodeLink>(new NodeLink(std::move(state)));
  } catch (const zmq::error_t& error) {
    return io_error("starting a node's endpoint", error);
  }
}

std::string NodeLink::endpoint() const { return state_->endpoint; }
void NodeLink::set_number(NodeNumber own) { state_->sender->set_number(own); }

Status NodeLink::add_peer(LinkPeer peer) {
  const bool has_keys = state_->options.keys.are_given();
  MANTA_RETURN_IF_ERROR(parse_endpoint(peer.endpoint).status());
  MANTA_RETURN_IF_ERROR(check_keys(peer.as));
  if (peer.number == 0 || peer.number > kMaxNodeNumber)
    return {Code::kInvalid, std::to_string(peer.number) + " is no node's number"};
  if (has_keys != is_key(peer.public_key) || (!has_keys && (!peer.public_key.empty() || peer.as.are_given()))) {
    return {Code::kInvalid, "node " + std::to_string(peer.number) + " and this link must both have keys, or neither"};
  }
  auto added = std::make_shared<PeerState>(std::move(peer), random_id());
  const NodeNumber number = added->peer.number;
  std::lock_guard lock(state_->mutex);
  if (state_->peers.contains(number)) return {Code::kExists, "node " + std::to_string(number) + " is a peer already"};
  state_->peers[number] = added;
  state_->receiver->add_peer(added);
  state_->sender->add_peer(added);
  return {};
}

void NodeLink::remove_peer(NodeNumber number) {
  std::lock_guard lock(state_->mutex);
  if (state_->peers.erase(number) == 0) return;
  state_->receiver->remove_peer(number);
  state_->sender->remove_peer(number);
}

void NodeLink::allow(const std::string& public_key, LinkRole role) { state_->access.allow(public_key, role); }
void NodeLink::revoke(const std::string& public_key) { state_->access.revoke(public_key); }

Status NodeLink::send_frame(NodeNumber to, NodeType type, std::string body) {
  return state_->sender->send_frame(to, type, std::move(body));
}
Status NodeLink::answer(const std::string& reply_to, NodeType type, std::string body) {
  return state_->receiver->answer(reply_to, type, std::move(body));
}
std::vector<LinkEvent> NodeLink::receive() { return state_->inbox->take(); }
int NodeLink::wake_fd() const { return state_->inbox->fd(); }

std::vector<std::pair<NodeNumber, Time>> NodeLink::heard() const {
  std::vector<std::pair<NodeNumber, Time>> heard;
  std::lock_guard lock(state_->mutex);
  for (const auto& [number, peer] : state_->peers)
    if (const Time at = peer->heard_at.load(std::memory_order_relaxed); at != Time()) heard.emplace_back(number, at);
  return heard;
}

Status NodeLink::open_channel(ChannelId id, NodeNumber peer, Channel::Side side, const Fd& channel_file,
                              const Fd& local_bell) {
  if (!id) return {Code::kInvalid, "a channel without an id"};
  MANTA_ASSIGN_OR_RETURN(std::unique_ptr<Channel> channel, Channel::open(channel_file, side));
  MANTA_ASSIGN_OR_RETURN(std::shared_ptr<LocalBell> bell, state_->bell_of(local_bell));
  auto relayed = std::make_shared<RelayChannel>(id, peer, side, std::move(channel), std::move(bell));
  MANTA_RETURN_IF_ERROR(state_->receiver->open(relayed));
  state_->sender->open(std::move(relayed));
  return {};
}

void NodeLink::close_channel(ChannelId id) {
  if (state_->receiver->close(id)) state_->sender->close(id);
}
const Fd& NodeLink::bell_fd() const { return state_->sender->bell_fd(); }

LinkStats NodeLink::stats() const {
  const Sender::Counters& sent = state_->sender->counters();
  const Receiver::Counters& received = state_->receiver->counters();
  return {.batches_sent = sent.batches,
          .bytes_sent = sent.bytes,
          .batches_resent = sent.resent,
          .batches_received = received.batches,
          .batches_refused = received.refused};
}

}  // namespace manta::wire

#include "wire/net/gate.h"

#include "common/log.h"
#include "wire/net/endpoint.h"
#include "wire/net/thread.h"

#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

namespace manta::wire {
namespace {

constexpr auto kPollFor = std::chrono::seconds(1);
constexpr int kAskMachineMs = 100;
constexpr size_t kKeyBytes = 32;
constexpr int kRequestParts = 7;  // version, request, domain, address, identity, mechanism, credentials: the client's key

std::string_view text_of(const zmq::message_t& message) { return {message.data<char>(), message.size()}; }

/// ZeroMQ does not say why it could not connect, so somebody else tries: a refusal comes from the machine itself, which
/// knows that the process is gone. False when that is not known within a tenth of a second.
bool is_refused(const std::string& where) {
  const Result<Endpoint> endpoint = parse_endpoint(where);
  if (!endpoint.ok()) return false;
  addrinfo hints{};
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (::getaddrinfo(endpoint->host.c_str(), endpoint->port.c_str(), &hints, &found) != 0) return false;
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> address(found, ::freeaddrinfo);
  const Fd socket(::socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!socket) return false;
  if (::connect(socket.get(), address->ai_addr, address->ai_addrlen) == 0) return false;
  if (errno != EINPROGRESS) return errno == ECONNREFUSED;
  pollfd waiting{socket.get(), POLLOUT, 0};
  if (::poll(&waiting, 1, kAskMachineMs) != 1) return false;
  int error = 0;
  socklen_t size = sizeof error;
  return ::getsockopt(socket.get(), SOL_SOCKET, SO_ERROR, &error, &size) == 0 && error == ECONNREFUSED;
}

}  // namespace

std::string key_of_question(std::span<const std::string_view> parts) {
  if (parts.size() != kRequestParts || parts[5] != "CURVE" || parts[6].size() != kKeyBytes) return {};
  std::array<char, kKeyCharacters + 1> text{};
  const auto* const bytes = reinterpret_cast<const uint8_t*>(parts[6].data());
  return zmq_z85_encode(text.data(), bytes, kKeyBytes) == nullptr ? "" : text.data();
}

Gate::Gate(zmq::context_t& context, Access& access, Inbox& inbox, Signal wake, std::function<void()> wake_sender)
    : access_(access),
      inbox_(inbox),
      wake_(std::move(wake)),
      wake_sender_(std::move(wake_sender)),
      questions_(context, zmq::socket_type::rep) {
  questions_.set(zmq::sockopt::linger, 0);
  questions_.bind("inproc://zeromq.zap.01");
}

Gate::~Gate() { stop(); }

void Gate::stop() {
  is_stopping_ = true;
  wake_.raise();
  if (thread_.joinable()) thread_.join();
}

void Gate::start() {
  thread_ = start_thread("link-gate", [this] { run(); });
}

void Gate::watch(std::shared_ptr<PeerState> peer, zmq::socket_t monitor) {
  {
    std::lock_guard lock(mutex_);
    added_.push_back({std::move(peer), std::move(monitor)});
  }
  wake_.raise();
}

void Gate::run() {
  while (!is_stopping_) {
    {
      std::lock_guard lock(mutex_);
      for (Watch& watch : added_) watches_.push_back(std::move(watch));
      added_.clear();
    }
    std::vector<zmq::pollitem_t> items{{nullptr, wake_.fd(), ZMQ_POLLIN, 0}, {questions_.handle(), 0, ZMQ_POLLIN, 0}};
    for (Watch& watch : watches_) items.push_back({watch.monitor.handle(), 0, ZMQ_POLLIN, 0});
    zmq::poll(items, kPollFor);
    if (items[0].revents != 0) wake_.clear();
    if (items[1].revents != 0) answer();
    for (size_t i = 0; i < watches_.size(); ++i)
      if (items[i + 2].revents != 0) on_monitor(watches_[i]);
    std::erase_if(watches_, [](const Watch& watch) { return watch.is_over; });
  }
  questions_.close();
  watches_.clear();
}

/// One question of ZAP, RFC 27.
void Gate::answer() {
  std::array<zmq::message_t, kRequestParts> parts;
  size_t count = 0;
  bool more = true;
  while (more) {
    zmq::message_t part;
    if (!questions_.recv(part, zmq::recv_flags::dontwait)) return;
    more = part.more();
    if (count < parts.size()) parts[count] = std::move(part);
    ++count;
  }
  std::array<std::string_view, kRequestParts> texts;
  std::ranges::transform(parts, texts.begin(), text_of);
  const std::string key = count == kRequestParts ? key_of_question(texts) : "";
  const bool is_welcome = !key.empty() && access_.role_of(key) && !access_.is_banned(key, Clock::real().now());
  const std::array<std::string, 6> reply{std::string(texts[0]),      std::string(texts[1]),
                                         is_welcome ? "200" : "400", is_welcome ? "" : "this key is not allowed here",
                                         is_welcome ? key : "",      ""};
  for (size_t i = 0; i < reply.size(); ++i)
    questions_.send(zmq::buffer(reply[i]), i + 1 < reply.size() ? zmq::send_flags::sndmore : zmq::send_flags::none);
}

void Gate::on_monitor(Watch& watch) {
  while (!watch.is_over) {
    zmq::message_t event;
    zmq::message_t address;
    if (!watch.monitor.recv(event, zmq::recv_flags::dontwait)) return;
    if (event.more()) (void)watch.monitor.recv(address, zmq::recv_flags::none);
    uint16_t number = 0;
    if (event.size() < sizeof number) continue;
    std::memcpy(&number, event.data(), sizeof number);
    on_event(watch, number);
  }
}

void Gate::on_event(Watch& watch, uint16_t event) {
  const std::string where = "the connection to " + watch.peer->peer.endpoint;
  switch (event) {
    case ZMQ_EVENT_HANDSHAKE_SUCCEEDED:
      watch.is_connected = true;
      watch.has_told = false;
      watch.questions_left = Watch::kQuestions;
      watch.peer->update([](PeerState::News& news) { news.must_greet = true; });
      wake_sender_();
      inbox_.put({.what = LinkEvent::What::kConnected, .from = watch.peer->peer.number});
      return;
    case ZMQ_EVENT_DISCONNECTED:
      if (std::exchange(watch.is_connected, false)) watch.has_told = false;
      return tell_lost(watch, Status(Code::kUnavailable, where + " ended"));
    case ZMQ_EVENT_CLOSED:
      if (watch.questions_left == 0) return;
      if (!is_refused(watch.peer->peer.endpoint)) {
        --watch.questions_left;
        return tell_lost(watch, Status(Code::kUnavailable, where + " cannot be made"));
      }
      watch.questions_left = 0;
      watch.has_told = false;
      return tell_lost(watch, Status(Code::kDied, where + " is refused: nobody listens there"));
    case ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL:
      return tell_lost(watch, Status(Code::kUnavailable, where + " ended before both knew each other"));
    case ZMQ_EVENT_HANDSHAKE_FAILED_AUTH:
      reopen(watch);
      return tell_lost(watch, Status(Code::kUnavailable, where + " is refused: this node's key is not allowed there"));
    case ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL:
      reopen(watch);
      return tell_lost(watch, Status(Code::kInvalid, where + " failed: what answers there is no node of this cluster"));
    case ZMQ_EVENT_MONITOR_STOPPED: watch.is_over = true; return;
    default: return;
  }
}

/// ZeroMQ gives such a connection up for good; the other side may change its mind.
void Gate::reopen(Watch& watch) {
  watch.peer->update([](PeerState::News& news) { news.must_reopen = true; });
  wake_sender_();
}

void Gate::tell_lost(Watch& watch, Status why) {
  if (std::exchange(watch.has_told, true)) return;
  inbox_.put({.what = LinkEvent::What::kLost, .from = watch.peer->peer.number, .why = std::move(why)});
}

}  // namespace manta::wire

#include "wire/net/visitor_line.h"

#include "common/check.h"
#include "common/random.h"
#include "wire/cluster.h"
#include "wire/net/batch.h"
#include "wire/net/endpoint.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <zmq.hpp>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <deque>

namespace manta::wire {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kHandshakeMs = 5'000;
constexpr int kLingerMs = 200;
constexpr size_t kCurveBytes = 256;  // more than encryption adds to a message

class LocalLine final : public VisitorLine {
 public:
  explicit LocalLine(Fd socket) : connection_(std::move(socket)) {}
  Status send_frame(Type type, std::string_view body) override { return connection_.send_frame(type, body); }
  Result<Frame> receive_one(std::chrono::milliseconds timeout) override { return connection_.receive_one(timeout); }

 private:
  Connection connection_;
};

class HeadLine final : public VisitorLine {
 public:
  explicit HeadLine(const HeadAddress& head)
      : endpoint_(head.endpoint),
        socket_(context_, zmq::socket_type::dealer),
        monitor_(context_, zmq::socket_type::pair),
        stream_(random_id()) {
    socket_.set(zmq::sockopt::linger, kLingerMs);
    socket_.set(zmq::sockopt::ipv6, true);
    socket_.set(zmq::sockopt::handshake_ivl, kHandshakeMs);
    socket_.set(zmq::sockopt::maxmsgsize, static_cast<int64_t>(kMaxBatchBytes + kCurveBytes));
    if (head.keys.are_given()) {
      socket_.set(zmq::sockopt::curve_publickey, head.keys.public_key);
      socket_.set(zmq::sockopt::curve_secretkey, head.keys.secret_key);
      socket_.set(zmq::sockopt::curve_serverkey, head.public_key);
    }
    if (zmq_socket_monitor(socket_.handle(), "inproc://line", ZMQ_EVENT_ALL) != 0) throw zmq::error_t();
    monitor_.set(zmq::sockopt::linger, 0);
    monitor_.connect("inproc://line");
    socket_.connect(head.endpoint);
  }
  ~HeadLine() override {
    // The monitor's events have nobody to go to once the sockets close, in either order.
    zmq_socket_monitor(socket_.handle(), nullptr, 0);
  }

  Status send_frame(Type type, std::string_view body) override {
    return send_visitor_frame({.type = static_cast<uint16_t>(type), .body = std::string(body)});
  }

  Result<Frame> receive_one(std::chrono::milliseconds timeout) override {
    const auto deadline = Clock::now() + timeout;
    while (true) {
      if (!arrived_.empty()) {
        Frame frame = std::move(arrived_.front());
        arrived_.pop_front();
        return frame;
      }
      const auto now = Clock::now();
      if (now >= deadline) return Status(Code::kTimeout, "no answer from " + endpoint_ + (why_.empty() ? "" : ": " + why_));
      if (now - last_sent_ >= kStillThere) MANTA_RETURN_IF_ERROR(send_visitor_frame({}));
      zmq::pollitem_t items[] = {{socket_.handle(), 0, ZMQ_POLLIN, 0}, {monitor_.handle(), 0, ZMQ_POLLIN, 0}};
      const auto wait = std::min<Clock::duration>(deadline - now, last_sent_ + kStillThere - now);
      try {
        zmq::poll(items, 2, std::chrono::ceil<std::chrono::milliseconds>(wait));
      } catch (const zmq::error_t& error) {
        if (error.num() != EINTR) return Status(Code::kIo, std::string("waiting for the head: ") + error.what());
        continue;
      }
      if (items[0].revents != 0) MANTA_RETURN_IF_ERROR(take_batch());
      if (items[1].revents != 0) MANTA_RETURN_IF_ERROR(take_event());
    }
  }

 private:
  Status send_visitor_frame(const VisitorFrame& message) {
    const std::string body = encode(message);
    if (body.size() > kMaxFrameBytes) return Status(Code::kInvalid, "a message is too large");
    zmq::message_t batch(kBatchHeaderBytes + kEntryHeaderBytes + body.size());
    BatchWriter writer({batch.data<std::byte>(), batch.size()});
    writer.add({EntryWhat::kFrame, static_cast<uint16_t>(VisitorFrame::kType), {}, std::as_bytes(std::span(body))});
    writer.finish({.flags = 0, .from = 0, .stream = stream_, .sequence = ++sequence_, .ack_stream = 0, .ack = 0});
    last_sent_ = Clock::now();
    if (socket_.send(batch, zmq::send_flags::dontwait)) return {};
    return Status(Code::kUnavailable, "the head at " + endpoint_ + " takes no more messages");
  }

  Status take_batch() {
    zmq::message_t batch;
    if (!socket_.recv(batch, zmq::recv_flags::dontwait)) return {};
    MANTA_ASSIGN_OR_RETURN(BatchReader reader, BatchReader::open({batch.data<const std::byte>(), batch.size()}));
    for (Entry entry; reader.next(entry);) {
      if (entry.what != EntryWhat::kFrame || entry.kind != static_cast<uint16_t>(VisitorFrame::kType)) continue;
      MANTA_ASSIGN_OR_RETURN(VisitorFrame message,
                             decode<VisitorFrame>({reinterpret_cast<const char*>(entry.body.data()), entry.body.size()}));
      Frame frame;
      frame.type = static_cast<Type>(message.type);
      frame.body = std::move(message.body);
      arrived_.push_back(std::move(frame));
    }
    return {};
  }

  /// Errors are what no waiting mends.
  Status take_event() {
    zmq::message_t event;
    zmq::message_t address;
    if (!monitor_.recv(event, zmq::recv_flags::dontwait)) return {};
    if (event.more()) (void)monitor_.recv(address, zmq::recv_flags::none);
    uint16_t number = 0;
    if (event.size() < sizeof number) return {};
    std::memcpy(&number, event.data(), sizeof number);
    switch (number) {
      case ZMQ_EVENT_HANDSHAKE_FAILED_AUTH:
        return Status(Code::kInvalid,
                      "the head at " + endpoint_ + " does not let this key in: it was revoked or never known");
      case ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL:
        return Status(Code::kInvalid,
                      "what answers at " + endpoint_ + " is not the head that this key was made for, or it needs keys");
      case ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL: why_ = "the connection ended before both knew each other"; break;
      case ZMQ_EVENT_DISCONNECTED:
        return Status(Code::kUnavailable, "the connection to the head at " + endpoint_ + " ended");
      case ZMQ_EVENT_CLOSED: why_ = "nobody listens there"; break;
      case ZMQ_EVENT_HANDSHAKE_SUCCEEDED: why_.clear(); break;
      default: break;
    }
    return {};
  }

  const std::string endpoint_;
  zmq::context_t context_;
  zmq::socket_t socket_;
  zmq::socket_t monitor_;
  const uint64_t stream_;
  uint64_t sequence_ = 0;
  Clock::time_point last_sent_ = Clock::now();
  std::string why_;
  std::deque<Frame> arrived_;
};

}  // namespace

Result<std::unique_ptr<VisitorLine>> visit_local(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return Status(Code::kInvalid, "the path of a socket is too long: " + path);
  std::memcpy(address.sun_path, path.data(), path.size());
  Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket) return Status(Code::kIo, std::string("socket: ") + std::strerror(errno));
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return Status(Code::kUnavailable, "no mantad answers at " + path + ": " + std::strerror(errno));
  return std::unique_ptr<VisitorLine>(std::make_unique<LocalLine>(std::move(socket)));
}

Result<std::unique_ptr<VisitorLine>> visit_head(const HeadAddress& head) {
  MANTA_RETURN_IF_ERROR(parse_endpoint(head.endpoint).status());
  MANTA_RETURN_IF_ERROR(check_keys(head.keys));
  if (head.keys.are_given() != is_key(head.public_key))
    return Status(Code::kInvalid, "who has keys must know the key of the head, and only then");
  try {
    return std::unique_ptr<VisitorLine>(std::make_unique<HeadLine>(head));
  } catch (const zmq::error_t& error) {
    return Status(Code::kIo, "connecting to " + head.endpoint + ": " + error.what());
  }
}

}  // namespace manta::wire

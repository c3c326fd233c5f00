#include "object_store/transfer/bulk_server.h"

#include "common/check.h"
#include "common/log.h"
#include "object_store/transfer/bulk_replies.h"
#include "object_store/transfer/tls.h"

#include <poll.h>
#include <sys/socket.h>

namespace manta::object_store {
namespace {

constexpr auto kOpenWithin = std::chrono::seconds(10);

}  // namespace

Result<std::unique_ptr<BulkServer>> BulkServer::start(const Options& options, BulkSource& source, const Peers& peers) {
  Fd listener(options.listener_fd);
  if (!listener) {
    MANTA_ASSIGN_OR_RETURN(const Endpoint endpoint, parse_endpoint(options.listen));
    MANTA_ASSIGN_OR_RETURN(listener, Stream::listen_on(endpoint));
  }
  if (options.tls == nullptr && !Stream::is_loopback(listener))
    return Status(Code::kInvalid, "objects are not served in the clear on " + options.listen + ": it is not loopback");
  MANTA_ASSIGN_OR_RETURN(std::string bound, Stream::endpoint_of(listener));
  MANTA_ASSIGN_OR_RETURN(Wake stop, Wake::create());
  std::unique_ptr<BulkServer> server(new BulkServer(options, source, peers, std::move(listener), std::move(stop)));
  server->endpoint_ = std::move(bound);
  server->acceptor_ = std::thread([self = server.get()] { self->accept_all(); });
  return server;
}

BulkServer::BulkServer(const Options& options, BulkSource& source, const Peers& peers, Fd listener, Wake stop)
    : options_(options), source_(source), peers_(peers), listener_(std::move(listener)), stop_(std::move(stop)) {}

BulkServer::~BulkServer() {
  stop_.ring();
  acceptor_.join();
  for (Connection& connection : connections_) connection.stream->interrupt();
  for (Connection& connection : connections_) connection.thread.join();
}

void BulkServer::hang_up(wire::NodeNumber node) {
  std::lock_guard lock(mutex_);
  for (Connection& connection : connections_) {
    if (connection.peer == node && !connection.has_ended) connection.stream->interrupt();
  }
}

void BulkServer::accept_all() {
  while (true) {
    pollfd waits[2] = {{listener_.get(), POLLIN, 0}, {stop_.fd(), POLLIN, 0}};
    if (::poll(waits, 2, -1) < 0 && errno != EINTR) return;
    if (waits[1].revents != 0) return;
    if (waits[0].revents == 0) continue;
    Fd socket(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (socket) {
      accepted(std::move(socket));
    } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
      // The connection stays in the backlog; what is short now may be there in a moment.
      pollfd wait{stop_.fd(), POLLIN, 0};
      (void)::poll(&wait, 1, 100);
    }
  }
}

void BulkServer::accepted(Fd socket) {
  std::lock_guard lock(mutex_);
  std::erase_if(connections_, [](Connection& connection) {
    if (connection.has_ended) connection.thread.join();
    return connection.has_ended;
  });
  if (connections_.size() >= options_.max_connections) return;
  Connection& connection = connections_.emplace_back();
  connection.stream = std::make_unique<Stream>(std::move(socket));
  connection.thread = std::thread([this, &connection] { serve(connection); });
}

void BulkServer::serve(Connection& connection) {
  Status status = open(connection);
  if (status.ok()) {
    BulkReplies replies(*connection.stream, source_, connection.peer, {options_.idle_for, options_.stalled_for});
    status = replies.run();
  }
  if (status.code() == Code::kInvalid)
    MANTA_LOG(kWarn, "bulk", "a connection was closed", {"peer", connection.peer}, {"why", status.message()});
  std::lock_guard lock(mutex_);
  connection.stream->interrupt();  // the peer hears of it now; the descriptor goes when the thread is joined
  connection.has_ended = true;
}

Status BulkServer::open(Connection& connection) {
  Stream& stream = *connection.stream;
  const Time deadline = Clock::real().now() + kOpenWithin;
  if (options_.tls != nullptr) {
    MANTA_RETURN_IF_ERROR(stream.start_tls(options_.tls->server(), Stream::Side::kServer, deadline));
  }
  BulkOpening opening;
  MANTA_RETURN_IF_ERROR(stream.read_all(std::as_writable_bytes(std::span(&opening, 1)), deadline));
  MANTA_RETURN_IF_ERROR(check_opening(opening, options_.node, 0));
  if (!peers_.is_allowed(opening.node, stream.peer_fingerprint()))
    return Status(Code::kUnavailable, "node " + std::to_string(opening.node) + " is not allowed here");
  {
    std::lock_guard lock(mutex_);
    connection.peer = opening.node;
  }
  // It may have been revoked between the two, when hang_up did not find it.
  if (!peers_.is_allowed(opening.node, stream.peer_fingerprint())) return Status(Code::kUnavailable, "it was revoked");
  opening = {.node = options_.node, .peer = opening.node};
  return stream.write_all(std::as_bytes(std::span(&opening, 1)), deadline);
}

}  // namespace manta::object_store

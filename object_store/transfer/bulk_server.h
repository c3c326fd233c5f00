// Serves this node's objects to other nodes: a listener, and a thread for each connection. Each request is read by way of an
// ordinary reader of the store (pin, send, unpin), so what was spilled is restored first, and what was freed is said to be
// lost.
//
// A peer that breaks the protocol, is not allowed or does not take what it asked for loses its connection, and nothing else
// happens. Connections beyond the limit are closed at once; a puller tries again.
//
// Thread safety: one thread's (the loop's); what it starts is its own. Close the LocalReader and the BulkClient before this
// is destroyed: a thread may be waiting in it.
#pragma once

#include "object_store/transfer/bulk_source.h"
#include "object_store/transfer/peers.h"
#include "object_store/transfer/stream.h"

#include <chrono>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

namespace manta::object_store {

class TlsContext;

class BulkServer {
 public:
  struct Options {
    wire::NodeNumber node = 0;
    std::string listen = "127.0.0.1:0";  ///< host:port; port 0 takes any.
    int listener_fd = -1;                ///< A socket that listens already, taken over; then not `listen`.
    const TlsContext* tls = nullptr;     ///< None: in the clear, and only on loopback.
    size_t max_connections = 256;
    std::chrono::milliseconds idle_for = std::chrono::seconds(60);     ///< A connection that asks for nothing is closed.
    std::chrono::milliseconds stalled_for = std::chrono::seconds(10);  ///< So is one that takes nothing.
  };

  /// kInvalid without TLS on an address that others can reach; kIo when the address cannot be had.
  [[nodiscard]] static Result<std::unique_ptr<BulkServer>> start(const Options& options, BulkSource& source,
                                                                 const Peers& peers);
  ~BulkServer();

  /// Where it listens, as host:port.
  [[nodiscard]] const std::string& endpoint() const { return endpoint_; }
  /// Ends the connections of a node that is not allowed any more.
  void hang_up(wire::NodeNumber node);

 private:
  struct Connection {
    std::unique_ptr<Stream> stream;
    wire::NodeNumber peer = 0;  // 0: not known yet
    bool has_ended = false;
    std::thread thread;
  };

  BulkServer(const Options& options, BulkSource& source, const Peers& peers, Fd listener, Wake stop);
  void accept_all();
  void accepted(Fd socket);
  void serve(Connection& connection);
  [[nodiscard]] Status open(Connection& connection);

  Options options_;
  BulkSource& source_;
  const Peers& peers_;
  Fd listener_;
  Wake stop_;
  std::string endpoint_;
  std::mutex mutex_;  // of what follows
  std::list<Connection> connections_;
  std::thread acceptor_;
};

}  // namespace manta::object_store

// Objects between nodes, as mantad has it: a server for what is here, a client for what is elsewhere, and the store's own
// reader between them, all behind one descriptor for the event loop.
//
//   auto transfer = Transfer::start(*store, {.node = 2, .reader = id, .forward = ..., .tell = ...}).value();
//   loop.add(transfer->wake_fd(), [&] { transfer->on_wake(); });
//   transfer->node_joined(3, {.endpoint = "10.0.0.3:4711", .fingerprint = "ab.."});     // endpoint and certificate of
//   NodeInfo transfer->node_lost(3, why);                                                        // also tells the store
//
// Thread safety: one thread's, the loop's, which is the store's. Destroy it before the store.
#pragma once

#include "object_store/transfer/bulk_client.h"
#include "object_store/transfer/bulk_server.h"
#include "object_store/transfer/tls.h"

#include <functional>
#include <memory>
#include <string>

namespace manta::object_store {

class Transfer {
 public:
  struct Options {
    wire::NodeNumber node = 0;  ///< That of the store.
    ProcessId reader = {};      ///< A ProcessId of its own for the store's reader.
    std::string listen = "127.0.0.1:0";
    int listener_fd = -1;  ///< See BulkServer::Options.
    /// PEM; empty: in the clear, on loopback only.
    std::string certificate = {}, key = {};
    size_t streams_per_node = 2;
    /// See StoreServer::Beyond.
    std::function<void(wire::NodeNumber node, ProcessId from, wire::Type type, std::string body)> forward = {};
    std::function<void(wire::NodeNumber node, const wire::StoreWord& word)> tell = {};
    std::function<void(ProcessId to, wire::Type type, const std::string& body)> deliver = {};
  };

  [[nodiscard]] static Result<std::unique_ptr<Transfer>> start(StoreServer& store, Options options);
  ~Transfer();

  /// host:port where it serves.
  [[nodiscard]] const std::string& endpoint() const { return server_->endpoint(); }
  [[nodiscard]] int wake_fd() const { return wake_.fd(); }
  void on_wake();

  /// Bytes of this node's objects that were sent to others.
  [[nodiscard]] uint64_t served_bytes() const { return source_->served_bytes(); }

  /// `ids_from`: see NodeInfo; of one that may have been lost and is there again.
  void node_joined(wire::NodeNumber node, Peers::Peer peer, uint64_t ids_from = 0);
  void node_lost(wire::NodeNumber node, const Status& cause);

 private:
  Transfer(StoreServer& store, Wake wake) : store_(store), wake_(std::move(wake)) {}

  StoreServer& store_;
  Wake wake_;
  Peers peers_;
  std::unique_ptr<TlsContext> tls_;
  std::unique_ptr<LocalReader> reader_;
  std::unique_ptr<BulkClient> client_;
  std::unique_ptr<BulkSource> source_;
  std::unique_ptr<BulkServer> server_;
};

}  // namespace manta::object_store

// Pulls objects from other nodes: a few streams to each node that something is wanted of, each a connection and a thread.
//
//   BulkClient client({.node = 2}, peers, wake);
//   client.start(std::move(pull));                        // never blocks
//   for (auto& [name, status] : client.take_done()) ...   // when `wake` was rung
//
// A stream keeps several requests under way, so that a node is never idle between two, and small objects need no round trip
// each. When a connection breaks, what had not arrived is asked for again over a new one, until the deadline of the pull.
// What arrives with a wrong checksum is asked for again, three times in all.
//
// Thread safety: start, lose and take_done may be called by any thread. close is for one of them.
#pragma once

#include "object_store/transfer/peers.h"
#include "object_store/transfer/stream.h"
#include "object_store/transfer/transfer_queue.h"

#include <atomic>
#include <list>
#include <memory>
#include <thread>
#include <vector>

namespace manta::object_store {

class TlsContext;

class BulkClient {
 public:
  struct Options {
    wire::NodeNumber node = 0;
    size_t streams_per_node = 2;
    const TlsContext* tls = nullptr;  ///< None: in the clear.
  };

  BulkClient(const Options& options, const Peers& peers, const Wake& wake);
  ~BulkClient();
  /// Ends everything under way: what is not done fails, and so does what is started later.
  void close();

  void start(StoreServer::Pull pull);
  /// What was to come from it fails with kLost; its connections end.
  void lose(wire::NodeNumber node, const Status& cause);
  /// One that was lost is there again.
  void find_again(wire::NodeNumber node) { queue_.find_again(node); }
  [[nodiscard]] std::vector<TransferQueue::Done> take_done() { return queue_.take_done(); }
  /// What is under way, for who serves it on.
  [[nodiscard]] TransferQueue& queue() { return queue_; }

 private:
  struct Worker;
  void start_streams();
  void run(Worker& worker);
  [[nodiscard]] Status connect(Worker& worker);

  Options options_;
  const Peers& peers_;
  TransferQueue queue_;
  std::mutex mutex_;  // of what follows
  bool closing_ = false;
  std::list<std::unique_ptr<Worker>> workers_;
};

}  // namespace manta::object_store

// For tests: nodes with stores and bulk transfer between them, over real sockets. What the raylets' links would carry is
// handed from one server's thread to the other's.
#pragma once

#include "object_store/test_node.h"
#include "object_store/transfer/transfer.h"

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <string>

namespace manta::object_store {

class TestCluster {
 public:
  struct NodeOptions {
    uint64_t capacity_bytes = uint64_t{64} << 20;
    uint64_t spill_bytes = 0;
    size_t streams = 2;
    std::string certificate = {}, key = {}, fingerprint = {};  ///< Of all nodes or of none.
  };

  ~TestCluster();

  /// Starts one; all know each other.
  TestNode& add(wire::NodeNumber number, const NodeOptions& options);
  [[nodiscard]] TestNode& node(wire::NodeNumber number) { return *members_.at(number).node; }
  /// Its bulk transfer ends, with every connection; then, as after a restart of the process, another begins elsewhere.
  void stop_transfer(wire::NodeNumber number);
  void start_transfer(wire::NodeNumber number);
  /// It is gone, and the others are told so.
  void lose(wire::NodeNumber number);
  /// Where the others think that it listens: a proxy of the test. Before they first connect.
  void pretend_endpoint(wire::NodeNumber number, const std::string& endpoint);
  /// `number` lets a peer in that is no node of the cluster.
  void pretend_peer(wire::NodeNumber number, wire::NodeNumber peer) { members_.at(number).transfer->node_joined(peer, {}); }
  [[nodiscard]] std::string endpoint(wire::NodeNumber number);
  [[nodiscard]] uint64_t served_bytes(wire::NodeNumber number) const { return members_.at(number).transfer->served_bytes(); }

 private:
  struct Member {
    NodeOptions options;
    std::unique_ptr<TestNode> node;
    std::unique_ptr<Transfer> transfer;
    std::atomic<bool> may_hear{false};  // there is a transfer; the other nodes' threads look
    std::string endpoint;
  };
  void introduce(wire::NodeNumber number);

  std::map<wire::NodeNumber, Member> members_;
};

}  // namespace manta::object_store

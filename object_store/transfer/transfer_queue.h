// What is to be pulled: objects, cut into parts of at most 4 MiB, in line before the nodes that have them. The state that
// the streams of a BulkClient share.
//
//   add -> waiting before a node -> taken by a stream -> arrived --- all have ---> done: ok
//               ^                        |
//               +--- put_back, damaged (at most 3 times), elsewhere ; fail, lose, expire ---> done: why
//
// A pull is done once, and not before no stream writes into its memory any more.
// Thread safety: everything, behind one lock.
#pragma once

#include "object_store/store_server.h"
#include "object_store/transfer/protocol.h"
#include "object_store/transfer/wake.h"

#include <array>
#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

namespace manta::object_store {

class TransferQueue {
 public:
  struct Pulling;
  /// A part of an object. Shared: parts of one pull are in many hands.
  struct Part {
    std::shared_ptr<Pulling> pull;
    uint64_t index = 0;
    uint32_t damaged = 0;      ///< How often its checksum was wrong.
    bool no_redirect = false;  ///< To be had from the home node only.

    [[nodiscard]] uint64_t offset() const { return index * kChunkBytes; }
    [[nodiscard]] uint64_t size_bytes() const;
    [[nodiscard]] std::span<std::byte> memory() const;
    [[nodiscard]] const StoreServer::Pull& order() const;
  };
  struct Done {
    uint64_t name = 0;
    Status status;
  };
  struct Limits {
    size_t parts = 0;
    uint64_t bytes = 0;
  };

  /// `wake` is rung when take_done has something to give; it outlives this.
  TransferQueue(const Wake& wake, size_t streams_per_node) : wake_(wake), streams_per_node_(streams_per_node) {}

  /// What adds parts to a line may find that another stream would be of use: see take_wanted_streams.
  void add(StoreServer::Pull pull);
  /// One more stream to each of these nodes is to be made; it is counted already.
  [[nodiscard]] std::vector<wire::NodeNumber> take_wanted_streams();
  /// The most urgent parts first, as many as the limits allow; one at least, if there is one and the limits are not 0.
  [[nodiscard]] std::vector<Part> take(wire::NodeNumber node, const Limits& limits, Time now);
  /// False when nothing came until `deadline`.
  [[nodiscard]] bool wait_for_work(wire::NodeNumber node, Time deadline);
  /// A pause that ends early when the queue is closed or the node is lost.
  void pause(wire::NodeNumber node, Time deadline);
  /// True: nothing waits for this stream, and it is counted no more. It ends.
  [[nodiscard]] bool leave(wire::NodeNumber node);

  /// For who serves on what is still arriving: waits for the part, and copies it. kNotFound when the object is not being
  /// pulled (any more), kTimeout at the deadline.
  [[nodiscard]] Status read_part(const BulkRequest& request, std::vector<std::byte>& bytes, Time deadline);

  void arrived(Part part);
  void put_back(Part part);
  void damaged(Part part);
  void elsewhere(Part part, wire::NodeNumber node);
  void fail(Part part, const Status& why);
  /// Fails what has waited before the node past its deadline.
  void expire(wire::NodeNumber node, const Status& why, Time now);
  /// What waits before a node that is not its home goes back to the home.
  void send_home(wire::NodeNumber node);
  /// The node is gone: what waits before it fails with kLost, also what comes later.
  void lose(wire::NodeNumber node, const Status& cause);
  /// It is there again: what comes from now on is asked for as before.
  void find_again(wire::NodeNumber node);
  void close();
  /// After close, when no stream is left: every pull that is not done fails.
  void fail_all(const Status& why);
  [[nodiscard]] bool is_closed() const;
  [[nodiscard]] bool is_lost(wire::NodeNumber node) const;

  [[nodiscard]] std::vector<Done> take_done();

 private:
  struct Link {
    std::array<std::deque<Part>, 3> waiting;  // by priority
    Time last_arrival;                        // of a part of an object whose home this node is
    uint64_t waiting_bytes = 0;
    size_t streams = 0;
    Status lost;
    [[nodiscard]] bool is_idle() const { return waiting[0].empty() && waiting[1].empty() && waiting[2].empty(); }
  };
  enum class End : uint8_t { kFront, kBack };

  // All with the lock held.
  void enqueue(Part part, wire::NodeNumber node, End end);
  void send_home(Link& link, wire::NodeNumber node);
  void fail_pull(Pulling& pull, const Status& why);
  void let_go(Part& part);
  void settle(Pulling& pull);
  [[nodiscard]] Time deadline_of(const Pulling& pull) const;

  const Wake& wake_;
  const size_t streams_per_node_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool closed_ = false;
  std::map<wire::NodeNumber, Link> links_;
  std::vector<Done> done_;
  std::vector<wire::NodeNumber> wanted_streams_;
  std::map<std::pair<wire::NodeNumber, uint64_t>, std::shared_ptr<Pulling>> under_way_;  // by home and name there
};

/// A pull under way. What changes is the queue's, behind its lock.
struct TransferQueue::Pulling {
  StoreServer::Pull order;
  wire::NodeNumber home = 0;
  uint64_t parts = 0;
  uint64_t left = 0;     // parts that have not arrived
  uint64_t taken = 0;    // parts in the hands of streams
  uint64_t readers = 0;  // who copy a part just now
  std::vector<bool> here;
  Status failure;
  bool is_done = false;
};

}  // namespace manta::object_store

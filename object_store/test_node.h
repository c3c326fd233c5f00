// For tests: a store with its server on a thread of its own, and clients in this process or in forked ones.
#pragma once

#include "object_store/store_client.h"
#include "object_store/store_server.h"
#include "wire/connection.h"

#include <sys/eventfd.h>

#include <atomic>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

namespace manta::object_store {

/// Real time, and what a test adds to it.
class OffsetClock final : public Clock {
 public:
  [[nodiscard]] Time now() const override { return Clock::real().now() + Duration(offset_.load()); }
  void advance(Duration by) { offset_ += by.count(); }

 private:
  std::atomic<Duration::rep> offset_{0};
};

/// A client with its connection and its receiving thread.
class TestClient {
 public:
  TestClient(Fd socket, uint64_t process, wire::NodeNumber node = 0);
  ~TestClient();
  /// Ends the connection as a dead process would, and fails whatever waits.
  void hang_up();

  StoreClient& operator*() { return *store_; }
  StoreClient* operator->() { return store_.get(); }
  [[nodiscard]] uint64_t process() const { return process_; }
  [[nodiscard]] uint64_t sent() const { return sent_; }

 private:
  uint64_t process_;
  std::unique_ptr<wire::Connection> connection_;
  std::unique_ptr<StoreClient> store_;
  std::atomic<uint64_t> sent_{0};
  std::atomic<bool> stop_{false};
  Fd wake_;
  std::thread receiver_;
};

class TestNode {
 public:
  /// With `spill_bytes`, in a folder of its own that goes with it.
  explicit TestNode(uint64_t capacity_bytes, uint64_t spill_bytes = 0, wire::NodeNumber node = 0,
                    uint64_t prepared_bytes = 0);
  ~TestNode();

  /// The client's end of a new connection.
  Fd connect();
  std::unique_ptr<TestClient> client(uint64_t process) { return std::make_unique<TestClient>(connect(), process, node_); }
  /// Runs `body` in a forked process, which then exits with 0. Call it before anything else of the node is used.
  pid_t spawn(uint64_t process, std::function<void(TestClient&)> body);
  /// Starts the server, once everything that is forked has been.
  void start();

  /// Runs `work` on the server's thread, which need not be running yet; does not wait for it.
  void post(std::function<void(StoreServer&)> work);
  /// Runs `work` here, with the server's thread kept out.
  void run(std::function<void(StoreServer&)> work);
  /// The server's thread calls `on_ready` when `fd` is readable (and now and then); an empty one ends that.
  void watch(int fd, std::function<void()> on_ready);

  [[nodiscard]] StoreStats stats();
  /// Whether `condition` holds within 20 s; looked at every millisecond.
  bool eventually(const std::function<bool(const StoreStats&)>& condition);
  /// Bytes that the segments of this node really take from the machine.
  [[nodiscard]] static uint64_t resident_bytes();

  [[nodiscard]] const std::string& spill_folder() const { return spill_folder_; }

  OffsetClock clock;

 private:
  struct Peer {
    std::unique_ptr<wire::Connection> connection;
    ProcessId process;
  };
  void serve();
  void take_posted();
  bool handle(Peer& peer);

  std::string spill_folder_;
  wire::NodeNumber node_;
  std::unique_ptr<StoreServer> server_;
  std::mutex mutex_;
  std::list<Peer> peers_;
  std::vector<Fd> child_ends_;
  Fd wake_;
  std::mutex posted_mutex_;
  std::vector<std::function<void(StoreServer&)>> posted_;
  std::map<int, std::function<void()>> watched_;
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

}  // namespace manta::object_store

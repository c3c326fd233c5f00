// For tests: a proxy in front of a node's bulk port that treats what passes as it is told.
#pragma once

#include "common/fd.h"
#include "object_store/transfer/stream.h"
#include "object_store/transfer/wake.h"

#include <atomic>
#include <functional>
#include <list>
#include <mutex>
#include <span>
#include <string>
#include <thread>

namespace manta::object_store {

class TestProxy {
 public:
  enum class Verdict : uint8_t { kPass, kHangUp, kStall };
  /// Sees, and may change, what goes from the server to the puller; `offset` counts the bytes of its connection.
  using Watch = std::function<Verdict(std::span<std::byte> bytes, uint64_t offset, int connection)>;

  TestProxy(const std::string& server, Watch watch);
  ~TestProxy();
  [[nodiscard]] const std::string& endpoint() const { return endpoint_; }
  [[nodiscard]] int connections() const { return count_; }

 private:
  struct Pair {
    std::unique_ptr<Stream> puller, server;
    std::thread up, down;
  };
  void accept_all();
  void relay(Stream& from, Stream& to, int connection, bool is_watched);

  std::string server_;
  Watch watch_;
  Fd listener_;
  std::string endpoint_;
  Wake stop_;
  std::atomic<bool> stopping_{false};
  std::atomic<int> count_{0};
  std::list<Pair> pairs_;
  std::thread acceptor_;
};

}  // namespace manta::object_store

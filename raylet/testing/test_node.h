// A real mantad, started as a driver starts it, for tests: the test is the driver, raylet_fake_worker its program.
#pragma once

#include "wire/channel.h"
#include "wire/connection.h"

#include <gtest/gtest.h>

#include <deque>
#include <memory>
#include <string>
#include <vector>

namespace manta::raylet {

/// A class that asks for this much, in wholes.
inline wire::SchedulingClass needs(double cpus, double gpus = 0) {
  wire::SchedulingClass scheduling_class;
  scheduling_class.resources.cpus = static_cast<int64_t>(cpus * wire::kWhole);
  scheduling_class.resources.gpus = static_cast<int64_t>(gpus * wire::kWhole);
  return scheduling_class;
}

class TestNode {
 public:
  static constexpr uint64_t kDriver = 77;

  /// Starts mantad with these flags added; does not introduce itself yet.
  explicit TestNode(const std::vector<std::string>& flags = {});
  /// Kills mantad if it still runs.
  ~TestNode();

  /// Hello and Welcome. `mode` is the fake worker's first argument.
  wire::Welcome join(const std::string& mode = "serve");

  template <typename Message>
  void send(const Message& message, const std::vector<int>& fds = {}) {
    const Status status = connection_->send(message, fds);
    ASSERT_TRUE(status.ok()) << status.to_string();
  }

  /// The next message of this type, with its frame; others that come are kept for later calls. Fails the test after 10 s.
  template <typename Message>
  Message expect(wire::Frame* whole = nullptr) {
    wire::Frame frame = next(Message::kType);
    Result<Message> message = wire::decode<Message>(frame.body);
    EXPECT_TRUE(message.ok()) << message.status().to_string();
    if (whole != nullptr) *whole = std::move(frame);
    return message.ok() ? std::move(*message) : Message{};
  }

  /// Asks for a lease of `cpus` (in wholes) and waits for it.
  wire::LeaseGranted lease(uint64_t request, int64_t cpus = 1);
  wire::NodeState state();
  void tell(uint64_t worker, const std::string& order) { send(wire::Relay{.from = 0, .to = worker, .payload = order}); }

  /// Closes the driver's end without a word, as death does.
  void hang_up() { connection_->close(); }
  /// Waits until mantad has ended; its exit code, or -1 after 10 s or a death by signal.
  int wait_for_end();

  [[nodiscard]] int pid() const { return pid_; }
  [[nodiscard]] const std::string& session_dir() const { return session_dir_; }
  /// Processes that mantad started and that still are there.
  [[nodiscard]] std::vector<int> workers() const;

 private:
  wire::Frame next(wire::Type type);

  std::string session_dir_;
  std::unique_ptr<wire::Connection> connection_;
  std::deque<wire::Frame> kept_;
  wire::Bell bell_;
  int pid_ = 0;
  bool is_reaped_ = false;
};

}  // namespace manta::raylet

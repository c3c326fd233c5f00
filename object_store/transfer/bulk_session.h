// The puller's side of one open connection: sends requests for what waits in the queue and puts what arrives where it
// belongs.
//
// Thread safety: one thread's.
#pragma once

#include "object_store/transfer/stream.h"
#include "object_store/transfer/transfer_queue.h"

#include <deque>
#include <functional>
#include <vector>

namespace manta::object_store {

class BulkSession {
 public:
  struct Hooks {
    std::function<void()> start_streams;  ///< Parts were put in other lines: see TransferQueue::take_wanted_streams.
  };

  BulkSession(TransferQueue& queue, wire::NodeNumber node, Stream& stream, const Hooks& hooks);
  /// Gives back what has not arrived.
  ~BulkSession();

  /// Until nothing came for it to do up to `idle_until` (which moves on while it works): ok. Else why the connection is of
  /// no more use.
  [[nodiscard]] Status run(Time idle_until);
  [[nodiscard]] bool has_received() const { return has_received_; }

 private:
  using Part = TransferQueue::Part;
  [[nodiscard]] Status ask();
  [[nodiscard]] Status receive();
  [[nodiscard]] Status receive_data(Part& part);
  [[nodiscard]] Status receive_elsewhere(Part& part, uint64_t count, Time deadline);
  [[nodiscard]] Status receive_failure(Part& part, const BulkReply& reply, Time deadline);
  [[nodiscard]] Status read(std::span<std::byte> bytes, Time deadline);
  [[nodiscard]] Part take_first();

  TransferQueue& queue_;
  wire::NodeNumber node_;
  Stream& stream_;
  const Hooks& hooks_;
  std::deque<Part> asked_;  // in the order of their requests, which is that of the replies
  uint64_t asked_bytes_ = 0;
  uint64_t first_id_ = 0;  // of asked_.front()
  bool has_received_ = false;
  std::vector<std::byte> buffer_;  // what was read and not used: [begin_, end_)
  size_t begin_ = 0, end_ = 0;
};

}  // namespace manta::object_store

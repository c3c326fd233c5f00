// The serving side of one open connection: answers requests in order, small ones many to a packet.
// Thread safety: one thread's.
#pragma once

#include "object_store/transfer/bulk_source.h"
#include "object_store/transfer/protocol.h"
#include "object_store/transfer/stream.h"

#include <chrono>
#include <span>
#include <vector>

namespace manta::object_store {

class BulkReplies {
 public:
  struct Limits {
    std::chrono::milliseconds idle_for{};     ///< How long it may be before the peer asks for something.
    std::chrono::milliseconds stalled_for{};  ///< How long the peer may take nothing.
  };

  BulkReplies(Stream& stream, BulkSource& source, wire::NodeNumber peer, const Limits& limits);

  /// Until the peer hangs up, is too slow or breaks the protocol (kInvalid). Never ok.
  [[nodiscard]] Status run();

 private:
  [[nodiscard]] Status serve(const BulkRequest& request);
  [[nodiscard]] Status send_data(uint64_t id, std::span<const std::byte> bytes);
  [[nodiscard]] Status send_elsewhere(uint64_t id, const std::vector<wire::NodeNumber>& nodes);
  [[nodiscard]] Status send_failure(uint64_t id, const Status& why);
  void append(const void* data, size_t size);
  [[nodiscard]] Status flush();
  [[nodiscard]] Time stalled_at() const { return Clock::real().now() + limits_.stalled_for; }

  Stream& stream_;
  BulkSource& source_;
  wire::NodeNumber peer_;
  Limits limits_;
  std::vector<std::byte> in_;
  std::vector<std::byte> out_;
  uint64_t last_copied_ = 0;  // name of the object that the store was told of last
};

}  // namespace manta::object_store

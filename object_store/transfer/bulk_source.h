// Where the connections of a BulkServer get bytes from, and where else they send who asks.
// Thread safety: everything.
#pragma once

#include "object_store/transfer/local_reader.h"
#include "object_store/transfer/spread.h"
#include "object_store/transfer/transfer_queue.h"

#include <atomic>
#include <mutex>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

namespace manta::object_store {

/// The bytes of one chunk, kept as long as this lives.
struct ChunkBytes {
  PinnedBytes pinned;
  std::vector<std::byte> copied;
  std::span<const std::byte> bytes;
  std::vector<wire::NodeNumber> elsewhere;  ///< Not empty: no bytes, but who has them.
};

class BulkSource {
 public:
  /// `under_way` is what this node itself pulls.
  BulkSource(wire::NodeNumber node, LocalReader& reader, TransferQueue& under_way)
      : node_(node), reader_(reader), under_way_(under_way) {}

  /// Whether `read` will not have to wait, as far as can be seen.
  [[nodiscard]] bool is_ready(const BulkRequest& request) const;
  /// These will be read: what the peer says of where they lie is not believed, so the store is asked, once for all of them.
  void learn(std::span<const BulkRequest> requests);
  /// Of an object of this node, or of one that it has a copy of, whole or in part. Waits as long as the request allows.
  [[nodiscard]] Result<ChunkBytes> read(const BulkRequest& request, wire::NodeNumber peer);
  /// The store is told that the peer has, or will have, a copy.
  void copied(wire::NodeNumber peer, const wire::ObjectLocation& at);
  /// Nobody is sent to this node any more.
  void forget(wire::NodeNumber node);

  /// Of this node's own objects, since the start.
  [[nodiscard]] uint64_t served_bytes() const { return served_bytes_; }

 private:
  [[nodiscard]] std::optional<wire::ObjectLocation> known(const wire::ObjectLocation& named);
  [[nodiscard]] Result<wire::ObjectLocation> place_of(const wire::ObjectLocation& named);

  wire::NodeNumber node_;
  LocalReader& reader_;
  TransferQueue& under_way_;
  std::atomic<uint64_t> served_bytes_{0};
  std::mutex mutex_;
  Spread spread_;                                             // behind mutex_
  std::unordered_map<uint64_t, wire::ObjectLocation> known_;  // behind mutex_; by name: where they lie, as the store said
};

}  // namespace manta::object_store

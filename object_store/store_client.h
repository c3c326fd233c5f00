// The object store as drivers and workers see it: create -> write in place -> seal on one side, pin -> read in place on the
// other.
//
//   auto hazard = HazardPage::create().value();                      // its fd() goes with Hello, before the connection is
//   served auto store = StoreClient::create(welcome_table_fd, std::move(hazard), send).value();
//   ... a receiving thread: if (store->handle(frame)) continue;      // every frame from the raylet
//
//   MutableBlock block = store->create(size_bytes, timeout).value(); // asks the raylet only when its own segments are used
//   up std::memcpy(block.data(), ...); wire::ObjectLocation at = store->seal(std::move(block), id).value();   // then tell
//   others where it is PinnedBytes bytes = store->pin(at).value();                      // about 100 ns, no message to
//   anyone; unpins when it dies
//
// Thread safety: every function may be called by any thread, `handle` and `disconnected` by the one that receives (never by
// a thread that then waits in create or pin). PinnedBytes and MutableBlock may outlive the client.
#pragma once

#include "common/fd.h"
#include "object_store/hazard_page.h"
#include "wire/cluster.h"
#include "wire/connection.h"

#include <manta/ids.h>
#include <manta/status.h>

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <span>

namespace manta::object_store {

namespace detail {
class ProducerSide;
class ReaderSide;
}  // namespace detail

/// Memory for an object that is being written, 64-byte aligned, for this process only. Not sealed when it dies: given back.
class MutableBlock {
 public:
  MutableBlock() = default;
  MutableBlock(MutableBlock&& other) noexcept;
  MutableBlock& operator=(MutableBlock&& other) noexcept;
  ~MutableBlock();

  [[nodiscard]] std::byte* data() const { return bytes_.data(); }
  [[nodiscard]] size_t size() const { return bytes_.size(); }
  [[nodiscard]] std::span<std::byte> bytes() const { return bytes_; }
  explicit operator bool() const { return producer_ != nullptr; }

 private:
  friend class detail::ProducerSide;
  friend class StoreClient;
  // Shared: a block may outlive the client, and its memory must not.
  std::shared_ptr<detail::ProducerSide> producer_;
  std::span<std::byte> bytes_;
  wire::ObjectLocation location_;
};

/// A sealed object in place, read-only, not reused while this or a copy of it lives. Copying costs two atomic increments.
class PinnedBytes {
 public:
  PinnedBytes() = default;
  PinnedBytes(const PinnedBytes& other);
  PinnedBytes(PinnedBytes&& other) noexcept;
  PinnedBytes& operator=(PinnedBytes other) noexcept;
  ~PinnedBytes();

  [[nodiscard]] const std::byte* data() const { return bytes_.data(); }
  [[nodiscard]] size_t size() const { return bytes_.size(); }
  [[nodiscard]] std::span<const std::byte> bytes() const { return bytes_; }
  explicit operator bool() const { return reader_ != nullptr; }

 private:
  friend class detail::ReaderSide;
  // Shared: user code may keep bytes past the end of the client.
  std::shared_ptr<detail::ReaderSide> reader_;
  std::span<const std::byte> bytes_;
  uint32_t hazard_ = 0;
};

class StoreClient {
 public:
  using SendFn = std::function<Status(wire::Type type, std::string_view body, const std::vector<int>& descriptors)>;

  /// `table` came with Welcome, and so did the node's number (0 outside a cluster). `send` is called by any thread and must
  /// not block.
  [[nodiscard]] static Result<std::unique_ptr<StoreClient>> create(const Fd& table, HazardPage hazard, SendFn send,
                                                                   wire::NodeNumber node = 0);
  ~StoreClient();

  /// kFull when the store stays full for `timeout` (the message says who holds what) or the object is larger than the store;
  /// kUnavailable when the raylet is gone; kIo when the machine has no memory left.
  [[nodiscard]] Result<MutableBlock> create(size_t size_bytes, std::chrono::milliseconds timeout);

  /// The same from what nobody misses, at once or not at all (kFull): for what could as well lie elsewhere.
  [[nodiscard]] Result<MutableBlock> create_from_plenty(size_t size_bytes);

  /// Makes the object readable by others and tells the raylet. When this fails the block is gone.
  [[nodiscard]] Result<wire::ObjectLocation> seal(MutableBlock&& block, ObjectId id);

  /// kLost when the object was freed, its copy on disk is damaged or its node was lost; kFull when this process holds 1,024
  /// pins, or memory to read it back into did not get free; kTimeout and kUnavailable when its node did not give it in time.
  /// Only the first pin in a segment, and one of an object that was spilled or is another node's, asks the raylet and waits
  /// up to `timeout` for the answer (longer while the disk makes room).
  [[nodiscard]] Result<PinnedBytes> pin(const wire::ObjectLocation& location,
                                        std::chrono::milliseconds timeout = std::chrono::seconds(30),
                                        wire::TransferPriority priority = wire::TransferPriority::kGet);

  /// However long it takes while something comes from other nodes: `timeout` is for how long nothing may; kTimeout then and
  /// at `give_up_at`, too.
  [[nodiscard]] Result<PinnedBytes> pin_patiently(const wire::ObjectLocation& location,
                                                  std::chrono::steady_clock::time_point give_up_at,
                                                  std::chrono::milliseconds timeout = std::chrono::seconds(30));

  /// The same for a copy of another node's object: kNotFound when it is not on this node, nor on its way.
  [[nodiscard]] Result<PinnedBytes> pin_if_here(const wire::ObjectLocation& location, std::chrono::milliseconds timeout);

  /// Whether a pin would find it where it was sealed, just now.
  [[nodiscard]] bool is_in_memory(const wire::ObjectLocation& location) const;

  /// These will be pinned soon: those on disk or on other nodes are brought meanwhile, as memory allows, for 30 s. Never
  /// waits; what goes wrong is told to whoever pins.
  void prefetch(std::span<const wire::ObjectLocation> objects,
                wire::TransferPriority priority = wire::TransferPriority::kGet);

  /// These will be pinned soon, about in this order: those of other nodes are asked for ahead of the pins, up to 256 and 64
  /// MiB at a time (one at least), so that their pins need not ask. Never waits; a pin that fails says why.
  void read_soon(std::span<const wire::ObjectLocation> objects,
                 wire::TransferPriority priority = wire::TransferPriority::kGet);

  /// `pin` for a block that is not sealed yet: this process will see it in place whatever becomes of the object.
  [[nodiscard]] Result<PinnedBytes> pin(const MutableBlock& block);

  /// Owner: no reference is left. A failure to send needs no handling: the raylet is gone, and the objects with it.
  void free(std::span<const wire::ObjectLocation> objects);

  /// Takes a frame that is the store's (then true). Descriptors are taken out of it.
  bool handle(wire::Frame& frame);

  /// The raylet is gone: everything that waits, now and later, fails with `cause`.
  void disconnected(const Status& cause);

  struct Stats {
    uint64_t segments = 0;  ///< Granted to this process.
    uint64_t segment_bytes = 0;
    uint64_t ready_bytes = 0;      ///< Of these, in segments kept ready for what comes next.
    uint64_t used_bytes = 0;       ///< Of these, in blocks and objects that are not reclaimed.
    uint64_t pins = 0;             ///< Hazard slots in use.
    uint64_t mapped_segments = 0;  ///< Of other processes, open for reading.
  };
  [[nodiscard]] Stats stats() const;

 private:
  StoreClient(std::shared_ptr<detail::ProducerSide> producer, std::shared_ptr<detail::ReaderSide> reader, SendFn send);
  std::shared_ptr<detail::ProducerSide> producer_;
  std::shared_ptr<detail::ReaderSide> reader_;
  SendFn send_;
};

}  // namespace manta::object_store

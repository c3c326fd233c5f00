// The object store inside mantad: the I/O around StoreCore. It makes segments, owns the object table, looks at the clients'
// hazard pages, turns their messages into events of the core and the core's effects into messages.
//
// Thread safety: none; the raylet's event loop owns it. Nothing here blocks: a segment's pages are taken by its producer,
// and disks are read and written by the threads of SpillDisk.
//
//   auto store = StoreServer::create({.capacity_bytes = size}).value();
//   store->client_joined(process, pid, hazard, [connection](auto type, auto body, auto& fds) {
//     return connection->send_frame(type, body, fds); });            // then Welcome, with store->table_fd()
//   Result<bool> mine = store->handle(process, frame);                 // for every frame of a client
//   store->tick();                                                     // at store->next_deadline()
//   store->on_disk();                                                  // when store->disk_fd() is readable
#pragma once

#include "common/clock.h"
#include "common/fd.h"
#include "common/shared_memory.h"
#include "wire/cluster.h"
#include "wire/connection.h"
#include "wire/group_messages.h"

#include <manta/ids.h>
#include <manta/status.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace manta::object_store {

struct StoreStats {
  uint64_t capacity_bytes = 0;
  uint64_t granted_bytes = 0;  ///< In segments: of producers, of objects whose producer is gone, and kept warm.
  uint64_t warm_bytes = 0;     ///< Part of granted_bytes: empty and ready to be granted.
  uint64_t objects = 0;        ///< Sealed and not freed.
  uint64_t object_bytes = 0;
  uint64_t limbo_objects = 0;  ///< Freed and still pinned by a reader.
  uint64_t waiting_requests = 0;
  uint64_t waiting_restores = 0;
  uint64_t spilled_objects = 0;  ///< Of `objects`: on disk only.
  uint64_t spilled_bytes = 0;
  uint64_t disk_bytes = 0;  ///< What the spill files take.
  uint64_t disk_files = 0;
  uint64_t copies = 0;  ///< Of other nodes' objects, in memory.
  uint64_t copy_bytes = 0;
  uint64_t pulls = 0;  ///< Copies on their way.
};

class StoreServer {
 public:
  struct Options {
    uint64_t capacity_bytes = 0;
    /// Where objects go that memory has no room for, and how much may lie there; 0: nowhere. The folder is made when it is
    /// needed and removed with the store.
    std::string spill_folder = {};
    uint64_t spill_bytes = 0;
    /// Memory whose pages are taken before anybody asks, while clients are there and the processors have time for it; at
    /// most an eighth of the capacity. Given back when nobody had use for it in a minute. 0: none.
    uint64_t prepared_bytes = 0;
    const Clock* clock = &Clock::real();
    wire::NodeNumber node = 0;  ///< Of this node in its cluster: the ids of its segments start with it.
    uint64_t ids_from = 0;      ///< And are above this one; see NodeInfo.
  };
  /// An object of another node that is to be read into this node's memory.
  struct Pull {
    uint64_t name = 0;          ///< For pull_done.
    wire::ObjectLocation from;  ///< As its home node knows it.
    wire::TransferPriority priority = wire::TransferPriority::kGet;
    Time deadline;
    std::shared_ptr<Mapping> segment;  ///< Shared: the reading threads may outlast the segment.
    uint64_t offset = 0;               ///< In `segment`; so many bytes as `from` says are the object's.
    Duration patience{};  ///< Not 0: the deadline moves on, to this long after something last came from that node.
  };
  /// What lies beyond the node. Called on the loop; none of them may block.
  struct Beyond {
    /// Read it, and say so with pull_done, once, on the loop and not before this returns. What may pass (a broken
    /// connection, a peer that is not known yet) is tried again until the deadline; then, and never before, that is said
    /// with another code than kLost.
    std::function<void(Pull pull)> pull = {};
    /// A client's message (Free) for the store of another node.
    std::function<void(wire::NodeNumber node, ProcessId from, wire::Type type, std::string body)> forward = {};
    /// For another node's store: `hear` there.
    std::function<void(wire::NodeNumber node, const wire::StoreWord& word)> tell = {};
    /// A message for a process of another node.
    std::function<void(ProcessId to, wire::Type type, const std::string& body)> deliver = {};
  };
  /// Sends one frame to a client; must not block. Descriptors stay the store's. Failures are ignored: the hang-up follows.
  using SendFn = std::function<Status(wire::Type type, std::string_view body, const std::vector<int>& descriptors)>;

  /// `kIo` when the system gives no shared memory. Takes no memory worth mentioning until segments are granted.
  [[nodiscard]] static Result<std::unique_ptr<StoreServer>> create(const Options& options);
  ~StoreServer();

  /// The object table, opened read-only, for Welcome.
  [[nodiscard]] const Fd& table_fd() const;

  /// `hazard` comes with Hello (HazardPage::fd). kInvalid when it is no hazard page or the process is known already.
  Status client_joined(ProcessId process, int pid, Fd hazard, SendFn send);

  /// False when the frame is not the store's. An error means the client broke the protocol: close its connection, then call
  /// client_gone.
  Result<bool> handle(ProcessId process, const wire::Frame& frame);

  /// The process ended, or its connection did. All frames that it sent before have been handled. Its pins and unsealed
  /// objects vanish, objects that it owned are freed, objects that it produced for other owners live on.
  void client_gone(ProcessId process);

  /// Without it, objects of other nodes cannot be read: kUnavailable. Give an empty one before what it calls is destroyed.
  void connect(Beyond beyond);
  void pull_done(uint64_t name, const Status& status);
  /// A message that another node's store forwarded for a process there; false when it is not the store's. An error means
  /// that the node broke the protocol.
  Result<bool> handle_forwarded(ProcessId from, wire::Type type, std::string_view body);
  /// Objects of this node were given to another, which will be told when they are freed.
  void copied(wire::NodeNumber to, std::vector<wire::ObjectLocation> objects);
  /// See StoreCore::find.
  [[nodiscard]] std::optional<wire::ObjectLocation> find(uint32_t slot, uint32_t generation) const;
  /// What another node's store says.
  void hear(wire::NodeNumber from, const wire::StoreWord& word);
  /// This node is drained: its objects go to these nodes, from each of which the owners are told. To be said again when it
  /// is others. `stats().objects` says what is left.
  void move_away(std::vector<wire::NodeNumber> to);
  /// Brings objects that are on other nodes or on disk, as memory allows, for whoever reads them soon.
  void prefetch(std::vector<wire::ObjectLocation> objects, wire::TransferPriority priority);
  /// A process of another node ended: what it owned here is freed.
  void owner_gone(ProcessId process);
  /// Copies of its objects go, whoever waits for one fails with kLost, and so does whoever asks later.
  void node_lost(wire::NodeNumber node, const Status& cause);
  /// One that was lost is there again, with ids above this one: what it had before stays lost.
  void node_back(wire::NodeNumber node, uint64_t ids_from);

  [[nodiscard]] std::optional<Time> next_deadline() const;
  void tick();

  /// Readable when the disk's threads have something to tell; then on_disk.
  [[nodiscard]] int disk_fd() const;
  void on_disk();

  [[nodiscard]] StoreStats stats() const;
  [[nodiscard]] wire::Listed list(const wire::ListRequest& request) const;  ///< See StoreCore.

 private:
  struct State;
  explicit StoreServer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace manta::object_store

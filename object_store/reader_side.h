// The reading half of StoreClient: pins, published in the hazard page, and read-only mappings of other processes' segments.
// An object that is not where it was sealed is asked for: the raylet reads it back and says where it lies now, which is
// kept. What will be read soon is asked for ahead, so that a reader of many objects waits for the slowest, not for a trip
// to the raylet each.
//
// Thread safety: everything, behind one lock. Several pins of one object share a hazard slot.
#pragma once

#include "common/shared_memory.h"
#include "object_store/object_table.h"
#include "object_store/producer_side.h"
#include "object_store/store_client.h"

#include <array>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <unordered_map>

namespace manta::object_store::detail {

class ReaderSide : public std::enable_shared_from_this<ReaderSide> {
 public:
  /// Of an object that has moved.
  struct How {
    wire::TransferPriority priority = wire::TransferPriority::kGet;
    bool only_here = false;
    /// `timeout` is for how long nothing may come; this is the end.
    std::optional<std::chrono::steady_clock::time_point> give_up_at{};
  };

  ReaderSide(ObjectTableView table, HazardPage hazard, std::shared_ptr<ProducerSide> producer, StoreClient::SendFn send,
             wire::NodeNumber node);

  [[nodiscard]] Result<PinnedBytes> pin(const wire::ObjectLocation& location, std::chrono::milliseconds timeout,
                                        const How& how);
  [[nodiscard]] bool is_in_memory(const wire::ObjectLocation& at) const {
    return !is_remote(at) && at.generation != 0 && table_.generation(at.slot) == at.generation;
  }
  /// See StoreClient::read_soon.
  void read_soon(std::span<const wire::ObjectLocation> objects, wire::TransferPriority priority);
  void copy_pin(uint32_t index) { pins_[index].references.fetch_add(1, std::memory_order_relaxed); }
  void unpin(uint32_t index);

  void on_restored(const wire::ObjectRestored& message);
  void on_opened(const wire::SegmentOpened& message, Fd fd);
  void on_retired(uint64_t segment);
  void disconnected(const Status& cause);
  void add_stats(StoreClient::Stats& stats) const;

 private:
  struct Pin {
    std::atomic<uint32_t> references{0};
    uint64_t key = 0;
    std::shared_ptr<Mapping> mapping;
  };
  struct Opening {
    bool answered = false;
    Status status;
  };

  struct Restoring {
    bool answered = false;
    bool awaited = false;  // somebody waits for the answer just now
    Status status;
    wire::ObjectLocation location;
  };
  /// How long, and in what way, a reader waits for an object that has moved.
  struct Wait {
    std::chrono::steady_clock::time_point deadline;
    std::chrono::milliseconds timeout;
    How how;
    [[nodiscard]] std::chrono::steady_clock::time_point end() const;
  };
  /// An object's first place: its node, and its name there.
  using Home = std::pair<wire::NodeNumber, uint64_t>;

  /// kLost when it does not lie there (any more).
  [[nodiscard]] Result<uint32_t> acquire(const wire::ObjectLocation& location);
  /// Finds an object that has moved, or been spilled; `at` becomes where it is.
  [[nodiscard]] Result<uint32_t> acquire_moved(std::unique_lock<std::mutex>& lock, const wire::ObjectLocation& location,
                                               wire::ObjectLocation& at, const Wait& wait);
  [[nodiscard]] Result<wire::ObjectLocation> restore(std::unique_lock<std::mutex>& lock,
                                                     const wire::ObjectLocation& location, const Wait& wait);
  /// Sends what is to be asked before anybody waits for it. The lock is given up meanwhile.
  void ask_ahead(std::unique_lock<std::mutex>& lock);
  /// Waits for the answer to what was asked ahead, if it was; else, or if that was no place, kNotFound.
  [[nodiscard]] Result<wire::ObjectLocation> asked_ahead(std::unique_lock<std::mutex>& lock, const Home& home,
                                                         const Wait& wait);
  [[nodiscard]] Status await_answer(std::unique_lock<std::mutex>& lock, uint64_t request,
                                    std::chrono::steady_clock::time_point deadline);
  [[nodiscard]] bool is_remote(const wire::ObjectLocation& location) const;
  [[nodiscard]] static Home home_of(const wire::ObjectLocation& location);
  void drop(uint32_t index);  // the lock is held
  [[nodiscard]] Result<std::shared_ptr<Mapping>> mapping_of(std::unique_lock<std::mutex>& lock, uint64_t segment,
                                                            std::chrono::milliseconds timeout);

  ObjectTableView table_;
  HazardPage hazard_;
  std::shared_ptr<ProducerSide> producer_;  // shared with the client and its blocks; read for mappings only
  StoreClient::SendFn send_;
  wire::NodeNumber node_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  Status broken_;
  std::array<Pin, kHazardSlots> pins_;
  std::vector<uint32_t> free_;                    // hazard slots
  std::unordered_map<uint64_t, uint32_t> index_;  // pin key -> hazard slot
  std::unordered_map<uint64_t, std::shared_ptr<Mapping>> mappings_;
  std::map<Home, wire::ObjectLocation> moved_;  // -> where it was last; a hint
  uint64_t last_restore_ = 0;
  std::unordered_map<uint64_t, Restoring> restoring_;
  struct Soon {
    wire::ObjectLocation at;
    wire::TransferPriority priority;
  };
  std::deque<Soon> soon_;  // will be read, in this order; not asked for yet
  struct Ahead {
    uint64_t request = 0;
    uint64_t size_bytes = 0;
  };
  std::map<Home, Ahead> ahead_;  // asked for, and not read yet
  uint64_t ahead_bytes_ = 0;
  struct Asked {
    Home home;
    uint64_t request = 0;
    std::chrono::steady_clock::time_point forget_at;
  };
  std::deque<Asked> asked_;  // what is or was in ahead_, the oldest first
  // Shared: whoever asked may give up while the answer is still awaited by others.
  std::unordered_map<uint64_t, std::shared_ptr<Opening>> opening_;
};

}  // namespace manta::object_store::detail

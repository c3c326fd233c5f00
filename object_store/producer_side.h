// The writing half of StoreClient: segments granted to this process, and blocks in them.
//
// Who puts large objects gets memory ahead: a thread of this side's own asks the raylet for another segment of that size and
// takes its pages, so that the next put finds it ready. It gets only what the store has plenty of, and gives it back when
// the store is short or nothing is put any more.
//
// Thread safety: everything, behind one lock that is never held while sending, mapping or touching pages.
#pragma once

#include "common/shared_memory.h"
#include "object_store/allocator.h"
#include "object_store/store_client.h"

#include <condition_variable>
#include <map>
#include <mutex>
#include <optional>
#include <thread>
#include <unordered_map>
#include <vector>

namespace manta::object_store::detail {

/// Pages that two threads take, a portion at a time.
struct Portions;

class ProducerSide : public std::enable_shared_from_this<ProducerSide> {
 public:
  explicit ProducerSide(StoreClient::SendFn send) : send_(std::move(send)) {}
  ~ProducerSide() { stop(); }
  /// Ends the thread; nothing is sent by it any more.
  void stop();

  [[nodiscard]] Result<MutableBlock> create(size_t size_bytes, std::chrono::milliseconds timeout, bool from_plenty = false);
  [[nodiscard]] Result<wire::ObjectLocation> seal(MutableBlock&& block, ObjectId id);
  void abort(MutableBlock& block);

  void on_granted(wire::SegmentGranted message, Fd fd);
  void on_refused(const wire::SegmentRefused& message);
  void on_reclaimed(const wire::Reclaimed& message);
  void on_trim(const wire::TrimSegments& message);
  void on_retired(uint64_t segment);
  void disconnected(const Status& cause);

  /// The mapping of a segment that this process writes or wrote; null for others.
  [[nodiscard]] std::shared_ptr<Mapping> mapping_of(uint64_t segment) const;
  void add_stats(StoreClient::Stats& stats) const;

 private:
  struct Slot {
    uint32_t slot = 0;
    uint32_t generation = 0;
  };
  struct Segment {
    Segment(uint64_t segment, Fd given, std::shared_ptr<Mapping> mapped, std::vector<Slot> usable)
        : id(segment),
          fd(std::move(given)),
          mapping(std::move(mapped)),
          slots(std::move(usable)),
          allocator(mapping->size_bytes()) {}
    uint64_t id;
    Fd fd;
    std::shared_ptr<Mapping> mapping;  // shared with readers of this process
    std::vector<Slot> slots;           // free ones
    Allocator allocator;
    uint64_t backed_bytes = 0;   // pages up to here are taken
    bool has_all_slots = false;  // more were refused
  };
  struct Waiting {
    uint64_t size_bytes = 0;
    bool dedicated = false;
    uint64_t more_slots = 0;  // asked for: of this segment
    bool answered = false;
    bool abandoned = false;  // who asked has gone on; the answer ends the entry
    Status status;
    std::unique_ptr<Segment> segment;  // a dedicated one; standard ones go to `standard_`
  };
  using Deadline = std::chrono::steady_clock::time_point;

  [[nodiscard]] Result<MutableBlock> create_dedicated(size_t size_bytes, Deadline deadline, bool from_plenty);
  [[nodiscard]] MutableBlock block_in(Segment& segment, uint64_t offset, size_t size_bytes);
  [[nodiscard]] std::optional<MutableBlock> try_standard(size_t size_bytes);
  /// Sends a request; `answered` of its entry in `waiting_` says when it is done. The lock is released meanwhile.
  [[nodiscard]] Result<uint64_t> request(std::unique_lock<std::mutex>& lock, size_t size_bytes, Deadline deadline,
                                         bool dedicated, bool ahead = false);
  [[nodiscard]] Result<MutableBlock> block_in_dedicated(std::unique_lock<std::mutex>& lock, std::unique_ptr<Segment> segment,
                                                        size_t size_bytes);
  [[nodiscard]] std::unique_ptr<Segment> take_ready(size_t size_bytes);
  [[nodiscard]] uint64_t segment_without_slots(size_t size_bytes) const;
  void leave(uint64_t request);
  void take_back(uint64_t request);
  void add_slots(const wire::SegmentGranted& message);
  void answer(Waiting& waiting, Status status);
  [[nodiscard]] Status back(MutableBlock& block);
  [[nodiscard]] std::vector<uint64_t> take_surplus(bool and_the_spare = false);
  void keep(std::unique_ptr<Segment> segment);
  void give_back(const std::vector<uint64_t>& segments);

  // producer_ahead.cc; the lock is held
  void want_dedicated(size_t size_bytes);
  void want_standard(const Segment& segment);
  void start_ahead();
  void run_ahead();
  [[nodiscard]] Status populate_together(const Segment& segment, uint64_t from, uint64_t to);
  void back_standard(std::unique_lock<std::mutex>& lock, uint64_t id);
  void fetch_dedicated(std::unique_lock<std::mutex>& lock, size_t size_bytes);
  void set_backed(Segment& segment, uint64_t to);

  StoreClient::SendFn send_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  Status broken_;
  uint64_t last_request_ = 0;
  int standard_requests_ = 0;  // under way: others wait for it rather than ask for more
  std::map<uint64_t, Waiting> waiting_;
  std::map<uint64_t, std::unique_ptr<Segment>> standard_;
  std::map<uint64_t, std::unique_ptr<Segment>> dedicated_;  // with a block that is being written
  // Segments that are the raylet's again (or hold one sealed object): still mapped, so that a new grant of the same one
  // costs no page faults. (Making them read-only meanwhile would: 15 ms for 100 MB.)
  struct Kept {
    std::shared_ptr<Mapping> mapping;
    uint64_t backed_bytes = 0;
  };
  std::unordered_map<uint64_t, Kept> kept_;

  std::vector<std::unique_ptr<Segment>> ready_;  // dedicated ones, with pages, for what comes next
  size_t ahead_dedicated_ = 0;                   // bytes, wanted from the thread
  uint64_t ahead_standard_ = 0;                  // a segment
  std::shared_ptr<Portions> portions_;           // pages that a block waits for: the thread helps
  uint64_t trims_ = 0;                           // times that memory was asked back
  bool stopping_ = false;
  std::condition_variable ahead_wake_;
  std::thread ahead_;
};

/// Takes the pages now, so that a machine without memory is an error here and never a signal at a write.
[[nodiscard]] Status populate(const Mapping& mapping, const Fd& fd, uint64_t from, uint64_t to);

}  // namespace manta::object_store::detail

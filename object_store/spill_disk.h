// The disk side of spilling: writes objects from segments into files and reads them back, on two threads of its own, so that
// the raylet's loop never waits for a disk. Bytes go through a small buffer; nothing is mapped.
//
//   <folder>/<file>.spill       written as .tmp, fsynced, renamed; see spill_format.h
//
// Thread safety: start, take_events and the destructor are the loop's; what they share with the threads is behind one lock.
// Queues are bounded by the core: at most 4 writes and 8 reads are under way, and a punch or removal for each record.
#pragma once

#include "common/fd.h"
#include "object_store/store_events.h"

#include <manta/status.h>

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace manta::object_store {

class SpillDisk {
 public:
  /// Makes `folder` (0700) when it is first needed. Whatever is in it is the store's, and removed at the end.
  [[nodiscard]] static Result<std::unique_ptr<SpillDisk>> create(std::string folder);
  ~SpillDisk();

  /// The descriptors are duplicates: a job may outlast the segment.
  void start(effect::WriteSpill&& write, Fd segment);
  void start(const effect::ReadSpill& read, Fd segment);
  void start(const effect::PunchSpill& punch);
  void start(const effect::RemoveSpill& remove);

  /// Readable when take_events has something to give.
  [[nodiscard]] int wake_fd() const { return wake_.get(); }
  [[nodiscard]] std::vector<Event> take_events();

  [[nodiscard]] const std::string& folder() const { return folder_; }
  [[nodiscard]] std::string path_of(uint64_t file) const;

 private:
  /// One thread and what it has to do.
  struct Lane {
    std::deque<std::function<void()>> jobs;
    std::condition_variable wake;
    std::thread thread;
  };

  SpillDisk(std::string folder, Fd wake) : folder_(std::move(folder)), wake_(std::move(wake)) {}
  void post(Lane& lane, std::function<void()> job);
  void serve(Lane& lane);
  void report(Event event);
  [[nodiscard]] Result<std::vector<uint64_t>> write(const effect::WriteSpill& write, const Fd& segment);
  [[nodiscard]] Status read(const effect::ReadSpill& read, const Fd& segment);
  void punch(const effect::PunchSpill& punch);

  std::string folder_;
  Fd wake_;
  std::mutex mutex_;
  bool stopping_ = false;
  Lane writes_, reads_;
  std::vector<Event> events_;
};

}  // namespace manta::object_store

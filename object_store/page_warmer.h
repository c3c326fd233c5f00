// Takes the pages of empty segments before anybody needs them, on threads that give way: each MiB of their work they ask
// whether the machine has a processor to spare, and rest for a while where it has none.
//
// Thread safety: everything is the raylet's loop's. No lock is shared with a thread, which could be kept from the processor
// while it has it; a thread has nothing of the loop's but two flags. At most a thread for each `start` whose segments still
// have pages to come, which the core bounds (store_core_warm.cc).
#pragma once

#include "common/fd.h"

#include <manta/ids.h>

#include <atomic>
#include <cstdint>
#include <list>
#include <memory>
#include <thread>
#include <vector>

namespace manta::object_store {

class PageWarmer {
 public:
  struct Job {
    SegmentId segment;
    Fd memory;  ///< A duplicate: it may outlast the segment by a step.
    uint64_t size_bytes = 0;
  };

  PageWarmer();
  PageWarmer(const PageWarmer&) = delete;
  PageWarmer& operator=(const PageWarmer&) = delete;
  /// Waits for the steps under way: some 50 us of a processor each.
  ~PageWarmer();

  /// Writes zeros into all of them, in order. They hold nothing yet.
  void start(std::vector<Job> jobs);
  enum class Stopped : uint8_t {
    kNothing,  ///< It was not being warmed any more.
    kBetween,  ///< No page of it is written from now on.
    kMidStep,  ///< Its memory is written once more, when the thread comes to it: nobody may use that file.
  };
  /// Never waits: the thread may have no processor for long.
  [[nodiscard]] Stopped stop(SegmentId segment);

 private:
  enum class State : uint8_t { kBetween, kStepping, kOver };
  struct Task {
    Job job;
    std::atomic<State> state{State::kBetween};
  };
  struct Round {
    std::vector<std::unique_ptr<Task>> tasks;
    std::atomic<bool> is_done{false};
    std::thread thread;
  };
  void run(Round& round);
  void pause() const;

  Fd end_;  ///< Read by the threads: readable when they shall end.
  std::list<Round> rounds_;
};

}  // namespace manta::object_store

// Threads that run the calls of an actor with concurrency: one pool for its default group, one for each named group.
// `post` waits while the bounded queue is full, which stops the rings from being emptied: backpressure reaches the callers.
#pragma once

#include "actors/worker.h"

#include <condition_variable>
#include <deque>
#include <thread>

namespace manta {

class ExecutorPool {
 public:
  static constexpr size_t kMaxQueued = 1'000;

  ExecutorPool(Worker& worker, int threads);
  ~ExecutorPool();  ///< Runs what is queued, then joins.
  ExecutorPool(const ExecutorPool&) = delete;
  ExecutorPool& operator=(const ExecutorPool&) = delete;

  void post(std::unique_ptr<Job> job);
  [[nodiscard]] bool is_idle();

 private:
  void run();

  Worker& worker_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::unique_ptr<Job>> queue_;
  size_t running_ = 0;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace manta

// The one lock over a process's owner tables. The thread that has it may take it again: letting a handle go under the lock
// (a call ends, its arguments go) comes back into the tables.
#pragma once

#include <atomic>
#include <mutex>
#include <thread>

namespace manta {

class RuntimeLock {
 public:
  void lock() {
    if (is_mine()) {
      ++depth_;
      return;
    }
    mutex_.lock();
    owner_.store(std::this_thread::get_id(), std::memory_order_relaxed);
  }
  bool try_lock() {
    if (is_mine()) return ++depth_, true;
    if (!mutex_.try_lock()) return false;
    owner_.store(std::this_thread::get_id(), std::memory_order_relaxed);
    return true;
  }
  void unlock() {
    if (depth_ > 0) {
      --depth_;
      return;
    }
    owner_.store(std::thread::id(), std::memory_order_relaxed);
    mutex_.unlock();
  }

 private:
  [[nodiscard]] bool is_mine() const { return owner_.load(std::memory_order_relaxed) == std::this_thread::get_id(); }

  std::mutex mutex_;
  std::atomic<std::thread::id> owner_{};
  int depth_ = 0;  // under mutex_
};

}  // namespace manta

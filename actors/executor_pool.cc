#include "actors/executor_pool.h"

namespace manta {

ExecutorPool::ExecutorPool(Worker& worker, int threads) : worker_(worker) {
  for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { run(); });
}

ExecutorPool::~ExecutorPool() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }
  for (std::thread& thread : threads_) thread.join();
}

void ExecutorPool::post(std::unique_ptr<Job> job) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return queue_.size() < kMaxQueued; });
  queue_.push_back(std::move(job));
  changed_.notify_all();
}

bool ExecutorPool::is_idle() {
  const std::lock_guard lock(mutex_);
  return queue_.empty() && running_ == 0;
}

void ExecutorPool::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
    if (queue_.empty()) return;
    std::unique_ptr<Job> job = std::move(queue_.front());
    queue_.pop_front();
    ++running_;
    changed_.notify_all();
    lock.unlock();
    worker_.execute(*job);
    job.reset();
    lock.lock();
    --running_;
  }
}

}  // namespace manta

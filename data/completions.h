// What has become ready, for one coroutine that waits for any of many things: each is watched once, however long it takes.
//
// Threads: things become ready on any thread; `next` belongs to the coroutine's.
#pragma once

#include <manta/async.h>

#include <coroutine>
#include <deque>
#include <memory>
#include <mutex>

namespace manta::data {

struct Completion {
  enum class Of : uint8_t { kCall, kWorker, kDelivered, kDeliveryLost };
  Of of = Of::kCall;
  uint64_t id = 0;
};

class Completions
    : public std::enable_shared_from_this<Completions> {  // shared with the callbacks of what is still under way
 public:
  /// Reports `completion` when the object behind the handle is ready, be it a value or an error.
  void watch(const detail::Handle& handle, Completion completion) {
    detail::on_ready(handle, &Completions::fire, new Watch{shared_from_this(), completion});
  }

  void push(Completion completion) {
    const std::lock_guard lock(mutex_);
    ready_.push_back(completion);
    if (waiter_) loop_->post(std::exchange(waiter_, nullptr));
  }

  /// The coroutine that waited is no more.
  void abandon() {
    const std::lock_guard lock(mutex_);
    waiter_ = nullptr;
  }

  /// `Completion c = co_await completions.next();`
  auto next() { return Awaiter{*this}; }

 private:
  struct Watch {
    std::shared_ptr<Completions> to;
    Completion completion;
  };
  struct Awaiter {
    Completions& of;
    bool await_ready() const { return false; }
    bool await_suspend(std::coroutine_handle<> waiter) {
      const std::lock_guard lock(of.mutex_);
      if (!of.ready_.empty()) return false;
      of.loop_ = detail::Loop::current();
      of.waiter_ = waiter;
      return true;
    }
    Completion await_resume() {
      const std::lock_guard lock(of.mutex_);
      const Completion first = of.ready_.front();
      of.ready_.pop_front();
      return first;
    }
  };

  static void fire(void* context) {
    const std::unique_ptr<Watch> watch(static_cast<Watch*>(context));
    watch->to->push(watch->completion);
  }

  std::mutex mutex_;
  std::deque<Completion> ready_;  // bounded by what is watched
  std::coroutine_handle<> waiter_;
  detail::Loop* loop_ = nullptr;
};

}  // namespace manta::data

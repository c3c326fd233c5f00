// Coroutines' ready queues: completions, from whatever thread, hand a coroutine back to the thread that runs it.
#include <manta/async.h>

#include <deque>
#include <mutex>

#include "actors/runtime.h"

namespace manta::detail {

struct Loop::State {
  std::mutex mutex;
  std::deque<std::coroutine_handle<>> ready;  // bounded by the coroutines that wait

  void post(std::coroutine_handle<> waiter) {
    const std::lock_guard lock(mutex);
    ready.push_back(waiter);
  }
};

namespace {

thread_local Loop* t_loop = nullptr;

/// One suspended coroutine. Several objects may race to wake it; the first does.
struct Wake {
  std::shared_ptr<Loop::State> loop;
  std::coroutine_handle<> waiter;
  std::atomic<int> users;
  std::atomic<bool> fired{false};
};

void wake(void* context) {
  auto* const wake = static_cast<Wake*>(context);
  if (!wake->fired.exchange(true)) wake->loop->post(wake->waiter);
  if (wake->users.fetch_sub(1) == 1) delete wake;
}

}  // namespace

Loop::Loop() : state_(std::make_shared<State>()), outer_(t_loop) { t_loop = this; }
Loop::~Loop() { t_loop = outer_; }
Loop* Loop::current() {
  if (t_loop == nullptr) die("a coroutine awaits a Ref outside Async::run");
  return t_loop;
}

void Loop::post(std::coroutine_handle<> ready) { state_->post(ready); }

void Loop::run_until(const bool& done) {
  const auto is_there = [this] {
    const std::lock_guard lock(state_->mutex);
    return !state_->ready.empty();
  };
  while (!done) {
    Runtime::get().idle_until(is_there);
    std::coroutine_handle<> next;
    {
      const std::lock_guard lock(state_->mutex);
      next = state_->ready.front();
      state_->ready.pop_front();
    }
    next.resume();
  }
}

void resume_when_ready(const Handle& handle, std::coroutine_handle<> waiter) {
  on_ready(handle, &wake, new Wake{Loop::current()->state(), waiter, 1});
}

void resume_when_any_ready(const std::vector<Handle>& handles, std::coroutine_handle<> waiter) {
  auto* const shared = new Wake{Loop::current()->state(), waiter, static_cast<int>(handles.size())};
  for (const Handle& handle : handles) on_ready(handle, &wake, shared);
}

}  // namespace manta::detail

// Coroutines' ready queues: completions, from whatever thread, hand a coroutine back to the thread that runs it.
#include <manta/async.h>

#include <condition_variable>
#include <deque>
#include <mutex>

#include "actors/runtime.h"

namespace manta::detail {

struct Loop::State {
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<std::coroutine_handle<>> ready;  // bounded by the coroutines that wait
};

namespace {

thread_local Loop* t_loop = nullptr;

/// One suspended coroutine. Several objects may race to wake it; the first does.
struct Wake {
  Loop* loop;
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

void Loop::post(std::coroutine_handle<> ready) {
  const std::lock_guard lock(state_->mutex);
  state_->ready.push_back(ready);
  state_->changed.notify_one();
}

void Loop::run_until(const bool& done) {
  while (!done) {
    std::coroutine_handle<> next;
    {
      std::unique_lock lock(state_->mutex);
      state_->changed.wait(lock, [&] { return !state_->ready.empty(); });  // unbounded on purpose: the user's own awaits set deadlines
      next = state_->ready.front();
      state_->ready.pop_front();
    }
    next.resume();
  }
}

void resume_when_ready(const Handle& handle, std::coroutine_handle<> waiter) {
  Loop* const loop = Loop::current();
  on_ready(handle, &wake, new Wake{loop, waiter, 1});
}

void resume_when_any_ready(const std::vector<Handle>& handles, std::coroutine_handle<> waiter) {
  Loop* const loop = Loop::current();
  auto* const shared = new Wake{loop, waiter, static_cast<int>(handles.size())};
  for (const Handle& handle : handles) on_ready(handle, &wake, shared);
}

}  // namespace manta::detail

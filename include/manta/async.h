// Coroutines: Async<T> is a computation that can wait for Refs without holding a thread.
//
//   manta::Async<int> program() { co_return co_await manta::remote<&add>(1, 2); }
//
// An Async starts when it is awaited or run, and runs on the thread that runs its outermost Async: nothing of it needs a
// lock. Parameters of coroutines are taken by value; a lambda with captures must not be a coroutine (its captures die
// first).
#pragma once

#include <manta/ref.h>

#include <coroutine>
#include <exception>
#include <optional>
#include <tuple>

namespace manta {

template <typename T = void>
class Async;

namespace detail {

/// The coroutines of one thread that are ready to go on. Made by `run_to_end`; completions post to it from any thread.
class Loop {
 public:
  Loop();
  ~Loop();
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;
  static Loop* current();
  void post(std::coroutine_handle<> ready);
  /// Runs what is ready until `done`.
  void run_until(const bool& done);

  struct State;
  /// What completions post to: it outlives the loop while one of them is under way.
  [[nodiscard]] const std::shared_ptr<State>& state() const { return state_; }

 private:
  std::shared_ptr<State> state_;
  Loop* outer_;
};

/// Resumes `waiter` on its own loop once the object is ready.
void resume_when_ready(const Handle& handle, std::coroutine_handle<> waiter);
/// The same, once, when the first of several is.
void resume_when_any_ready(const std::vector<Handle>& handles, std::coroutine_handle<> waiter);

struct FinalAwaiter {
  bool await_ready() const noexcept { return false; }
  template <typename Promise>
  std::coroutine_handle<> await_suspend(std::coroutine_handle<Promise> finished) const noexcept {
    auto& promise = finished.promise();
    if (promise.done != nullptr) *promise.done = true;
    return promise.continuation ? promise.continuation : std::noop_coroutine();
  }
  void await_resume() const noexcept {}
};

struct PromiseBase {
  std::coroutine_handle<> continuation;
  bool* done = nullptr;
  std::exception_ptr error;
  std::suspend_always initial_suspend() const noexcept { return {}; }
  FinalAwaiter final_suspend() const noexcept { return {}; }
  void unhandled_exception() noexcept { error = std::current_exception(); }
};

template <typename T>
struct Promise : PromiseBase {
  std::optional<T> value;
  Async<T> get_return_object();
  template <typename U>
  void return_value(U&& given) {
    value.emplace(std::forward<U>(given));
  }
  T take() {
    if (error) std::rethrow_exception(error);
    return std::move(*value);
  }
};
template <>
struct Promise<void> : PromiseBase {
  Async<void> get_return_object();
  void return_void() const noexcept {}
  void take() const {
    if (error) std::rethrow_exception(error);
  }
};

}  // namespace detail

template <typename T>
class [[nodiscard]] Async {
 public:
  using promise_type = detail::Promise<T>;
  using value_type = T;
  explicit Async(std::coroutine_handle<promise_type> handle) : handle_(handle) {}
  Async(Async&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Async& operator=(Async other) noexcept { return std::swap(handle_, other.handle_), *this; }
  ~Async() {
    if (handle_) handle_.destroy();
  }

  bool await_ready() const noexcept { return handle_.done(); }
  std::coroutine_handle<> await_suspend(std::coroutine_handle<> waiter) noexcept {
    handle_.promise().continuation = waiter;
    return handle_;
  }
  T await_resume() { return handle_.promise().take(); }

  /// Runs it to its end on this thread, which may run other ready coroutines of its own meanwhile.
  T run() && {
    bool done = false;
    detail::Loop loop;
    handle_.promise().done = &done;
    handle_.resume();
    loop.run_until(done);
    return handle_.promise().take();
  }

 private:
  std::coroutine_handle<promise_type> handle_;
};

namespace detail {

template <typename T>
Async<T> Promise<T>::get_return_object() {
  return Async<T>(std::coroutine_handle<Promise<T>>::from_promise(*this));
}
inline Async<void> Promise<void>::get_return_object() {
  return Async<void>(std::coroutine_handle<Promise<void>>::from_promise(*this));
}

template <typename T>
struct RefAwaiter {
  Ref<T> ref;
  explicit RefAwaiter(Ref<T> awaited) : ref(std::move(awaited)) {}
  bool await_ready() const { return ref.is_ready(); }
  void await_suspend(std::coroutine_handle<> waiter) const { resume_when_ready(ref.handle(), waiter); }
  T await_resume() const { return ref.get(); }
};

// The awaiters below have constructors: GCC 12 destroys the members of an aggregate in a co_await operand twice.

/// Waits for an object, whether it becomes a value or an error.
struct Settled {
  Handle handle;
  explicit Settled(Handle awaited) : handle(std::move(awaited)) {}
  bool await_ready() const { return is_ready(handle.get()); }
  void await_suspend(std::coroutine_handle<> waiter) const { resume_when_ready(handle, waiter); }
  void await_resume() const noexcept {}
};

/// Waits for the first of several.
struct FirstOf {
  std::vector<Handle> handles;
  explicit FirstOf(std::vector<Handle> awaited) : handles(std::move(awaited)) {}
  bool await_ready() const { return first() < handles.size(); }
  void await_suspend(std::coroutine_handle<> waiter) const { resume_when_any_ready(handles, waiter); }
  size_t await_resume() const { return first(); }

 private:
  size_t first() const {
    size_t i = 0;
    while (i < handles.size() && !is_ready(handles[i].get())) ++i;
    return i;
  }
};

/// What a group hands to `all`: void results become std::monostate.
template <typename T>
using Held = std::conditional_t<std::is_void_v<T>, std::monostate, T>;
template <typename T>
Held<T> held(const Ref<T>& ref) {
  if constexpr (std::is_void_v<T>) {
    ref.get();
    return {};
  } else {
    return ref.get();
  }
}

}  // namespace detail

/// Waits without holding the thread; throws as `get` does.
template <typename T>
detail::RefAwaiter<T> operator co_await(Ref<T> ref) {
  return detail::RefAwaiter<T>(std::move(ref));
}

/// `auto [a, b] = co_await manta::all(ref_a, ref_b);` throws the first error in argument order once all are done.
template <typename... T>
Async<std::tuple<detail::Held<T>...>> all(Ref<T>... refs) {
  const std::vector<detail::Handle> handles{refs.handle()...};
  for (const detail::Handle& handle : handles) {
    detail::Settled settled(handle);
    co_await settled;
  }
  co_return std::tuple<detail::Held<T>...>(detail::held(refs)...);
}
template <typename T>
Async<std::vector<T>> all(std::vector<Ref<T>> refs) {
  for (const Ref<T>& ref : refs) {
    detail::Settled settled(ref.handle());
    co_await settled;
  }
  co_return get(refs);
}

/// The index of a Ref that is ready (value or error); the first in order when several are.
template <typename T>
Async<size_t> any(std::vector<Ref<T>> refs) {
  std::vector<detail::Handle> handles;
  for (const Ref<T>& ref : refs) handles.push_back(ref.handle());
  detail::FirstOf first(std::move(handles));
  co_return co_await first;
}
template <typename... T>
Async<size_t> any(Ref<T>... refs) {
  detail::FirstOf first({refs.handle()...});
  co_return co_await first;
}

}  // namespace manta

// Streaming returns: a task that is a generator, and the Stream its caller reads.
//
//   manta::Generator<Row> rows(std::string path) { for (...) co_yield row; }
//   for (manta::Ref<Row> row : manta::remote<&rows>(path)) use(row.get());
//
// Each item is an object of its own, available as soon as it was yielded. The producer runs at most `stream_buffer` items
// ahead.
#pragma once

#include <manta/ref.h>

#include <coroutine>
#include <exception>
#include <iterator>

namespace manta {

/// What a generator function returns. Lazy: runs between one item and the next. Move-only; one thread.
template <typename T>
class [[nodiscard]] Generator {
 public:
  struct promise_type {
    const T* current = nullptr;
    std::exception_ptr error;
    Generator get_return_object() { return Generator(std::coroutine_handle<promise_type>::from_promise(*this)); }
    std::suspend_always initial_suspend() const noexcept { return {}; }
    std::suspend_always final_suspend() const noexcept { return {}; }
    std::suspend_always yield_value(const T& value) noexcept {
      current = &value;
      return {};
    }
    void return_void() const noexcept {}
    void unhandled_exception() noexcept { error = std::current_exception(); }
  };

  using value_type = T;
  explicit Generator(std::coroutine_handle<promise_type> handle) : handle_(handle) {}
  Generator(Generator&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Generator& operator=(Generator other) noexcept { return std::swap(handle_, other.handle_), *this; }
  ~Generator() {
    if (handle_) handle_.destroy();
  }

  /// The next item, or null at the end; valid until the next call. Rethrows what the generator threw.
  const T* next() {
    if (handle_.done()) return nullptr;
    handle_.resume();
    if (handle_.promise().error) std::rethrow_exception(handle_.promise().error);
    return handle_.done() ? nullptr : handle_.promise().current;
  }

 private:
  std::coroutine_handle<promise_type> handle_;
};

/// The reader's end. Items arrive in order; `next` waits for one. Dropping it tells the producer to stop.
template <typename T>
class [[nodiscard]] Stream {
 public:
  using value_type = T;
  explicit Stream(detail::Handle call) : state_(std::make_shared<State>(State{std::move(call), 0})) {}

  /// The next item, or nothing at the end. Throws the producer's error, and Error(kTimeout) when the time is up.
  [[nodiscard]] std::optional<Ref<T>> next(std::chrono::milliseconds timeout = std::chrono::milliseconds::max()) {
    Status status;
    detail::Handle item = detail::next_stream_item(state_->call, state_->index, detail::deadline_in(timeout), status);
    throw_if_error(status);
    if (!item) return std::nullopt;
    ++state_->index;
    return Ref<T>(std::move(item));
  }

  class Iterator {
   public:
    using iterator_category = std::input_iterator_tag;
    using value_type = Ref<T>;
    using difference_type = std::ptrdiff_t;
    explicit Iterator(Stream& stream) : stream_(&stream), item_(stream.next()) {}
    const Ref<T>& operator*() const { return *item_; }
    Iterator& operator++() { return item_ = stream_->next(), *this; }
    bool operator==(std::default_sentinel_t) const { return !item_.has_value(); }

   private:
    Stream* stream_;
    std::optional<Ref<T>> item_;
  };
  Iterator begin() { return Iterator(*this); }
  std::default_sentinel_t end() const { return {}; }

 private:
  struct State {
    detail::Handle call;
    uint64_t index;
    State(detail::Handle c, uint64_t i) : call(std::move(c)), index(i) {}
    State(const State&) = delete;
    State(State&&) noexcept = default;
    State& operator=(const State&) = delete;
    ~State() {
      if (call) detail::close_stream(call);
    }
  };
  std::shared_ptr<State> state_;
};

}  // namespace manta

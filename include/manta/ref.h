// Ref<T>: a promise of a T that some task, actor or `put` makes, somewhere in the cluster.
//
// A Ref is an argument wherever a T is, may sit in containers and structs, be returned, stored in an actor and passed on.
// The object lives while any Ref to it does, in any process. Copying a Ref costs an atomic increment.
//
// A value above 100 KiB lies in the store of the node that made it, and can be lost with that node or with a damaged spill
// file. If a task returned it that may be retried, reading it runs the task again (and those that made its arguments, where
// these are lost too): the read takes longer, and is_ready() stays true. A task should therefore return the same each time.
// What was put, what an actor's method returned and items of streams are not made again: then reading gives kLost and says
// why.
//
// Thread safety: one Ref is like one shared_ptr (copies are independent); `get` may be called from any thread.
#pragma once

#include <manta/detail/runtime.h>
#include <manta/error.h>

#include <algorithm>
#include <optional>
#include <span>
#include <vector>

namespace manta {

template <typename T>
class Ref {
 public:
  using value_type = T;
  Ref() = default;
  explicit Ref(detail::Handle handle) : handle_(std::move(handle)) {}

  /// Waits for the value. Numbers, text and structs are decoded into a new T; Buffer, Array and Arrow data are read-only
  /// views of shared memory. Throws Error when the task failed, was cancelled or its object is lost for good.
  T get() const { return value_or_throw(result()); }

  /// As `get`, without throwing; kTimeout when the deadline passes first.
  [[nodiscard]] Result<T> result(std::chrono::milliseconds timeout = std::chrono::milliseconds::max()) const;

  /// Whether the value (or its error) is there, waiting at most so long.
  [[nodiscard]] bool wait(std::chrono::milliseconds timeout) const {
    detail::ObjectEntry* entry = handle_.get();
    return detail::await_some({&entry, 1}, 1, detail::deadline_in(timeout)) == 1;
  }
  [[nodiscard]] bool is_ready() const { return detail::is_ready(handle_.get()); }

  /// Asks for the work behind it to stop. Queued work never starts; running work sees `manta::cancelled()`; `force` kills
  /// its process. The Ref then fails with kCancelled, unless the result came first.
  Status cancel(bool force = false) const { return detail::cancel(handle_, force); }

  [[nodiscard]] ObjectId id() const { return handle_ ? detail::id_of(handle_.get()) : ObjectId{}; }
  [[nodiscard]] const detail::Handle& handle() const { return handle_; }
  explicit operator bool() const { return static_cast<bool>(handle_); }

 private:
  detail::Handle handle_;
};

namespace detail {

template <typename T>
Result<T> decode_value(const Value& value) {
  Decoder in(value.blob, value.owner);
  if constexpr (std::is_void_v<T>) {
    return in.status();
  } else {
    T out = Codec<T>::decode(in);
    if (!in.ok()) return in.status();
    return out;
  }
}

}  // namespace detail

template <typename T>
Result<T> Ref<T>::result(std::chrono::milliseconds timeout) const {
  Result<detail::Value> value = detail::await_value(handle_, detail::deadline_in(timeout));
  if (!value.ok()) return value.status();
  return detail::decode_value<T>(*value);
}

/// The result of work that returns nothing: that it is done.
template <>
class Ref<void> {
 public:
  using value_type = void;
  Ref() = default;
  explicit Ref(detail::Handle handle) : handle_(std::move(handle)) {}
  void get() const { throw_if_error(result()); }
  [[nodiscard]] Status result(std::chrono::milliseconds timeout = std::chrono::milliseconds::max()) const {
    return detail::await_value(handle_, detail::deadline_in(timeout)).status();
  }
  [[nodiscard]] bool wait(std::chrono::milliseconds timeout) const {
    detail::ObjectEntry* entry = handle_.get();
    return detail::await_some({&entry, 1}, 1, detail::deadline_in(timeout)) == 1;
  }
  [[nodiscard]] bool is_ready() const { return detail::is_ready(handle_.get()); }
  Status cancel(bool force = false) const { return detail::cancel(handle_, force); }
  [[nodiscard]] ObjectId id() const { return handle_ ? detail::id_of(handle_.get()) : ObjectId{}; }
  [[nodiscard]] const detail::Handle& handle() const { return handle_; }
  explicit operator bool() const { return static_cast<bool>(handle_); }

 private:
  detail::Handle handle_;
};

template <typename T>
struct Codec<Ref<T>> {
  static void encode(Encoder& out, const Ref<T>& value) { detail::encode_ref(out, value.handle()); }
  static Ref<T> decode(Decoder& in) { return Ref<T>(detail::decode_ref(in)); }
};

/// Makes an object of a value. Small ones stay in this process and are inlined into the calls that use them; big ones are
/// written once, into shared memory. Throws Error(kFull) when the store has no room.
template <typename T>
[[nodiscard]] Ref<T> put(const T& value) {
  Encoder out;
  Codec<T>::encode(out, value);
  return Ref<T>(detail::put(out));
}

/// Which Refs have come and which have not, each in the order they were given.
template <typename T>
struct Waited {
  std::vector<Ref<T>> ready;
  std::vector<Ref<T>> pending;
};

/// Waits until `count` of the Refs are ready or the time is up. Linear in their number.
template <typename T>
[[nodiscard]] Waited<T> wait(std::span<const Ref<T>> refs, size_t count,
                             std::chrono::milliseconds timeout = std::chrono::milliseconds::max()) {
  std::vector<detail::ObjectEntry*> entries;
  entries.reserve(refs.size());
  for (const Ref<T>& ref : refs) entries.push_back(ref.handle().get());
  detail::await_some(entries, std::min(count, refs.size()), detail::deadline_in(timeout));
  Waited<T> out;
  for (const Ref<T>& ref : refs) (ref.is_ready() ? out.ready : out.pending).push_back(ref);
  return out;
}
template <typename T>
[[nodiscard]] Waited<T> wait(const std::vector<Ref<T>>& refs, size_t count,
                             std::chrono::milliseconds timeout = std::chrono::milliseconds::max()) {
  return wait(std::span<const Ref<T>>(refs), count, timeout);
}

namespace detail {
/// What other processes own, and what lies on other nodes, is asked for at once, instead of in one trip each.
template <typename T>
void ask_for(const std::vector<Ref<T>>& refs) {
  std::vector<ObjectEntry*> entries;
  for (const Ref<T>& ref : refs)
    if (!is_here(ref.handle().get())) entries.push_back(ref.handle().get());
  if (entries.size() > 1) ask_for(entries);
}
}  // namespace detail

/// The values of all Refs, in order; throws the first error.
template <typename T>
std::vector<T> get(const std::vector<Ref<T>>& refs) {
  detail::ask_for(refs);
  std::vector<T> out;
  out.reserve(refs.size());
  for (const Ref<T>& ref : refs) out.push_back(ref.get());
  return out;
}
inline void get(const std::vector<Ref<void>>& refs) {
  detail::ask_for(refs);
  for (const Ref<void>& ref : refs) ref.get();
}

/// Whether somebody cancelled the task or call that this thread runs. Long loops ask it now and then and return.
[[nodiscard]] inline bool cancelled() noexcept { return detail::is_cancelled(); }

}  // namespace manta

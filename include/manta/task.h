// Tasks: functions that run in another process.
//
//   int add(int a, int b);
//   manta::Ref<int> sum = manta::remote<&add>(1, 2);
//   auto strong = manta::remote<&train>.with({.gpus = 0.5, .retries = 3})(sum);
//
// Naming remote<&f> enlists f before main in every process of the binary: there is nothing to register. The identity is
// typeid(Task<&f>).name(); two functions with one identity end the program at start, naming the symbol. Code in a static
// library that nothing references is dropped by the linker: list it with `manta::exports<&f, &g>`.
//
// A call never blocks for the work; it may wait for room when too much is queued. Errors of the work come with the Ref.
// A parameter of type T takes a T, what converts to T, or a Ref<T> (the task then starts when the value is there).
#pragma once

#include <manta/async.h>
#include <manta/ref.h>
#include <manta/stream.h>

#include <concepts>
#include <type_traits>
#include <utility>

namespace manta {
namespace detail {

/// How a function's result reaches the caller.
template <typename R>
struct Returned {
  using value = R;
  using ref = Ref<R>;
  static constexpr int kCount = 1;
};
template <typename T>
struct Returned<Async<T>> : Returned<T> {};
template <typename T>
struct Returned<Generator<T>> {
  using value = T;
  using ref = Stream<T>;
  static constexpr int kCount = -1;
};

/// A T by value, or a Ref to one.
template <typename T>
class Arg {
  static_assert(
      Travels<T>,
      "manta: this argument type does not travel between processes; make it an aggregate of members that do, or give it "
      "MSGPACK_DEFINE (see manta/codec.h)");

 public:
  Arg(const Ref<T>& ref) { argument_.ref = ref.handle(); }  // NOLINT(google-explicit-constructor)
  template <typename U>
  requires(std::convertible_to<U&&, T> && !std::same_as<std::remove_cvref_t<U>, Ref<T>>)
      Arg(U&& value) {  // NOLINT(google-explicit-constructor,bugprone-forwarding-reference-overload)
    if constexpr (std::same_as<std::remove_cvref_t<U>, T>) {
      Codec<T>::encode(encoder_, value);
      argument_ = make_argument(encoder_, true);
    } else {
      const T converted = static_cast<T>(std::forward<U>(value));
      Codec<T>::encode(encoder_, converted);
      argument_ = make_argument(encoder_, false);
    }
  }
  Arg(const Arg&) = delete;
  Arg& operator=(const Arg&) = delete;
  Argument&& take() { return std::move(argument_); }

 private:
  Encoder encoder_;  // with the argument, which may point to it
  Argument argument_;
};

template <typename... Args>
std::vector<Argument> collect(Args&... args) {
  std::vector<Argument> out;
  out.reserve(sizeof...(Args));
  (out.push_back(args.take()), ...);
  return out;
}

template <typename T>
T read_argument(const Invocation& call, size_t index) {
  Result<T> value = decode_value<T>(call.argument(index));
  if (!value.ok()) throw Error(value.status().with_context("argument " + std::to_string(index + 1)));
  return std::move(value).value();
}

template <typename T>
void emit_value(Invocation& call, size_t index, const T& value) {
  Encoder out;
  Codec<T>::encode(out, value);
  call.emit(index, out);
}

template <typename Tuple, size_t... I>
void emit_each(Invocation& call, const Tuple& values, std::index_sequence<I...>) {
  (emit_value(call, I, std::get<I>(values)), ...);
}

template <typename T, template <typename...> class Of>
inline constexpr bool is_instance = is_a<T, Of>;

/// Runs `invoke` and hands its result over, whatever kind it is.
template <typename R, bool kEach, typename Invoke>
void complete(Invocation& call, Invoke&& invoke) {
  if constexpr (std::is_void_v<R>) {
    invoke();
    call.emit(0, Encoder());
  } else if constexpr (is_instance<R, Async>) {
    complete<typename R::value_type, kEach>(call, [&] { return invoke().run(); });
  } else if constexpr (is_instance<R, Generator>) {
    R generator = invoke();
    size_t index = 0;
    while (const auto* item = generator.next()) emit_value(call, index++, *item);
  } else if constexpr (kEach) {
    const R values = invoke();
    emit_each(call, values, std::make_index_sequence<std::tuple_size_v<R>>{});
  } else {
    emit_value(call, 0, static_cast<const std::remove_cvref_t<R>&>(invoke()));
  }
}

template <typename R>
inline constexpr int each_count = 0;
template <typename... T>
inline constexpr int each_count<std::tuple<T...>> = sizeof...(T);

template <typename Tag>
struct Registered {
  static const bool enlisted;
};
template <typename Tag>
const bool Registered<Tag>::enlisted = enlist(Tag::function);

template <typename R, size_t... I>
auto refs_of_tuple(std::array<Handle, sizeof...(I)>& handles, std::index_sequence<I...>) {
  return std::tuple<Ref<std::tuple_element_t<I, R>>...>(Ref<std::tuple_element_t<I, R>>(std::move(handles[I]))...);
}

/// Turns a submission that makes handles into the Ref, Stream or tuple of Refs the caller sees.
template <typename R, bool kEach, typename Submit>
auto submitted(Submit&& submit) {
  using Info = Returned<std::remove_cvref_t<R>>;
  if constexpr (kEach) {
    using Tuple = typename Info::value;
    std::array<Handle, each_count<Tuple>> handles;
    submit(each_count<Tuple>, handles.data());
    return refs_of_tuple<Tuple>(handles, std::make_index_sequence<each_count<Tuple>>{});
  } else {
    Handle handle;
    submit(Info::kCount, &handle);
    return typename Info::ref(std::move(handle));
  }
}

/// The signature-dependent part of a remote function; shared by all functions of one signature.
template <typename R, typename... P>
struct Signature {
  using result = R;
  using value = typename Returned<std::remove_cvref_t<R>>::value;
  static_assert(
      std::is_void_v<value> || Travels<std::remove_cvref_t<value>>,
      "manta: this return type does not travel between processes; make it an aggregate of members that do, or give it "
      "MSGPACK_DEFINE (see manta/codec.h)");

  template <bool kEach>
  static auto submit(const Function& function, const TaskOptions* options, Arg<std::remove_cvref_t<P>>... args) {
    return submitted<R, kEach>(
        [&](int returns, Handle* out) { submit_task(function, options, collect(args...), returns, out); });
  }

  template <bool kEach, typename Callable>
  static void invoke(Invocation& call, Callable&& callable) {
    invoke_with<kEach>(call, callable, std::index_sequence_for<P...>{});
  }

 private:
  template <bool kEach, typename Callable, size_t... I>
  static void invoke_with(Invocation& call, Callable& callable, std::index_sequence<I...>) {
    if (call.argument_count() != sizeof...(P))
      throw Error(Status(Code::kInvalid, "the call has another number of arguments"));
    // Braces: arguments are read in order.
    std::tuple<std::remove_cvref_t<P>...> arguments{read_argument<std::remove_cvref_t<P>>(call, I)...};
    complete<R, kEach>(call, [&]() -> R { return callable(static_cast<P&&>(std::get<I>(arguments))...); });
  }
};

template <typename F>
struct SignatureOf;
template <typename R, typename... P>
struct SignatureOf<R (*)(P...)> : Signature<R, P...> {
  using type = Signature<R, P...>;
  using plain = R(P...);
};
template <typename R, typename... P>
struct SignatureOf<R (*)(P...) noexcept> : SignatureOf<R (*)(P...)> {};
template <typename C, typename R, typename... P>
struct SignatureOf<R (C::*)(P...) const> : SignatureOf<R (*)(P...)> {};
template <typename C, typename R, typename... P>
struct SignatureOf<R (C::*)(P...)> : SignatureOf<R (*)(P...)> {};
template <typename C, typename R, typename... P>
struct SignatureOf<R (C::*)(P...) const noexcept> : SignatureOf<R (*)(P...)> {};
template <typename C, typename R, typename... P>
struct SignatureOf<R (C::*)(P...) noexcept> : SignatureOf<R (*)(P...)> {};
template <typename F>
requires requires { &F::operator(); }
struct SignatureOf<F> : SignatureOf<decltype(&F::operator())> {};

/// A function known at compile time. The typeid of this type is the function's identity.
template <auto Fn, bool kEach = false>
struct Task {
  using Sig = typename SignatureOf<decltype(Fn)>::type;
  static void run(Invocation& call) { Sig::template invoke<kEach>(call, Fn); }
  static const Function function;
};
template <auto Fn, bool kEach>
const Function Task<Fn, kEach>::function{
    typeid(Task<Fn, kEach>).name(), &Task<Fn, kEach>::run, FunctionKind::kTask,
    kEach ? each_count<typename Returned<typename SignatureOf<decltype(Fn)>::result>::value>
          : Returned<typename SignatureOf<decltype(Fn)>::result>::kCount,
    typeid(typename SignatureOf<decltype(Fn)>::plain).name()};

/// A closure: its type is the identity, its captures travel as the first argument.
template <typename F>
struct ClosureTask {
  using Sig = typename SignatureOf<F>::type;
  static void run(Invocation& call) { run_with(call, static_cast<Sig*>(nullptr)); }
  static const Function function;

 private:
  template <typename R, typename... P>
  static void run_with(Invocation& call, Signature<R, P...>*) {
    const auto outer = [](F closure, P... args) -> R { return closure(static_cast<P&&>(args)...); };
    Signature<R, F, P...>::template invoke<false>(call, outer);
  }
};
template <typename F>
const Function ClosureTask<F>::function{typeid(ClosureTask<F>).name(), &ClosureTask<F>::run, FunctionKind::kTask,
                                        Returned<typename SignatureOf<F>::result>::kCount,
                                        typeid(typename SignatureOf<F>::plain).name()};

}  // namespace detail

/// A remote function with its options. Made by `remote<&f>.with(...)`; may be kept and called many times.
template <auto Fn, bool kEach = false>
class RemoteWith {
 public:
  explicit RemoteWith(TaskOptions options) : options_(options) {}
  template <typename... Args>
  auto operator()(Args&&... args) const {
    (void)&detail::Registered<detail::Task<Fn, kEach>>::enlisted;
    return detail::Task<Fn, kEach>::Sig::template submit<kEach>(detail::Task<Fn, kEach>::function, &options_,
                                                                std::forward<Args>(args)...);
  }
  /// For functions that return a std::tuple: each element becomes an object of its own, and the call a tuple of Refs.
  [[nodiscard]] RemoteWith<Fn, true> each() const { return RemoteWith<Fn, true>(options_); }

 private:
  TaskOptions options_;
};

template <auto Fn>
struct Remote {
  template <typename... Args>
  auto operator()(Args&&... args) const {
    (void)&detail::Registered<detail::Task<Fn>>::enlisted;
    return detail::Task<Fn>::Sig::template submit<false>(detail::Task<Fn>::function, nullptr, std::forward<Args>(args)...);
  }
  [[nodiscard]] RemoteWith<Fn> with(TaskOptions options) const { return RemoteWith<Fn>(options); }
  [[nodiscard]] RemoteWith<Fn, true> each() const { return RemoteWith<Fn, true>(TaskOptions{}); }
};

/// `remote<&f>(args...)`: runs f in another process and returns a Ref to its result (a Stream for a Generator).
template <auto Fn>
inline constexpr Remote<Fn> remote{};

/// A closure to be run remotely: `manta::closure([k](int x) { return k * x; })(5)`. All it captures must be trivially
/// copyable.
template <typename F>
class RemoteClosure {
 public:
  RemoteClosure(F closure, std::optional<TaskOptions> options)
      : closure_(std::move(closure)), options_(options) {}
  [[nodiscard]] RemoteClosure with(TaskOptions options) const { return RemoteClosure(closure_, options); }
  template <typename... Args>
  auto operator()(Args&&... args) const {
    (void)&detail::Registered<detail::ClosureTask<F>>::enlisted;
    return submit(static_cast<typename detail::SignatureOf<F>::type*>(nullptr), std::forward<Args>(args)...);
  }

 private:
  template <typename R, typename... P, typename... Args>
  auto submit(detail::Signature<R, P...>*, Args&&... args) const {
    return detail::Signature<R, F, P...>::template submit<false>(
        detail::ClosureTask<F>::function, options_ ? &*options_ : nullptr, closure_, std::forward<Args>(args)...);
  }
  F closure_;
  std::optional<TaskOptions> options_;
};
template <typename F>
[[nodiscard]] RemoteClosure<F> closure(F f) {
  return RemoteClosure<F>(std::move(f), std::nullopt);
}

/// Calls a function by its C++ name, for callers that cannot name it at compile time: `remote_by_name<int(int,
/// int)>("add")(1, 2)`. Throws Error(kNotFound) when the program has no such function, kInvalid when its signature is
/// another.
template <typename F>
class RemoteByName;
template <typename R, typename... P>
class RemoteByName<R(P...)> {
 public:
  RemoteByName(const detail::Function& function, std::optional<TaskOptions> options)
      : function_(&function), options_(options) {}
  [[nodiscard]] RemoteByName with(TaskOptions options) const { return RemoteByName(*function_, options); }
  template <typename... Args>
  auto operator()(Args&&... args) const {
    return detail::Signature<R, P...>::template submit<false>(*function_, options_ ? &*options_ : nullptr,
                                                              std::forward<Args>(args)...);
  }

 private:
  const detail::Function* function_;
  std::optional<TaskOptions> options_;
};
template <typename F>
[[nodiscard]] RemoteByName<F> remote_by_name(std::string_view name) {
  return RemoteByName<F>(detail::function_by_name(name, typeid(F).name()), std::nullopt);
}

/// Enlists functions that only other programs' or libraries' code names: `template struct manta::exports<&f, &g>;`
template <auto... Fns>
struct exports {
  static inline const bool enlisted = (detail::Registered<detail::Task<Fns>>::enlisted && ...);
};

}  // namespace manta

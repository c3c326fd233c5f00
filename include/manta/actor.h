// Actors: an object of a plain class that lives in a process of its own and is called from anywhere.
//
//   struct Counter { int n = 0; int add(int by) { return n += by; } };
//   manta::Actor<Counter> counter = manta::spawn<Counter>();
//   int n = counter.call<&Counter::add>(2).get();
//
// Calls of one caller run in the order they were made (with max_concurrency 1). The handle is copied, stored and passed like
// a value; when the last one is gone, in any process, the actor finishes what it was sent and ends (unless detached).
//
// State that survives a restart: a class with `S save() const` and `void restore(S)` is saved after each call that changed
// anything (before the call's reply leaves) and restored after a restart; its constructor runs first.
#pragma once

#include <manta/task.h>

namespace manta {
namespace detail {

template <typename C>
concept Saves = requires(C& c, const C& cc) {
  c.restore(cc.save());
};

template <typename C>
InstanceHooks hooks_of() {
  InstanceHooks hooks;
  if constexpr (Saves<C>) {
    using State = std::remove_cvref_t<decltype(std::declval<const C&>().save())>;
    hooks.save = [](const void* instance) {
      const State state = static_cast<const C*>(instance)->save();
      Encoder out;
      Codec<State>::encode(out, state);
      return out.to_blob();
    };
    hooks.restore = [](void* instance, Decoder& in) {
      State state = Codec<State>::decode(in);
      throw_if_error(in.status());
      static_cast<C*>(instance)->restore(std::move(state));
    };
  }
  return hooks;
}

template <typename C, typename... P>
struct Constructor {
  static void run(Invocation& call) { run_with(call, std::index_sequence_for<P...>{}); }
  static const Function function;

 private:
  template <size_t... I>
  static void run_with(Invocation& call, std::index_sequence<I...>) {
    if (call.argument_count() != sizeof...(P))
      throw Error(Status(Code::kInvalid, "the constructor has another number of arguments"));
    std::tuple<P...> arguments{read_argument<P>(call, I)...};
    if constexpr (std::is_constructible_v<C, P...>) {
      call.set_instance(std::make_shared<C>(std::move(std::get<I>(arguments))...), hooks_of<C>());
    } else {
      call.set_instance(std::shared_ptr<C>(new C{std::move(std::get<I>(arguments))...}), hooks_of<C>());
    }
  }
};
template <typename C, typename... P>
const Function Constructor<C, P...>::function{typeid(Constructor<C, P...>).name(), &Constructor<C, P...>::run,
                                              FunctionKind::kConstructor, 0, typeid(C).name()};

template <typename C, auto Method, bool kEach = false>
struct MethodTask {
  using Sig = typename SignatureOf<decltype(Method)>::type;
  static void run(Invocation& call) {
    C& self = *static_cast<C*>(call.self);
    Sig::template invoke<kEach>(
        call, [&self](auto&&... args) -> decltype(auto) { return (self.*Method)(std::forward<decltype(args)>(args)...); });
  }
  template <typename R, typename... P>
  static auto submit(Signature<R, P...>*, const ActorHandle& actor, const CallOptions* options,
                     Arg<std::remove_cvref_t<P>>... args) {
    return submitted<R, kEach>(
        [&](int returns, Handle* out) { submit_call(actor, function, options, collect(args...), returns, out); });
  }
  static const Function function;
};
template <typename C, auto Method, bool kEach>
const Function MethodTask<C, Method, kEach>::function{
    typeid(MethodTask<C, Method, kEach>).name(), &MethodTask<C, Method, kEach>::run, FunctionKind::kMethod,
    kEach ? each_count<typename Returned<typename SignatureOf<decltype(Method)>::result>::value>
          : Returned<typename SignatureOf<decltype(Method)>::result>::kCount,
    typeid(typename SignatureOf<decltype(Method)>::plain).name()};

/// What a constructor argument travels as: a Ref<T> as T, an array of char as std::string.
template <typename T>
struct Travelling {
  using type = std::remove_cvref_t<T>;
};
template <typename T>
struct Travelling<Ref<T>> {
  using type = T;
};
template <typename T>
requires std::convertible_to<T, const char*>
struct Travelling<T> {
  using type = std::string;
};
template <typename T>
using travelling = typename Travelling<
    std::conditional_t<std::is_array_v<std::remove_cvref_t<T>>, std::decay_t<T>, std::remove_cvref_t<T>>>::type;

}  // namespace detail

/// A handle to a living actor. Thread safety: as a shared_ptr; calls may be made from any thread.
template <typename C>
class Actor {
 public:
  using actor_type = C;
  Actor() = default;
  explicit Actor(detail::ActorHandle handle) : handle_(std::move(handle)) {}

  /// Calls a method; returns at once with a Ref (a Stream for a Generator). In a template: `actor.template
  /// call<&C::m>(...)`.
  template <auto Method, typename... Args>
  auto call(Args&&... args) const {
    return call_as<Method, false>(std::forward<Args>(args)...);
  }
  /// For methods that return a std::tuple: each element becomes an object of its own.
  template <auto Method, typename... Args>
  auto call_each(Args&&... args) const {
    return call_as<Method, true>(std::forward<Args>(args)...);
  }

  /// The same handle with options for the calls made through it.
  [[nodiscard]] Actor with(CallOptions options) const {
    Actor copy(handle_);
    copy.options_ = std::make_shared<const CallOptions>(options);
    return copy;
  }

  /// Ends it now: calls in flight fail with kDied. With `allow_restart`, max_restarts applies.
  void kill(bool allow_restart = false) const { detail::kill_actor(handle_, allow_restart); }

  /// Waits until its constructor is done; throws what that threw, or Error(kTimeout).
  void wait_ready(std::chrono::milliseconds timeout = std::chrono::milliseconds::max()) const {
    throw_if_error(detail::await_actor(handle_, detail::deadline_in(timeout)));
  }

  [[nodiscard]] ActorId id() const { return handle_.id(); }
  [[nodiscard]] const detail::ActorHandle& handle() const { return handle_; }
  explicit operator bool() const { return static_cast<bool>(handle_); }

 private:
  template <auto Method, bool kEach, typename... Args>
  auto call_as(Args&&... args) const {
    using Call = detail::MethodTask<C, Method, kEach>;
    (void)&detail::Registered<Call>::enlisted;
    return Call::submit(static_cast<typename Call::Sig*>(nullptr), handle_, options_.get(), std::forward<Args>(args)...);
  }

  detail::ActorHandle handle_;
  std::shared_ptr<const CallOptions> options_;  // shared by the copies of a handle with options; immutable
};

template <typename C>
struct Codec<Actor<C>> {
  static void encode(Encoder& out, const Actor<C>& value) { detail::encode_actor(out, value.handle()); }
  static Actor<C> decode(Decoder& in) { return Actor<C>(detail::decode_actor(in)); }
};

template <typename C>
class SpawnWith {
 public:
  explicit SpawnWith(ActorOptions options) : options_(options) {}
  template <typename... Args>
  Actor<C> operator()(Args&&... args) const {
    using Make = detail::Constructor<C, detail::travelling<Args>...>;
    (void)&detail::Registered<Make>::enlisted;
    return Actor<C>(make<detail::travelling<Args>...>(Make::function, std::forward<Args>(args)...));
  }

 private:
  template <typename... P>
  detail::ActorHandle make(const detail::Function& constructor, detail::Arg<P>... args) const {
    return detail::create_actor(constructor, typeid(C).name(), options_, detail::collect(args...));
  }
  ActorOptions options_;
};

template <typename C>
struct Spawn {
  template <typename... Args>
  Actor<C> operator()(Args&&... args) const {
    return SpawnWith<C>(ActorOptions{})(std::forward<Args>(args)...);
  }
  [[nodiscard]] SpawnWith<C> with(ActorOptions options) const { return SpawnWith<C>(options); }
};

/// `spawn<C>(constructor arguments...)`: makes an actor. Returns at once; a constructor that throws fails the calls, and
/// wait_ready.
template <typename C>
inline constexpr Spawn<C> spawn{};

/// The living actor of that name. Throws Error(kNotFound), or kInvalid when it is of another class.
template <typename C>
[[nodiscard]] Actor<C> get_actor(const std::string& name, const std::string& name_space = "") {
  return Actor<C>(detail::find_actor(name, name_space, typeid(C).name()));
}

}  // namespace manta

// What the templates of the public headers call: the door into the runtime. Not for users.
#pragma once

#include <manta/codec.h>
#include <manta/options.h>
#include <manta/status.h>

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace manta::detail {}  // namespace manta::detail

namespace manta {
struct Bundle;
struct GroupOptions;
}  // namespace manta

namespace manta::detail {

struct ObjectEntry;
void retain(ObjectEntry* entry) noexcept;
void release(ObjectEntry* entry) noexcept;
ObjectId id_of(const ObjectEntry* entry) noexcept;

/// One counted reference to an object in this process's table.
class Handle {
 public:
  Handle() = default;
  explicit Handle(ObjectEntry* adopted) : entry_(adopted) {}
  Handle(const Handle& other) : entry_(other.entry_) {
    if (entry_ != nullptr) retain(entry_);
  }
  Handle(Handle&& other) noexcept : entry_(std::exchange(other.entry_, nullptr)) {}
  Handle& operator=(Handle other) noexcept { return std::swap(entry_, other.entry_), *this; }
  ~Handle() {
    if (entry_ != nullptr) release(entry_);
  }
  [[nodiscard]] ObjectEntry* get() const { return entry_; }
  explicit operator bool() const { return entry_ != nullptr; }

 private:
  ObjectEntry* entry_ = nullptr;
};

/// A ready object's blob. With an owner it is shared memory (or a heap block) that the owner keeps.
struct Value {
  std::span<const std::byte> blob;
  std::shared_ptr<const void> owner;
};

using Deadline = std::chrono::steady_clock::time_point;
inline constexpr Deadline kForever = Deadline::max();
inline Deadline deadline_in(std::chrono::milliseconds timeout) {
  return timeout == std::chrono::milliseconds::max() ? kForever : std::chrono::steady_clock::now() + timeout;
}

// ------------------------------------------------------------------------------------------------ functions

class Invocation;
using Thunk = void (*)(Invocation&);

enum class FunctionKind : uint8_t { kTask, kConstructor, kMethod };

/// A function of the program that other processes may call. One static instance each, enlisted before main.
struct Function {
  const char* key;  ///< typeid name: the identity, the same in every process of one binary.
  Thunk thunk;
  FunctionKind kind;
  int returns;            ///< How many objects a call makes; -1 for a stream.
  const char* signature;  ///< typeid name of R(Args...), for remote_by_name.
};
/// Two functions with one identity end the program, naming the symbol.
bool enlist(const Function& function);

/// Refuses nothing at compile time: for calls by name. Throws Error with what is there when the name or signature is wrong.
const Function& function_by_name(std::string_view name, const char* signature);

/// One argument of a call: bytes, or a reference whose value takes their place.
struct Argument {
  std::string blob;
  Handle ref;
  std::vector<Handle> inside;  ///< Refs in the blob, held until the call is over.
  const Encoder* unwritten =
      nullptr;            ///< Instead of the blob, while the submission lasts: it may be written once, into a ring.
  size_t ring_bytes = 0;  ///< Of a blob that is only there, while its call is sent.
};
/// Encodes to an inline blob, or puts what is too big for one into the store. A `value` that outlives the submission may be
/// left unwritten.
Argument make_argument(const Encoder& value, bool outlives_submission);

/// The worker's side of one call.
class Invocation {
 public:
  void* self = nullptr;  ///< The actor's instance, for methods.
  /// For constructors: takes ownership of the instance they made.
  virtual void set_instance(std::shared_ptr<void> instance, const struct InstanceHooks& hooks) = 0;
  [[nodiscard]] virtual size_t argument_count() const = 0;
  [[nodiscard]] virtual const Value& argument(size_t index) const = 0;
  /// Hands over result `index`. What the encoder points at need only live until this returns. For streams: waits for the
  /// consumer.
  virtual void emit(size_t index, const Encoder& value) = 0;

 protected:
  ~Invocation() = default;
};

/// How to save and restore an actor, when its class has save() and restore().
struct InstanceHooks {
  std::string (*save)(const void* instance) = nullptr;  ///< The state as a blob.
  void (*restore)(void* instance, Decoder& in) = nullptr;
};

// ------------------------------------------------------------------------------------------------ owner's side

/// Sends a task. Writes `function.returns` handles (or `returns`, when positive) to `out`.
void submit_task(const Function& function, const TaskOptions* options, std::vector<Argument>&& arguments, int returns,
                 Handle* out);

struct ActorRecord;
/// A counted handle to an actor; the last one gone ends it (unless detached).
class ActorHandle {
 public:
  ActorHandle() = default;
  explicit ActorHandle(std::shared_ptr<ActorRecord> record) : record_(std::move(record)) {}
  [[nodiscard]] const std::shared_ptr<ActorRecord>& record() const { return record_; }
  explicit operator bool() const { return record_ != nullptr; }
  [[nodiscard]] ActorId id() const;

 private:
  std::shared_ptr<ActorRecord> record_;
};

ActorHandle create_actor(const Function& constructor, const char* class_key, const ActorOptions& options,
                         std::vector<Argument>&& arguments);
ActorHandle find_actor(const std::string& name, const std::string& name_space, const char* class_key);
void submit_call(const ActorHandle& actor, const Function& method, const CallOptions* options,
                 std::vector<Argument>&& arguments, int returns, Handle* out);
void kill_actor(const ActorHandle& actor, bool allow_restart);
/// Waits until the actor's constructor is done; its error if it failed.
Status await_actor(const ActorHandle& actor, Deadline deadline);
void encode_actor(Encoder& out, const ActorHandle& actor);
ActorHandle decode_actor(Decoder& in);

struct GroupRecord;
using GroupHandle = std::shared_ptr<GroupRecord>;
GroupHandle create_group(const std::vector<Bundle>& bundles, const GroupOptions& options);
GroupHandle group_of(uint64_t number);
/// Waits until the head knows the group; throws Error when it was refused, or the head does not answer.
uint64_t group_number(const GroupHandle& group);
Status await_group(const GroupHandle& group, Deadline deadline);
/// An object that is ready with the group, or fails with it.
Handle group_ready(const GroupHandle& group);
bool is_group_ready(const GroupHandle& group);
std::string why_group_waits(const GroupHandle& group);
std::vector<NodeNumber> nodes_of_group(const GroupHandle& group);
void remove_group(const GroupHandle& group);

/// What the object waits for, in one sentence.
std::string explain(const Handle& handle);
std::string explain(const ActorHandle& actor);

Handle put(const Encoder& value);
/// A handle that is ready with an error; what a failed submission returns.
Handle failed(const Status& status);
Handle handle_for(const ObjectId& id);  ///< For a Ref that came in a blob: registers the borrow.
void encode_ref(Encoder& out, const Handle& handle);
Handle decode_ref(Decoder& in);

[[nodiscard]] bool is_ready(const ObjectEntry* entry) noexcept;
/// Whether reading it takes no message to anybody, as far as one sees without looking into the store.
[[nodiscard]] bool is_here(const ObjectEntry* entry) noexcept;
/// Whether it is known, without reading it, that its value is lost for good.
[[nodiscard]] bool is_lost(const Handle& handle);
Result<Value> await_value(const Handle& handle, Deadline deadline);
/// Waits until `count` of them are ready or the deadline passes. Returns how many are. Linear in the handles.
size_t await_some(std::span<ObjectEntry* const> entries, size_t count, Deadline deadline);
/// Lets the values of other processes' objects come; null ones are passed over. Does not wait.
void ask_for(std::span<ObjectEntry* const> entries);
/// Calls `ready(context)` once, from the thread that completes the object, or at once when it is ready already.
void on_ready(const Handle& handle, void (*ready)(void*), void* context);
Status cancel(const Handle& handle, bool force);

/// The consumer's end of a streaming return: items come as handles, in order. The handle of the call itself ends the stream:
/// ready with the number of items, or with the error that stopped it.
Handle next_stream_item(const Handle& stream, uint64_t index, Deadline deadline, Status& status);
/// The consumer will not read on: the producer's next item fails with kCancelled.
void close_stream(const Handle& stream);

[[nodiscard]] bool is_cancelled() noexcept;  ///< Whether somebody cancelled the call this thread runs.

}  // namespace manta::detail

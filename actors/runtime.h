// Runtime: what one process does with the public API. Two kinds: InlineRuntime (everything here and now, for a debugger) and
// NodeRuntime (a raylet, workers, rings, shared memory). detail::* of the public headers forward to the installed one.
#pragma once

#include "actors/object_entry.h"

#include <manta/placement_group.h>
#include <manta/run.h>

#include <memory>

namespace manta {

class Runtime {
 public:
  Runtime() = default;
  virtual ~Runtime() = default;
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  /// The installed one. Throws Error when `manta::run` has not been called.
  static Runtime& get();
  static bool is_installed();
  /// For the life of the program part that uses it; null takes it away.
  static void install(Runtime* runtime);

  virtual void submit_task(const detail::Function& function, const TaskOptions* options,
                           std::vector<detail::Argument>&& arguments, int returns, detail::Handle* out) = 0;
  virtual detail::ActorHandle create_actor(const detail::Function& constructor, const char* class_key,
                                           const ActorOptions& options, std::vector<detail::Argument>&& arguments) = 0;
  virtual detail::ActorHandle find_actor(const std::string& name, const std::string& name_space, const char* class_key) = 0;
  virtual void submit_call(const detail::ActorHandle& actor, const detail::Function& method, const CallOptions* options,
                           std::vector<detail::Argument>&& arguments, int returns, detail::Handle* out) = 0;
  virtual void kill_actor(const detail::ActorHandle& actor, bool allow_restart) = 0;
  virtual Status await_actor(const detail::ActorHandle& actor, detail::Deadline deadline) = 0;
  virtual void encode_actor(Encoder& out, const detail::ActorHandle& actor) = 0;
  virtual detail::ActorHandle decode_actor(Decoder& in) = 0;
  virtual void forget_actor(const ActorId& id) noexcept = 0;  ///< The last handle of this process is gone.

  virtual detail::Argument make_argument(const Encoder& value, bool outlives_submission) = 0;
  virtual detail::Handle put(const Encoder& value) = 0;
  /// Memory that can become an object where it lies; null when there is none to spare. Waits for nobody's memory.
  virtual std::shared_ptr<detail::OwnMemory> allocate(size_t size_bytes) = 0;
  virtual detail::Handle failed(const Status& status) = 0;
  virtual detail::Handle handle_for(const ObjectId& id) = 0;
  virtual void note_exported(detail::ObjectEntry& entry) = 0;
  virtual void release_exported(
      detail::ObjectEntry* entry) noexcept = 0;                  ///< One handle less to an object that others may find.
  virtual void forget(detail::ObjectEntry* entry) noexcept = 0;  ///< The last handle to one that nobody can find.

  virtual Result<detail::Value> await_value(const detail::Handle& handle, detail::Deadline deadline) = 0;
  virtual bool is_lost(detail::ObjectEntry& entry) = 0;
  virtual size_t await_some(std::span<detail::ObjectEntry* const> entries, size_t count, detail::Deadline deadline) = 0;
  virtual void ask_for(std::span<detail::ObjectEntry* const> entries) = 0;
  /// Waits on this thread for what other threads, processes and this one's own replies bring about.
  virtual void idle_until(const std::function<bool()>& done) = 0;
  virtual void on_ready(const detail::Handle& handle, void (*ready)(void*), void* context) = 0;
  virtual Status cancel(const detail::Handle& handle, bool force) = 0;
  virtual detail::Handle next_stream_item(const detail::Handle& stream, uint64_t index, detail::Deadline deadline,
                                          Status& status) = 0;
  virtual void close_stream(const detail::Handle& stream) = 0;
  [[nodiscard]] virtual bool is_cancelled() const noexcept = 0;

  virtual detail::GroupHandle create_group(const std::vector<Bundle>& bundles, const GroupOptions& options) = 0;
  virtual detail::GroupHandle group_of(uint64_t number) = 0;
  virtual uint64_t group_number(detail::GroupRecord& group) = 0;
  virtual Status await_group(detail::GroupRecord& group, detail::Deadline deadline) = 0;
  virtual detail::Handle group_ready(detail::GroupRecord& group) = 0;
  virtual std::string why_group_waits(detail::GroupRecord& group) = 0;
  virtual std::vector<NodeNumber> nodes_of_group(detail::GroupRecord& group) = 0;
  virtual void remove_group(detail::GroupRecord& group) = 0;

  virtual std::string explain(const detail::Handle& handle) = 0;
  virtual std::string explain(const detail::ActorHandle& actor) = 0;

  virtual NodeInfo node_info() = 0;
  [[nodiscard]] virtual NodeNumber this_node() const = 0;
  [[nodiscard]] virtual std::vector<int> my_devices() const = 0;
  virtual void cleanup_path(const std::string& path, bool add) = 0;
};

/// Deletes itself through Runtime::forget_actor when the last handle in this process goes.
namespace detail {
struct ActorRecord {
  ActorId id;
  Handle life;   ///< The actor lives while this object is referenced; none for a handle got by name.
  ActorId host;  ///< Of an actor in a shared process: the actor that its calls go to.
  Handle made;   ///< Of such an actor, in the process that made it: the end of its constructor.
  std::string class_key;
  int max_task_retries = 0;
  ~ActorRecord();
};

/// What this process knows of a placement group. The atomics may be read by anyone, the rest under the runtime's lock.
struct GroupRecord {
  enum class State : uint8_t { kPending, kReady, kOver };
  std::atomic<uint64_t> number{0};  ///< 0 until the head has answered.
  std::atomic<State> state{State::kPending};
  std::string name;
  Status why;  ///< What it waits for, or why it is over.
  std::vector<NodeNumber> nodes;
  Handle ready;
  bool is_to_go = false;  ///< Removed before its number was known.
};
}  // namespace detail

}  // namespace manta

// NodeRuntime: one process (driver or worker) of a node with a raylet. It owns the tables and wires them to the raylet's
// socket, the rings and the store; the policies are in ObjectTable, TaskOwner and ActorOwner.
//
// Threads: any user thread submits and waits; `control` serves the raylet's socket and timers; `completer` takes replies
// when no user thread waits. A thread that waits polls the reply rings itself: there is no hop on the way of a result. All
// tables are under one lock; no user code runs under it and nothing blocks under it.
#pragma once

#include "actors/actor_owner.h"
#include "actors/group_owner.h"
#include "actors/lineage.h"
#include "actors/object_table.h"
#include "actors/runtime.h"
#include "actors/runtime_lock.h"
#include "actors/shared_actors.h"
#include "actors/task_owner.h"
#include "object_store/store_client.h"
#include "wire/connection.h"

#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <thread>

namespace manta {

/// What a worker adds: it is told of channels and actors by the raylet.
class WorkerSide {
 public:
  virtual ~WorkerSide() = default;
  virtual void on_attach(const wire::AttachChannel& message, std::unique_ptr<wire::Channel> channel,
                         wire::Bell caller_bell) = 0;
  virtual void on_detach(const wire::DetachChannel& message) = 0;
  virtual void on_start_actor(wire::StartActor message) = 0;
  virtual void on_stop_actor(const wire::StopActor& message) = 0;
  virtual void on_cancel(ProcessId caller, uint64_t cookie) = 0;
  virtual void on_goodbye() = 0;
  /// The raylet is gone.
  virtual void on_disconnected() = 0;
};

struct NodeRuntimeOptions {
  Fd socket;
  wire::Hello hello;  ///< Without the process, which the raylet chooses.
  WorkerSide* worker = nullptr;
  std::function<void(const wire::LogLines&)> on_log;
  std::function<void(const Status&)> on_disconnected;
};

class NodeRuntime final : public Runtime {
 public:
  /// Says Hello and waits for the Welcome.
  static Result<std::unique_ptr<NodeRuntime>> connect(NodeRuntimeOptions options, std::chrono::milliseconds timeout);
  /// Begins to serve the raylet's socket: the caller is ready for what comes.
  void start();
  ~NodeRuntime() override;

  void submit_task(const detail::Function& function, const TaskOptions* options, std::vector<detail::Argument>&& arguments,
                   int returns, detail::Handle* out) override;
  detail::ActorHandle create_actor(const detail::Function& constructor, const char* class_key, const ActorOptions& options,
                                   std::vector<detail::Argument>&& arguments) override;
  detail::ActorHandle find_actor(const std::string& name, const std::string& name_space, const char* class_key) override;
  void submit_call(const detail::ActorHandle& actor, const detail::Function& method, const CallOptions* options,
                   std::vector<detail::Argument>&& arguments, int returns, detail::Handle* out) override;
  void kill_actor(const detail::ActorHandle& actor, bool allow_restart) override;
  Status await_actor(const detail::ActorHandle& actor, detail::Deadline deadline) override;
  void encode_actor(Encoder& out, const detail::ActorHandle& actor) override;
  detail::ActorHandle decode_actor(Decoder& in) override;
  void forget_actor(const ActorId& id) noexcept override;

  detail::Argument make_argument(const Encoder& value, bool outlives_submission) override;
  detail::Handle put(const Encoder& value) override;
  std::shared_ptr<detail::OwnMemory> allocate(size_t size_bytes) override;
  detail::Handle failed(const Status& status) override;
  detail::Handle handle_for(const ObjectId& id) override;
  void note_exported(detail::ObjectEntry& entry) override;
  void release_exported(detail::ObjectEntry* entry) noexcept override;
  void forget(detail::ObjectEntry* entry) noexcept override;

  Result<detail::Value> await_value(const detail::Handle& handle, detail::Deadline deadline) override;
  bool is_lost(detail::ObjectEntry& entry) override;
  size_t await_some(std::span<detail::ObjectEntry* const> entries, size_t count, detail::Deadline deadline) override;
  void ask_for(std::span<detail::ObjectEntry* const> entries) override;
  void idle_until(const std::function<bool()>& done) override;
  void on_ready(const detail::Handle& handle, void (*ready)(void*), void* context) override;
  Status cancel(const detail::Handle& handle, bool force) override;
  detail::Handle next_stream_item(const detail::Handle& stream, uint64_t index, detail::Deadline deadline,
                                  Status& status) override;
  void close_stream(const detail::Handle& stream) override;
  [[nodiscard]] bool is_cancelled() const noexcept override;

  detail::GroupHandle create_group(const std::vector<Bundle>& bundles, const GroupOptions& options) override;
  detail::GroupHandle group_of(uint64_t number) override;
  uint64_t group_number(detail::GroupRecord& group) override;
  Status await_group(detail::GroupRecord& group, detail::Deadline deadline) override;
  detail::Handle group_ready(detail::GroupRecord& group) override;
  std::string why_group_waits(detail::GroupRecord& group) override;
  std::vector<NodeNumber> nodes_of_group(detail::GroupRecord& group) override;
  void remove_group(detail::GroupRecord& group) override;

  std::string explain(const detail::Handle& handle) override;
  std::string explain(const detail::ActorHandle& actor) override;

  NodeInfo node_info() override;
  [[nodiscard]] NodeNumber this_node() const override;
  [[nodiscard]] std::vector<int> my_devices() const override;
  void cleanup_path(const std::string& path, bool add) override;

  // For the worker's side.
  [[nodiscard]] ProcessId self() const { return self_; }
  [[nodiscard]] object_store::StoreClient& store() { return *store_; }
  [[nodiscard]] wire::Bell& bell() { return bell_; }
  [[nodiscard]] const wire::Welcome& welcome() const { return welcome_; }
  template <typename Message>
  Status send(const Message& message) {
    return connection_->send(message);
  }
  /// Waits until all that was sent has left this process.
  Status drain() { return connection_->drain(std::chrono::seconds(30)); }
  /// Waits on this thread until `done`, taking replies meanwhile; false when the deadline passes first.
  bool wait_until(const std::function<bool()>& done, detail::Deadline deadline);
  /// A value as it came with a call: an inline blob, or a location to pin.
  Result<detail::Value> read_stored(const wire::ObjectLocation& location, detail::Deadline deadline = detail::kForever);
  /// The same of an argument: when nothing is found there, its owner is asked for another location, and waited for.
  Result<detail::Value> read_argument(const wire::ObjectLocation& location, const ObjectId& id);
  std::vector<ObjectId> keep(Uncovered& uncovered);
  void sent_in_result(const ObjectId& id, ProcessId receiver);
  void set_devices(std::vector<int> devices);
  /// Whether ending this process would lose something: objects that others hold, calls in flight.
  [[nodiscard]] bool is_needed();
  /// Ends the session in good order: what was sent is on its way.
  void say_goodbye(int exit_code);
  /// Waits until the raylet's socket is at its end and all it said was handled. From any thread.
  void finish_reading();
  /// After that: what is still under way ends with kUnavailable, and lets go of what it holds.
  void abandon_calls();
  /// What runs now, for the words after a Ctrl-C.
  [[nodiscard]] std::string describe_running();

 private:
  using Guard = std::lock_guard<RuntimeLock>;
  using ByTemplate = std::map<Template, uint32_t>;

  /// What both sides have told each other before anything else exists here.
  struct Greeting {
    std::unique_ptr<wire::Connection> connection;
    wire::Bell bell;
    object_store::HazardPage hazard;
    Fd object_table;
    wire::Welcome welcome;
  };
  static Result<Greeting> greet(NodeRuntimeOptions& options, std::chrono::milliseconds timeout);
  NodeRuntime(NodeRuntimeOptions options, Greeting& greeting);
  Status open_store(Greeting& greeting);

  // Calls.
  uint32_t intern(const detail::Function& function, const std::string& name, const std::string& group);
  Call* new_call(const detail::Function& function, std::vector<detail::Argument>&& arguments, int returns,
                 detail::Handle* out);
  detail::ActorHandle create_shared(const detail::Function& constructor, const char* class_key, const ActorOptions& options,
                                    std::vector<detail::Argument>&& arguments);
  /// Tells a host that some of its instances have ended, and with a reason that their calls are to fail.
  void drop_instances(const ActorId& host, const std::vector<uint64_t>& instances, const std::string& why);
  void start_actor_call(Call& call);
  void resolve_arguments(Call& call);
  void argument_ready(Call& call);
  void dispatch(Call& call);
  bool send_call(Call& call, Peer& peer);
  void on_reply(Call& call, const Reply& reply);
  void set_result(Call& call, size_t index, const Reply& reply);
  void set_value(Call& call, detail::ObjectEntry& entry, const Reply& reply);
  void finish(Call& call, uint64_t run_ns);
  void take_not_begun(Call& call);
  void fail_call(Call& call, const Status& status);
  void fail_results(Call& call, const Status& status);
  void dispose(Call& call);
  void store_arguments(Call& call);
  void wait_for_room(const std::vector<detail::Argument>& arguments, bool throw_when_full);
  /// Whether a call with these arguments can be sent as soon as it is made: then they need be written only once. Waits a
  /// moment for room while the callee takes calls; the lock is released meanwhile.
  bool can_send_at_once(const ActorId& actor, const std::vector<detail::Argument>& arguments,
                        std::unique_lock<RuntimeLock>& lock);
  std::string call_name(const Call& call) const;
  /// With the number of a lease request that the raylet can say more of; 0: none.
  std::string explain_call(const Call& call, uint64_t& lease_request);
  std::string explain_actor(const ActorClient& actor) const;
  std::vector<std::string> ask_why(uint64_t lease_request);
  Status cancel_call(Call& call, bool force);

  // Lost objects.
  struct ArgumentWait {  ///< What an argument's entry keeps of a call that waits for it.
    NodeRuntime* runtime;
    Call* call;
    static void ready(void* context);
  };
  Result<detail::Value> read_entry(detail::ObjectEntry& entry, detail::Deadline deadline);
  bool await_rebuilt(detail::ObjectEntry& entry, detail::Deadline deadline);
  bool has_lost_argument(const Call& call) const;
  void hold_call(Call& call);
  void run_again(Call& call);
  void stop_again(Call& call);

  // Replies and waiting.
  size_t poll_replies();
  void free_stored();
  void wake_waiters();
  void completer_main();
  void note_outstanding();

  // The raylet's socket.
  void control_main();
  void wake_control();
  void handle_frame(wire::Frame& frame);
  void handle_worker_frame(wire::Frame& frame, WorkerSide& worker);
  /// Decodes and handles under the lock; drops what is malformed.
  template <typename Message, typename Handle>
  void with_frame(const wire::Frame& frame, Handle&& handle);
  template <typename Message>
  bool decode_frame(const wire::Frame& frame, Message& out);
  void on_lease_granted(wire::Frame& frame);
  void on_actor_update(wire::Frame& frame);
  void on_relay(wire::Frame& frame);
  void on_process_died(const wire::ProcessDied& message);
  Peer* open_peer(wire::Frame& frame, uint64_t channel, bool is_new, uint64_t process, int pid);
  void tick();
  void disconnected(const Status& status);
  void end_all_calls(const Status& cause);

  // Jobs that may block on the store, off the lock.
  void post_job(std::function<void()> job);
  void jobs_main();

  NodeRuntimeOptions options_;
  ProcessId self_;
  wire::Welcome welcome_;
  std::unique_ptr<wire::Connection> connection_;
  wire::Bell bell_;
  std::unique_ptr<object_store::StoreClient> store_;
  Fd wake_control_;

  mutable RuntimeLock lock_;
  ObjectTable objects_;
  TaskOwner tasks_;
  ActorOwner actors_;
  SharedActors shared_;
  Lineage lineage_;
  GroupOwner groups_;
  std::map<uint64_t, std::unique_ptr<Peer>> peers_;  // by channel
  std::vector<Peer*> active_;
  ByTemplate templates_;
  std::vector<const Template*> template_by_id_;
  std::map<const detail::Function*, uint32_t> plain_templates_;
  std::map<ActorId, std::weak_ptr<detail::ActorRecord>> records_;
  std::set<Call*> timed_;
  std::map<uint64_t, std::pair<bool, wire::ActorFound>> searches_;
  std::map<uint64_t, std::pair<bool, wire::NodeState>> state_requests_;
  std::map<uint64_t, std::pair<bool, wire::Explained>> explanations_;
  uint64_t next_request_ = 1;
  std::vector<wire::ObjectLocation> to_free_;
  std::vector<int> devices_;
  Status down_;  ///< Not OK once the raylet is gone.
  std::atomic<size_t> live_calls_{0};
  std::atomic<size_t> queued_bytes_{0};  ///< Inline arguments of the live calls.
  std::atomic<bool> has_outstanding_{false};
  std::atomic<int> waiting_{0};
  std::atomic<int> sleeping_{0};

  std::atomic<bool> stopping_{false};
  std::atomic<bool> leaving_{false};  ///< Goodbye was said: the end of the socket is expected.
  std::mutex completer_mutex_;
  std::condition_variable completer_wake_;
  std::atomic<bool> completer_deep_{false};
  std::mutex jobs_mutex_;
  std::condition_variable jobs_wake_;
  std::deque<std::function<void()>> jobs_;  // bounded by the live calls
  std::mutex finish_mutex_;
  std::thread control_;
  std::thread completer_;
  std::thread jobs_thread_;
};

/// What this thread runs now, on a worker. Null elsewhere.
struct Running {
  const std::atomic<bool>* cancelled = nullptr;
  Uncovered uncovered;
  std::function<void(bool blocked)> on_blocked;
  /// While it waits: gives back what lies behind it, and says whether more may come.
  std::function<bool()> give_back;
};
Running*& running();

}  // namespace manta

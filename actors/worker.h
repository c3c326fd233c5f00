// A worker: the same binary, started by a raylet, running what callers put into their rings.
//
//   idle pool worker --lease--> runs tasks of its callers --StartActor--> one actor's process, to its end
//
// Threads: the main thread claims calls from the rings and runs them; an actor with max_concurrency above 1 or groups has
// pools of executor threads instead, and the main thread only hands out. Control frames arrive on the runtime's control
// thread, which posts to the main thread. A call's arguments are read before its ring room is given back, and its reply
// leaves after all it promises is on its way (stored results sealed, actor state saved, kept Refs listed).
//
// A task that waits gives back what lies behind it, since it may be waiting for just that. Callers of this node take it back
// by themselves; those of another node are answered that it was not begun.
#pragma once

#include "actors/call_format.h"
#include "actors/node_runtime.h"

#include <atomic>
#include <list>
#include <memory>
#include <mutex>

namespace manta {

/// A process that calls this one.
struct Caller {
  uint64_t channel_id = 0;
  ProcessId process;
  std::unique_ptr<wire::Channel> channel;
  wire::Bell bell;
  std::mutex reply_mutex;  ///< The reply ring has one producer at a time.
  struct Known {
    const detail::Function* function = nullptr;
    std::string key;
    std::string name;
    std::string group;
    std::string label;  ///< For people: in errors, and before what it prints.
  };
  std::vector<std::unique_ptr<Known>> templates;  ///< By the caller's ids; main thread only.
  uint64_t looked_to = 0;                         ///< Of its requests, see arguments_ahead.h; main thread only.
  std::vector<int> devices;
  std::atomic<bool> is_gone{false};
};

/// A message claimed behind the call that runs: room is given back in the order of the claims.
struct HeldBack {
  std::shared_ptr<Caller> caller;
  wire::RingMessage message;
};

/// One call, taken out of its ring. Shares its caller, which may go before the call ends.
struct Job {
  std::shared_ptr<Caller> caller;
  CallHeader header;
  const Caller::Known* known = nullptr;
  void* self = nullptr;                      ///< The actor's instance, for methods.
  std::span<const std::byte> arguments;      ///< In the ring until the call has run, or in `copied`.
  std::string copied;                        ///< When others are claimed meanwhile.
  std::optional<wire::RingMessage> in_ring;  ///< Its room, given back by the thread that claims, when the call has run.
  std::vector<HeldBack> behind;              ///< Given back to callers while it waited; bounded by their rings.
  std::atomic<bool> cancelled{false};
};

class ExecutorPool;
class SharedHost;

class Worker final : public WorkerSide {
 public:
  Worker();
  ~Worker() override;

  /// Serves on the raylet's socket until told to end; the process's exit code.
  int serve(Fd socket, wire::Hello hello);

  void on_attach(const wire::AttachChannel& message, std::unique_ptr<wire::Channel> channel,
                 wire::Bell caller_bell) override;
  void on_detach(const wire::DetachChannel& message) override;
  void on_start_actor(wire::StartActor message) override;
  void on_stop_actor(const wire::StopActor& message) override;
  void on_cancel(ProcessId caller, uint64_t cookie) override;
  void on_goodbye() override;
  void on_disconnected() override;

  /// Runs one call and answers it. Any executor thread.
  void execute(Job& job);
  void begin(Job& job);  ///< From now on it can be cancelled.
  /// Answers a call that does not run.
  void refuse(Job& job, const Status& status);
  /// Claims and runs calls on this thread until the process ends.
  [[noreturn]] void serve_calls();

  NodeRuntime& runtime() { return *runtime_; }

 private:
  struct ActorSide;
  void main_loop();
  bool take_one();
  bool take_from(const std::shared_ptr<Caller>& caller);
  void learn(Caller& caller, std::span<const std::byte> body);
  void refresh_callers();
  bool give_back_behind(Job& job);
  bool ask_ahead(const Job& job, const PackedLocation& first);
  void ask_behind(const Job& job);
  void hand_out(std::unique_ptr<Job> job);
  void start_actor(wire::StartActor message);
  bool should_stop();
  void reply(Caller& caller, ReplyKind kind, const ReplyHeader& header, std::span<const std::byte> body);
  void reply_failed(Caller& caller, uint64_t cookie, uint64_t run_ns, const Status& status, std::span<const ObjectId> kept);
  void save_state();
  void set_blocked(bool blocked);

  friend class CallOnWorker;

  std::unique_ptr<NodeRuntime> runtime_;
  std::mutex mutex_;  // the callers and what the control thread posts
  std::vector<std::shared_ptr<Caller>> callers_;
  std::vector<std::shared_ptr<Caller>> snapshot_;  // the main thread's copy
  std::atomic<uint64_t> callers_version_{0};
  uint64_t snapshot_version_ = 0;
  std::vector<wire::StartActor> to_start_;
  std::atomic<bool> has_posted_{false};
  std::atomic<bool> stop_asked_{false};
  size_t next_caller_ = 0;
  std::mutex running_mutex_;
  std::list<Job*> jobs_;
  std::unique_ptr<ActorSide> actor_;
  std::unique_ptr<SharedHost> shared_;  ///< In a process of shared actors.
  int executors_ = 1;
  std::mutex blocked_mutex_;
  int blocked_ = 0;
};

}  // namespace manta

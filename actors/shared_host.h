// The worker's side of actors that share a process: the instances, and who runs what.
//
// One thread leads: it claims calls from the rings and runs them, one after another. When the call it runs waits (a `get`
// inside a method), it hands the lead to another thread and goes on later beside it, so that an actor may wait for another
// one of the same process. An instance runs one call at a time: what comes for one that waits is kept for it, in order, and
// run by the thread that waits when it is done.
//
//   instance:  (none) --constructor--> IDLE <==call==> BUSY      constructor failed, killed: DEAD (answers with why)
//                                        \--ended--> (none)      ended while BUSY: gone when its calls are answered
//
// A call may come before the constructor of its instance (from another process that was given the handle early): it is kept.
// It cannot come after the end, for a call holds its actor's life until it is over.
//
// Invariants: at most one thread leads; an instance's calls run in the order its callers' rings gave them; a thread that
// waits does not lead. What is kept for waiting instances is bounded by what their callers may have queued.
// Thread safety: `take` and `lead` by the threads that run Worker::main_loop, the rest by any.
#pragma once

#include "actors/worker.h"

#include <condition_variable>
#include <deque>
#include <unordered_map>

namespace manta {

/// What StartActor names instead of a class: the process hosts instances of any.
inline constexpr char kSharedHostKey[] = "manta.shared_host";
const detail::Function& shared_host_function();
/// Ends instances: (vector<uint64_t> sequences, std::string why). With a reason their calls fail with it from now on;
/// without one nobody references them any more.
const detail::Function& drop_instances_function();

class SharedHost {
 public:
  explicit SharedHost(Worker& worker);

  /// Waits until this thread leads, and says so at once while it does.
  void lead();
  /// Runs a call, or keeps it for the thread that is inside its instance.
  void take(std::unique_ptr<Job> job);
  /// This thread's call waits, or goes on.
  void on_blocked(bool blocked);
  /// A constructor ended on this thread.
  void constructed(uint64_t instance, std::shared_ptr<void> object, const Status& status);
  void drop(const std::vector<uint64_t>& instances, const std::string& why);
  [[nodiscard]] bool is_idle();
  /// Destroys the instances. Precondition: is_idle.
  void clear();

 private:
  struct Instance {
    std::shared_ptr<void> object;
    Status dead;           ///< Not OK: what calls are answered with.
    bool is_born = false;  ///< Its constructor has begun.
    bool is_busy = false;
    bool is_ended = false;
    std::deque<std::unique_ptr<Job>> kept;
  };
  void run(uint64_t id, std::unique_ptr<Job> job);

  Worker& worker_;
  std::mutex mutex_;
  std::condition_variable lead_is_free_;
  bool has_leader_ = false;
  size_t followers_ = 0;  ///< Threads that wait to lead.
  size_t running_ = 0;
  std::unordered_map<uint64_t, Instance> instances_;
  std::vector<std::thread> threads_;  ///< As many as ever waited at once; they end with the process.
};

}  // namespace manta

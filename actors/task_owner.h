// The tasks this process submitted: queues by scheduling class, leases on workers, pipelining, take-back and retries.
//
//   lease:  requested --LeaseGranted--> active --(idle for 200 ms, or asked back)--> returned
//
// Enough calls are in flight on a lease to hide the trip (about 1 ms of queued work by the worker's own measured run time),
// and a call that a worker has not begun can be taken back: when another worker has nothing to do, when the worker waits
// inside a task, when the lease is asked back, and when the worker dies (then it costs no retry). On its way to another node
// it cannot: there the worker gives it back when it waits.
//
// Invariants: a call is in one class queue, on one lease, or done. A lease that is returned has nothing in flight. Requests
// outstanding never exceed the calls that wait. Everything here is under the runtime's lock; nothing blocks.
#pragma once

#include "actors/call.h"
#include "actors/peer.h"

#include <functional>
#include <map>
#include <unordered_map>

namespace manta {

using TimePoint = std::chrono::steady_clock::time_point;

struct Lease {
  uint64_t id = 0;
  struct TaskClass* task_class = nullptr;
  Peer* peer = nullptr;
  std::deque<Call*> in_flight;  ///< In the order sent; bounded by the window.
  double run_ns = 0;            ///< Moving average of the worker's time for a call; 0 until the first reply.
  bool is_blocked = false;
  bool is_asked_back = false;
  TimePoint idle_since{};
  [[nodiscard]] size_t window() const;
};

struct TaskClass {
  wire::SchedulingClass scheduling_class;
  std::deque<Call*> pending;
  std::vector<std::unique_ptr<Lease>> leases;
  uint32_t requests = 0;
};

class TaskOwner {
 public:
  struct Io {
    std::function<void(const wire::RequestLease&)> request_lease;
    std::function<void(uint64_t request)> cancel_request;
    std::function<void(uint64_t lease)> return_lease;
    std::function<void(uint64_t lease, const std::string& reason)> kill_lease;
    std::function<bool(Call&, Peer&)> send;          ///< False when the ring is full.
    std::function<void(Call&, const Status&)> fail;  ///< Ends the call with an error.
    /// Whether an argument was lost since it was ready. Then the call leaves its queue, for `hold`, to be enqueued again.
    std::function<bool(const Call&)> has_lost_argument{};
    std::function<void(Call&)> hold{};
  };
  explicit TaskOwner(Io io) : io_(std::move(io)) {}

  [[nodiscard]] TaskClass& class_for(const wire::SchedulingClass& scheduling_class);
  void set_capacity(const wire::Resources& capacity) { capacity_ = capacity; }

  /// Queues a call whose arguments are ready.
  void enqueue(Call& call, TimePoint now);
  /// A reply ended `call`: frees its place and sends what waits.
  void finished(Call& call, uint64_t run_ns, TimePoint now);
  /// The worker waits inside a task and gave `call` back, which its peer has forgotten: it is queued again, at no retry.
  /// Whether the lease is blocked, `on_blocked` says alone: that may be over by now.
  void not_begun(Call& call, TimePoint now);
  /// `call` failed with an error that is worth another try.
  void retry(Call& call, TimePoint now);
  /// Removes a queued call, or takes it back. False when it runs.
  bool withdraw(Call& call, TimePoint now);
  void kill_worker_of(const Call& call, const std::string& reason);

  void on_granted(const wire::LeaseGranted& grant, Peer& peer, TimePoint now);
  void on_refused(const wire::LeaseRefused& refusal);
  void on_asked_back(uint64_t lease, TimePoint now);
  void on_blocked(uint64_t lease, bool blocked, TimePoint now);
  /// The worker behind `peer` died: calls it had not begun go back, others are tried again or fail with `cause`.
  void on_peer_died(const Peer& peer, const Status& cause, TimePoint now);

  /// The node is gone: what waits fails.
  void fail_all(const Status& cause);
  /// Returns leases that have been idle; sends what waits for room. Returns when to come again.
  void tick(TimePoint now);
  [[nodiscard]] bool has_idle_leases() const;
  [[nodiscard]] size_t pending_count() const { return pending_count_; }
  /// How many tasks wait with this one, and one of the lease requests that were made for them; 0 when there is none.
  [[nodiscard]] std::pair<size_t, uint64_t> line_of(const Call& call) const;

 private:
  void pump(TaskClass& task_class, TimePoint now);
  void request_more(TaskClass& task_class);
  [[nodiscard]] static size_t waiting_count(const TaskClass& task_class);
  static void take_off(Lease& lease, Call& call);
  void requeue(Call& call);
  void take_back_all(Lease& lease);
  void steal_for(TaskClass& task_class);
  void drop(Lease& lease);
  Lease* find(uint64_t lease);
  [[nodiscard]] size_t most_leases(const TaskClass& task_class) const;

  Io io_;
  wire::Resources capacity_;
  std::map<wire::SchedulingClass, std::unique_ptr<TaskClass>> classes_;
  std::unordered_map<uint64_t, Lease*> leases_;
  std::unordered_map<uint64_t, TaskClass*> requests_;
  uint64_t next_request_ = 1;
  size_t pending_count_ = 0;
};

}  // namespace manta

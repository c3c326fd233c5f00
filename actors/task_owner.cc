#include "actors/task_owner.h"

#include "common/check.h"
#include "common/log.h"
#include "wire/cluster.h"
#include "wire/drain_messages.h"

#include <algorithm>
#include <cmath>

namespace manta {
namespace {

constexpr double kQueuedNs = 1e6;   // work in flight on one lease
constexpr size_t kFirstWindow = 8;  // before anything is known of the tasks
constexpr size_t kMaxWindow = 2'000;
constexpr auto kIdle = std::chrono::milliseconds(200);
constexpr size_t kMaxLeases = 1'000;        // of one class
constexpr size_t kMaxLeasesOfNothing = 64;  // of a class that needs neither CPU nor GPU, which nothing else limits
constexpr size_t kFar = 2;

/// Of the objects in stores that the call reads: the node with most of their bytes; 0 when there are none.
wire::NodeNumber node_with_most(const Call& call) {
  std::map<wire::NodeNumber, uint64_t> bytes;
  for (const detail::Argument& argument : call.arguments) {
    const detail::ObjectEntry* const entry = argument.ref.get();
    if (entry == nullptr || entry->state != detail::ObjectState::kStored) continue;
    bytes[wire::node_of(entry->location.segment)] += entry->location.size_bytes;
  }
  const auto most = std::ranges::max_element(bytes, {}, [](const auto& one) { return one.second; });
  return most == bytes.end() ? 0 : most->first;
}

wire::NodeNumber node_of(const Lease& lease) { return wire::node_of(lease.peer->process().value); }

bool are_on_several_nodes(const TaskClass& task_class) {
  const auto& leases = task_class.leases;
  return std::ranges::any_of(leases, [&](const auto& lease) { return node_of(*lease) != node_of(*leases.front()); });
}

}  // namespace

size_t Lease::window() const {
  if (is_blocked || is_asked_back) return 0;
  if (run_ns == 0) return kFirstWindow;
  return std::clamp(static_cast<size_t>(kQueuedNs / run_ns), size_t{1}, kMaxWindow);
}

TaskClass& TaskOwner::class_for(const wire::SchedulingClass& scheduling_class) {
  std::unique_ptr<TaskClass>& found = classes_[scheduling_class];
  if (!found) {
    found = std::make_unique<TaskClass>();
    found->scheduling_class = scheduling_class;
  }
  return *found;
}

Lease* TaskOwner::find(uint64_t lease) {
  const auto at = leases_.find(lease);
  return at == leases_.end() ? nullptr : at->second;
}

// ---------------------------------------------------------------------------------------------------- calls

void TaskOwner::enqueue(Call& call, TimePoint now) {
  call.state = CallState::kQueued;
  auto& pending = call.task_class->pending;
  call.lineage ? pending.push_front(&call) : pending.push_back(&call);
  ++pending_count_;
  pump(*call.task_class, now);
}

void TaskOwner::pump(TaskClass& task_class, TimePoint now) {
  std::vector<Call*> held;
  const bool has_choice = !task_class.pending.empty() && are_on_several_nodes(task_class);
  while (!task_class.pending.empty()) {
    Call& call = *task_class.pending.front();
    if (io_.has_lost_argument && io_.has_lost_argument(call)) {
      task_class.pending.pop_front();
      --pending_count_;
      call.state = CallState::kWaiting;
      held.push_back(&call);
      continue;
    }
    const wire::NodeNumber near = has_choice ? node_with_most(call) : 0;
    // Where its arguments are it may wait behind two others; reading them from another node takes longer as a rule.
    const auto rank = [&](const Lease& lease) {
      return lease.in_flight.size() + (near == 0 || node_of(lease) == near ? 0 : kFar);
    };
    Lease* best = nullptr;
    for (const auto& lease : task_class.leases) {
      // A task with a deadline is not queued behind others: its time runs from here. Nor are those that are to spread, nor
      // one that makes a lost object again: the one before it may be waiting for just that, on a node from which it could
      // not be taken back.
      const bool alone =
          call.policy->timeout.count() > 0 || call.stream || call.lineage || task_class.scheduling_class.spread;
      const size_t window = alone ? std::min(lease->window(), size_t{1}) : lease->window();
      if (lease->in_flight.size() < window && (best == nullptr || rank(*lease) < rank(*best))) best = lease.get();
    }
    if (best == nullptr || !io_.send(call, *best->peer)) break;
    task_class.pending.pop_front();
    --pending_count_;
    call.lease = best;
    best->in_flight.push_back(&call);
    if (call.policy->timeout.count() > 0) call.deadline = now + call.policy->timeout;
  }
  request_more(task_class);
  for (Call* call : held) io_.hold(*call);  // submits others, perhaps of this class
}

// Calls that another worker could run now: those in no ring, and those behind another in one.
size_t TaskOwner::waiting_count(const TaskClass& task_class) {
  size_t waiting = task_class.pending.size();
  for (const auto& lease : task_class.leases) waiting += lease->in_flight.size() > 1 ? lease->in_flight.size() - 1 : 0;
  return waiting;
}

// How many workers this class can use at once in the cluster; leases whose worker waits inside a task do not count.
size_t TaskOwner::most_leases(const TaskClass& task_class) const {
  const wire::Resources& each = task_class.scheduling_class.resources;
  size_t most = each.cpus > 0 || each.gpus > 0 ? kMaxLeases : kMaxLeasesOfNothing;
  if (each.cpus > 0) most = std::min(most, static_cast<size_t>(std::max<int64_t>(capacity_.cpus / each.cpus, 1)));
  if (each.gpus > 0) most = std::min(most, static_cast<size_t>(std::max<int64_t>(capacity_.gpus / each.gpus, 1)));
  return most;
}

void TaskOwner::request_more(TaskClass& task_class) {
  const size_t waiting = waiting_count(task_class);
  if (waiting <= task_class.requests) return;
  const auto busy = static_cast<size_t>(std::count_if(task_class.leases.begin(), task_class.leases.end(),
                                                      [](const auto& lease) { return !lease->is_blocked; }));
  const size_t most = most_leases(task_class);
  while (task_class.requests < waiting && busy + task_class.requests < most) {
    const uint64_t request = next_request_++;
    const auto& pending = task_class.pending;
    const wire::NodeNumber near = task_class.requests < pending.size() ? node_with_most(*pending[task_class.requests]) : 0;
    requests_[request] = &task_class;
    ++task_class.requests;
    io_.request_lease(
        {request, task_class.scheduling_class, static_cast<uint32_t>(std::min<size_t>(waiting, 1 << 30)), near});
  }
}

void TaskOwner::take_off(Lease& lease, Call& call) {
  const auto at = std::find(lease.in_flight.begin(), lease.in_flight.end(), &call);
  MANTA_CHECK(at != lease.in_flight.end(), lease.id);
  lease.in_flight.erase(at);
  call.lease = nullptr;
}

void TaskOwner::requeue(Call& call) {
  call.lease = nullptr;
  call.state = CallState::kQueued;
  call.deadline = TimePoint::max();
  call.task_class->pending.push_front(&call);
  ++pending_count_;
}

void TaskOwner::not_begun(Call& call, TimePoint now) {
  Lease& lease = *call.lease;
  take_off(lease, call);
  requeue(call);
  TaskClass& task_class = *call.task_class;
  if (lease.in_flight.empty()) {
    lease.idle_since = now;
    if (lease.is_asked_back) drop(lease);
  }
  pump(task_class, now);
}

void TaskOwner::finished(Call& call, uint64_t run_ns, TimePoint now) {
  Lease& lease = *call.lease;
  take_off(lease, call);
  const double seen = std::max(static_cast<double>(run_ns), 100.0);
  lease.run_ns = lease.run_ns == 0 ? seen : lease.run_ns * 0.8 + seen * 0.2;
  TaskClass& task_class = *lease.task_class;
  if (lease.in_flight.empty()) {
    lease.idle_since = now;
    if (lease.is_asked_back) return drop(lease), pump(task_class, now);
    if (task_class.pending.empty()) steal_for(task_class);
  }
  pump(task_class, now);
}

void TaskOwner::retry(Call& call, TimePoint now) {
  call.deadline = TimePoint::max();
  ++call.attempt;
  enqueue(call, now);
}

bool TaskOwner::withdraw(Call& call, TimePoint now) {
  TaskClass& task_class = *call.task_class;
  if (call.state == CallState::kQueued) {
    std::erase(task_class.pending, &call);
    --pending_count_;
    return true;
  }
  if (call.state != CallState::kSent || !call.peer->take_back(call)) return call.state == CallState::kWaiting;
  Lease& lease = *call.lease;
  std::erase(lease.in_flight, &call);
  call.lease = nullptr;
  if (lease.in_flight.empty()) lease.idle_since = now;
  return true;
}

void TaskOwner::kill_worker_of(const Call& call, const std::string& reason) {
  if (call.lease != nullptr) io_.kill_lease(call.lease->id, reason);
}

void TaskOwner::take_back_all(Lease& lease) {
  std::deque<Call*> kept;
  for (auto at = lease.in_flight.rbegin(); at != lease.in_flight.rend(); ++at) {
    Call& call = **at;
    if (!call.peer->take_back(call)) {
      kept.push_front(&call);
      continue;
    }
    requeue(call);
  }
  lease.in_flight = std::move(kept);
}

// A worker with nothing to do takes half of what waits in the longest ring of its class.
void TaskOwner::steal_for(TaskClass& task_class) {
  Lease* longest = nullptr;
  for (const auto& lease : task_class.leases) {
    if (lease->in_flight.size() > 1 && (longest == nullptr || lease->in_flight.size() > longest->in_flight.size()))
      longest = lease.get();
  }
  if (longest == nullptr) return;
  for (size_t wanted = longest->in_flight.size() / 2; wanted > 0; --wanted) {
    Call& call = *longest->in_flight.back();
    if (!call.peer->take_back(call)) return;
    longest->in_flight.pop_back();
    requeue(call);
  }
}

// ---------------------------------------------------------------------------------------------------- leases

void TaskOwner::on_granted(const wire::LeaseGranted& grant, Peer& peer, TimePoint now) {
  const auto request = requests_.find(grant.request);
  if (request == requests_.end()) return io_.return_lease(grant.lease);
  TaskClass& task_class = *request->second;
  requests_.erase(request);
  --task_class.requests;
  auto lease = std::make_unique<Lease>();
  lease->id = grant.lease;
  lease->task_class = &task_class;
  lease->peer = &peer;
  lease->idle_since = now;
  leases_[lease->id] = lease.get();
  task_class.leases.push_back(std::move(lease));
  if (task_class.pending.empty()) steal_for(task_class);
  pump(task_class, now);
}

void TaskOwner::on_refused(const wire::LeaseRefused& refusal) {
  const auto request = requests_.find(refusal.request);
  if (request == requests_.end()) return;
  TaskClass& task_class = *request->second;
  requests_.erase(request);
  --task_class.requests;
  // What cannot be granted once cannot be granted to the others that wait either; what runs on living leases goes on.
  if (task_class.requests > 0 || !task_class.leases.empty()) return;
  std::deque<Call*> pending;
  pending.swap(task_class.pending);
  pending_count_ -= pending.size();
  for (Call* call : pending) io_.fail(*call, wire::from_wire(refusal.status));
}

void TaskOwner::on_asked_back(uint64_t id, TimePoint now) {
  Lease* const lease = find(id);
  if (lease == nullptr) return;
  lease->is_asked_back = true;
  TaskClass& task_class = *lease->task_class;
  take_back_all(*lease);
  if (lease->in_flight.empty()) drop(*lease);
  pump(task_class, now);
}

void TaskOwner::on_blocked(uint64_t id, bool blocked, TimePoint now) {
  Lease* const lease = find(id);
  if (lease == nullptr) return;
  lease->is_blocked = blocked;
  if (blocked) take_back_all(*lease);
  pump(*lease->task_class, now);
}

void TaskOwner::drop(Lease& lease) {
  MANTA_CHECK(lease.in_flight.empty(), lease.in_flight.size());
  io_.return_lease(lease.id);
  leases_.erase(lease.id);
  TaskClass& task_class = *lease.task_class;
  std::erase_if(task_class.leases, [&](const auto& each) { return each.get() == &lease; });
}

void TaskOwner::on_peer_died(const Peer& peer, const Status& cause, TimePoint now) {
  std::vector<TaskClass*> touched;
  for (const auto& [key, task_class] : classes_) {
    for (size_t i = 0; i < task_class->leases.size();) {
      Lease& lease = *task_class->leases[i];
      if (lease.peer != &peer) {
        ++i;
        continue;
      }
      take_back_all(lease);
      std::deque<Call*> begun;
      begun.swap(lease.in_flight);
      leases_.erase(lease.id);
      task_class->leases.erase(task_class->leases.begin() + static_cast<ptrdiff_t>(i));
      touched.push_back(task_class.get());
      for (Call* call : begun) {
        call->peer->forget(*call);
        call->lease = nullptr;
        // Cut off because its node goes is not its own doing; one that must never run twice does not even then.
        const bool is_free = wire::is_preempted(cause) && call->policy->retries != 0;
        if ((call->retries_left == 0 && !is_free) || call->cancelled || call->stream) {
          io_.fail(*call, cause);
          continue;
        }
        MANTA_LOG(kInfo, "owner", "call retried", {"call", call->first_sequence}, {"attempt", call->attempt + 1},
                  {"why", cause});
        if (call->retries_left > 0 && !is_free) --call->retries_left;
        ++call->attempt;
        requeue(*call);
      }
    }
  }
  for (TaskClass* task_class : touched) pump(*task_class, now);
}

void TaskOwner::fail_all(const Status& cause) {
  for (const auto& [key, task_class] : classes_) {
    std::deque<Call*> pending;
    pending.swap(task_class->pending);
    pending_count_ -= pending.size();
    for (Call* call : pending) io_.fail(*call, cause);
  }
}

std::pair<size_t, uint64_t> TaskOwner::line_of(const Call& call) const {
  const auto request = std::ranges::find_if(requests_, [&](const auto& one) { return one.second == call.task_class; });
  return {call.task_class->pending.size(), request == requests_.end() ? 0 : request->first};
}

bool TaskOwner::has_idle_leases() const {
  return std::any_of(leases_.begin(), leases_.end(), [](const auto& lease) { return lease.second->in_flight.empty(); });
}

void TaskOwner::tick(TimePoint now) {
  for (const auto& [key, task_class] : classes_) {
    for (size_t i = 0; i < task_class->leases.size();) {
      Lease& lease = *task_class->leases[i];
      if (lease.in_flight.empty() && now - lease.idle_since > kIdle && !lease.is_blocked) {
        drop(lease);
      } else {
        ++i;
      }
    }
    // Requests that nothing waits for any more.
    if (task_class->requests > 0 && waiting_count(*task_class) == 0) {
      for (auto at = requests_.begin(); at != requests_.end();) {
        if (at->second != task_class.get()) {
          ++at;
          continue;
        }
        io_.cancel_request(at->first);
        at = requests_.erase(at);
      }
      task_class->requests = 0;
    }
    pump(*task_class, now);
  }
}

}  // namespace manta

// NodeRuntime: what comes from the raylet, timers, and work that may block.
#include "actors/node_runtime.h"
#include "actors/registry.h"
#include "common/check.h"

#include <poll.h>
#include <sys/eventfd.h>

#include <algorithm>

namespace manta {

using wire::Type;

namespace {

constexpr auto kTick = std::chrono::milliseconds(10);
constexpr auto kLazyTick = std::chrono::milliseconds(200);
constexpr auto kNothingToDo = std::chrono::milliseconds(10'000);  // a worker that never called anybody: `intern` wakes it

}  // namespace

void NodeRuntime::wake_control() { ::eventfd_write(wake_control_.get(), 1); }

void NodeRuntime::control_main() {
  std::vector<wire::Frame> frames;
  auto next_tick = std::chrono::steady_clock::now();
  bool is_first = true;  // what came right behind the Welcome was read with it
  while (!stopping_) {
    pollfd polled[2] = {{connection_->fd(), static_cast<short>(POLLIN | (connection_->wants_write() ? POLLOUT : 0)), 0},
                        {wake_control_.get(), POLLIN, 0}};
    auto patience = kTick;
    {
      const Guard guard(lock_);
      if (timed_.empty() && !tasks_.has_idle_leases() && tasks_.pending_count() == 0)
        patience = options_.worker != nullptr && template_by_id_.empty() ? kNothingToDo : kLazyTick;
    }
    if (!std::exchange(is_first, false)) ::poll(polled, 2, static_cast<int>(patience.count()));
    if (polled[1].revents != 0 && !stopping_) {
      eventfd_t woken = 0;
      (void)::eventfd_read(wake_control_.get(), &woken);
    }
    frames.clear();
    const Status status = connection_->receive(frames);
    for (wire::Frame& frame : frames) handle_frame(frame);
    if (!status.ok()) return disconnected(status);
    if (connection_->wants_write()) (void)connection_->flush();
    if (const auto now = std::chrono::steady_clock::now(); now >= next_tick) {
      next_tick = now + kTick;
      tick();
    }
  }
}

void NodeRuntime::tick() {
  const Guard guard(lock_);
  const auto now = std::chrono::steady_clock::now();
  lineage_.tick();
  tasks_.tick(now);
  actors_.tick();
  shared_.flush();
  free_stored();
  std::erase_if(peers_, [](const auto& each) { return each.second->is_dead && !each.second->is_active; });
  std::vector<Call*> late;
  for (Call* call : timed_) {
    if (call->deadline <= now) late.push_back(call);
  }
  for (Call* call : late) {
    timed_.erase(call);
    const Status status(Code::kTimeout,
                        call_name(*call) + " did not end within " + std::to_string(call->policy->timeout.count()) + " ms");
    call->retries_left = 0;
    if (call->actor == nullptr) {
      fail_results(*call, status);
      tasks_.kill_worker_of(*call, "a task on it passed its deadline");
    } else if (actors_.withdraw(*call)) {
      fail_call(*call, status);
    } else {
      fail_results(*call, status);
    }
    wake_waiters();
  }
}

template <typename Message>
bool NodeRuntime::decode_frame(const wire::Frame& frame, Message& out) {
  Result<Message> message = wire::decode<Message>(frame.body);
  if (!message.ok()) return false;
  out = std::move(message).value();
  return true;
}

Peer* NodeRuntime::open_peer(wire::Frame& frame, uint64_t channel, bool is_new, uint64_t process, int pid) {
  if (!is_new) {
    const auto at = peers_.find(channel);
    return at == peers_.end() ? nullptr : at->second.get();
  }
  if (frame.descriptors.size() < 2) return nullptr;
  Result<std::unique_ptr<wire::Channel>> opened = wire::Channel::open(frame.descriptors[0], wire::Channel::Side::kCaller);
  Result<wire::Bell> bell = wire::Bell::open(frame.descriptors[1]);
  if (!opened.ok() || !bell.ok()) return nullptr;
  auto& peer = peers_[channel] =
      std::make_unique<Peer>(ProcessId{process}, pid, std::move(opened).value(), std::move(bell).value());
  return peer.get();
}

void NodeRuntime::on_lease_granted(wire::Frame& frame) {
  wire::LeaseGranted grant;
  if (!decode_frame(frame, grant)) return;
  const Guard guard(lock_);
  Peer* const peer = open_peer(frame, grant.channel, grant.new_channel, grant.worker, grant.worker_pid);
  if (peer == nullptr || peer->is_dead) {
    (void)connection_->send(wire::ReturnLease{grant.lease});
    return;
  }
  tasks_.on_granted(grant, *peer, std::chrono::steady_clock::now());
}

void NodeRuntime::on_actor_update(wire::Frame& frame) {
  wire::ActorUpdate update;
  if (!decode_frame(frame, update)) return;
  const Guard guard(lock_);
  Peer* peer = nullptr;
  if (update.phase == static_cast<uint8_t>(wire::ActorPhase::kAlive)) {
    peer = open_peer(frame, update.channel, update.new_channel, update.worker, update.worker_pid);
  }
  actors_.on_update(update, peer);
}

void NodeRuntime::on_relay(wire::Frame& frame) {
  wire::Relay relay;
  if (!decode_frame(frame, relay) || relay.payload.empty()) return;
  const ProcessId from{relay.from};
  const std::string_view body = std::string_view(relay.payload).substr(1);
  const auto with = [&]<typename Message>(Message, auto&& handle) {
    const Result<Message> message = wire::decode<Message>(body);
    if (message.ok()) handle(*message);
  };
  switch (static_cast<PeerKind>(relay.payload[0])) {
    case PeerKind::kBorrow:
      with(PeerBorrow(), [&](const PeerBorrow& m) {
        const Guard guard(lock_);
        objects_.on_borrow(m);
      });
      break;
    case PeerKind::kFetch:
      with(PeerFetch(), [&](const PeerFetch& m) {
        const Guard guard(lock_);
        objects_.on_fetch(from, m);
      });
      break;
    case PeerKind::kFetched:
      with(PeerFetched(), [&](const PeerFetched& m) {
        const Guard guard(lock_);
        objects_.on_fetched(from, m);
      });
      break;
    case PeerKind::kTaken:
      with(PeerTaken(), [&](const PeerTaken& m) {
        const Guard guard(lock_);
        objects_.on_taken(from, m);
      });
      break;
    case PeerKind::kCancel:
      with(PeerCancel(), [&](const PeerCancel& m) {
        if (options_.worker != nullptr) options_.worker->on_cancel(from, m.cookie);
      });
      break;
  }
}

void NodeRuntime::on_process_died(const wire::ProcessDied& message) {
  const Guard guard(lock_);
  const Status cause = wire::from_wire(message.cause).with_context("process " + std::to_string(message.pid));
  const auto now = std::chrono::steady_clock::now();
  std::vector<uint64_t> gone;
  for (const auto& [channel, peer] : peers_) {
    if (peer->process().value != message.process || peer->is_dead) continue;
    // What it answered before it died counts.
    (void)peer->poll([&](Call& call, const Reply& reply) { on_reply(call, reply); });
    peer->is_dead = true;
    tasks_.on_peer_died(*peer, cause, now);
    actors_.on_peer_died(*peer, cause);
    if (!peer->is_active) gone.push_back(channel);
  }
  for (const uint64_t channel : gone) peers_.erase(channel);
  objects_.on_process_died({message.process}, cause);
}

template <typename Message, typename Handle>
void NodeRuntime::with_frame(const wire::Frame& frame, Handle&& handle) {
  Message message;
  if (!decode_frame(frame, message)) return;
  const Guard guard(lock_);
  handle(message);
}

void NodeRuntime::handle_frame(wire::Frame& frame) {
  if (store_->handle(frame)) return;
  const auto now = std::chrono::steady_clock::now();
  switch (frame.type) {
    case Type::kLeaseGranted: on_lease_granted(frame); break;
    case Type::kLeaseRefused: with_frame<wire::LeaseRefused>(frame, [&](auto& m) { tasks_.on_refused(m); }); break;
    case Type::kReclaimLease:
      with_frame<wire::ReclaimLease>(frame, [&](auto& m) { tasks_.on_asked_back(m.lease, now); });
      break;
    case Type::kLeaseBlocked:
      with_frame<wire::LeaseBlocked>(frame, [&](auto& m) { tasks_.on_blocked(m.lease, m.blocked, now); });
      break;
    case Type::kClusterCapacity:
      with_frame<wire::ClusterCapacity>(frame, [&](auto& m) {
        for (const auto& [node, cause] : m.lost_nodes) objects_.on_node_lost(node, wire::from_wire(cause));
        for (const auto& [node, ids_from] : m.back_nodes) objects_.on_node_back(node, ids_from);
        tasks_.set_capacity(m.capacity);
        if (!m.lost_nodes.empty()) lineage_.on_node_lost();
      });
      break;
    case Type::kObjectsMoved:
      with_frame<wire::ObjectsMoved>(frame, [&](auto& m) {
        for (const auto& move : m.moves) objects_.on_moved(move.from, move.to);
        free_stored();
      });
      break;
    case Type::kActorUpdate: on_actor_update(frame); break;
    case Type::kActorFound:
      with_frame<wire::ActorFound>(frame, [&](auto& m) {
        if (searches_.contains(m.request)) searches_[m.request] = {true, m};
      });
      break;
    case Type::kNodeState:
      with_frame<wire::NodeState>(frame, [&](auto& m) {
        if (state_requests_.contains(m.request)) state_requests_[m.request] = {true, m};
      });
      break;
    case Type::kPlacementGroupUpdate:
      with_frame<wire::PlacementGroupUpdate>(frame, [&](auto& m) { groups_.on_update(m); });
      break;
    case Type::kExplained:
      with_frame<wire::Explained>(frame, [&](auto& m) {
        if (explanations_.contains(m.request)) explanations_[m.request] = {true, m};
      });
      break;
    case Type::kProcessDied: with_frame<wire::ProcessDied>(frame, [&](auto& m) { on_process_died(m); }); break;
    case Type::kRelay: on_relay(frame); break;
    case Type::kLogLines: {
      wire::LogLines message;
      if (options_.on_log && decode_frame(frame, message)) options_.on_log(message);
      break;
    }
    default:
      if (options_.worker != nullptr) handle_worker_frame(frame, *options_.worker);
  }
  wake_waiters();
}

void NodeRuntime::handle_worker_frame(wire::Frame& frame, WorkerSide& worker) {
  switch (frame.type) {
    case Type::kAttachChannel: {
      wire::AttachChannel message;
      if (!decode_frame(frame, message) || frame.descriptors.size() < 2) break;
      auto channel = wire::Channel::open(frame.descriptors[0], wire::Channel::Side::kWorker);
      auto bell = wire::Bell::open(frame.descriptors[1]);
      if (channel.ok() && bell.ok()) worker.on_attach(message, std::move(channel).value(), std::move(bell).value());
      break;
    }
    case Type::kDetachChannel: {
      wire::DetachChannel message;
      if (decode_frame(frame, message)) worker.on_detach(message);
      break;
    }
    case Type::kStartActor: {
      wire::StartActor message;
      if (decode_frame(frame, message)) worker.on_start_actor(std::move(message));
      break;
    }
    case Type::kStopActor: {
      wire::StopActor message;
      if (decode_frame(frame, message)) worker.on_stop_actor(message);
      break;
    }
    case Type::kGoodbye: worker.on_goodbye(); break;
    default: break;
  }
}

// The raylet is the node: without it nothing that runs can answer. Everything that waits fails with one clear cause.
void NodeRuntime::disconnected(const Status& status) {
  if (stopping_ || leaving_) return;
  const Status cause(Code::kDied, "the node's mantad is gone (" + status.message() + ")");
  store_->disconnected(cause);
  if (options_.worker != nullptr) return options_.worker->on_disconnected();
  end_all_calls(cause);
  wake_waiters();
  if (options_.on_disconnected) options_.on_disconnected(cause);
}

void NodeRuntime::end_all_calls(const Status& cause) {
  const Guard guard(lock_);
  down_ = cause;
  const auto now = std::chrono::steady_clock::now();
  for (const auto& [channel, peer] : peers_) {
    peer->is_dead = true;
    tasks_.on_peer_died(*peer, cause, now);
    actors_.on_peer_died(*peer, cause);
  }
  tasks_.fail_all(cause);
  actors_.fail_all(cause);
  groups_.fail_all(cause);
}

void NodeRuntime::abandon_calls() {
  end_all_calls(Status(Code::kUnavailable, "the program has ended"));
  const Guard guard(lock_);
  lineage_.clear();
  objects_.forget_borrowers();
}

void NodeRuntime::post_job(std::function<void()> job) {
  const std::lock_guard lock(jobs_mutex_);
  if (!jobs_thread_.joinable()) jobs_thread_ = std::thread([this] { jobs_main(); });
  jobs_.push_back(std::move(job));
  jobs_wake_.notify_one();
}

void NodeRuntime::jobs_main() {
  while (true) {
    std::function<void()> job;
    {
      std::unique_lock lock(jobs_mutex_);
      jobs_wake_.wait(lock, [this] { return stopping_ || !jobs_.empty(); });
      if (stopping_) return;
      job = std::move(jobs_.front());
      jobs_.pop_front();
    }
    job();
  }
}

std::string NodeRuntime::describe_running() {
  const Guard guard(lock_);
  const size_t calls = live_calls_.load();
  return std::to_string(calls) + (calls == 1 ? " call" : " calls") + " in flight or queued (" +
         std::to_string(tasks_.pending_count()) + " tasks not begun)";
}

}  // namespace manta

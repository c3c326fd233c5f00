#include "actors/node_runtime.h"

#include "actors/bytes_setting.h"
#include "actors/own_memory.h"
#include "actors/shared_host.h"
#include "actors/spin.h"
#include "common/check.h"
#include "common/processors.h"
#include "wire/cluster.h"

#include <manta/error.h>

#include <sys/eventfd.h>

#include <algorithm>
#include <cstdlib>

namespace manta {

using detail::Handle;
using detail::ObjectEntry;
using detail::ObjectState;

namespace {

constexpr auto kLongestSleep = std::chrono::milliseconds(100);
constexpr auto kSleepAmongCalls = std::chrono::milliseconds(20);  // while calls may come that this thread must give back
constexpr size_t kWorthOneCopyBytes = 16 << 10;  // arguments below are copied once more rather than waited for

thread_local Running* t_running = nullptr;
thread_local SpinPolicy t_spin;

constexpr size_t kMostLineageBytes = size_t{256} << 20;

/// MANTA_LINEAGE_BYTES; 0 for none.
size_t most_lineage_bytes() {
  static const size_t most = bytes_setting("MANTA_LINEAGE_BYTES", kMostLineageBytes, 0);
  return most;
}

}  // namespace

Running*& running() { return t_running; }

NodeRuntime::NodeRuntime(NodeRuntimeOptions options, Greeting& greeting)
    : options_(std::move(options)),
      self_{greeting.welcome.process},
      welcome_(std::move(greeting.welcome)),
      connection_(std::move(greeting.connection)),
      bell_(std::move(greeting.bell)),
      wake_control_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)),
      objects_(self_, {[this](ProcessId to, std::string payload) {
                         (void)connection_->send(wire::Relay{self_.value, to.value, std::move(payload)});
                       },
                       [this](const wire::ObjectLocation& location) { to_free_.push_back(location); },
                       [this](const ActorId& id) {
                         if (!shared_.ended(id.sequence)) actors_.last_handle_gone(id);
                       },
                       [this](ProcessId process) { (void)connection_->send(wire::WatchProcess{process.value}); },
                       [this](ObjectEntry& entry, const Status& why) { return lineage_.rebuild(entry, why); },
                       [this](ObjectEntry& entry) { lineage_.unwanted(entry); },
                       [this](const wire::ObjectLocation& at) {
                         store_->read_soon({&at, 1});
                       },
                       [this](ObjectEntry& entry) { lineage_.gone(entry); }}),
      tasks_({[this](const wire::RequestLease& request) { (void)connection_->send(request); },
              [this](uint64_t request) { (void)connection_->send(wire::CancelLeaseRequest{request}); },
              [this](uint64_t lease) { (void)connection_->send(wire::ReturnLease{lease}); },
              [this](uint64_t lease, const std::string& reason) {
                (void)connection_->send(wire::KillLease{lease, reason});
              },
              [this](Call& call, Peer& peer) { return send_call(call, peer); },
              [this](Call& call, const Status& status) { fail_call(call, status); },
              [this](const Call& call) { return has_lost_argument(call); }, [this](Call& call) { hold_call(call); }}),
      actors_({[this](const wire::CreateActor& creation) { (void)connection_->send(creation); },
               [this](const ActorId& id) {
                 (void)connection_->send(wire::WatchActor{{id.owner, id.sequence}});
               },
               [this](const wire::KillActor& kill) { (void)connection_->send(kill); },
               [this](const wire::ReleaseActor& release) { (void)connection_->send(release); },
               [this](Call& call, Peer& peer) { return send_call(call, peer); },
               [this](Call& call, const Status& status) { fail_call(call, status); },
               [this](const ActorClient& actor) {
                 Call scratch;
                 scratch.arguments = actor.arguments;
                 for (const detail::Argument& argument : scratch.arguments)
                   if (argument.ref) objects_.note_exported(*argument.ref.get());  // its id goes along
                 std::string out(Peer::message_bytes(scratch.arguments) - sizeof(CallHeader) + 8, '\0');
                 Pen pen(std::as_writable_bytes(std::span(out)));
                 pen.write(uint64_t{scratch.arguments.size()});
                 Peer::write_arguments(scratch, pen);
                 return out;
               },
               [this](const Call& call) { return has_lost_argument(call); }, [this](Call& call) { hold_call(call); }}),
      shared_({[this](const ActorOptions& plain) { return create_actor(shared_host_function(), kSharedHostKey, plain, {}); },
               [this](const ActorId& host, const std::vector<uint64_t>& ended) { drop_instances(host, ended, {}); },
               [this](const ActorId& host) {
                 const wire::ActorPhase phase = actors_.client_for(host).phase;
                 return phase == wire::ActorPhase::kRestarting || phase == wire::ActorPhase::kDead;
               }}),
      lineage_(objects_, {[this](Call& call) { run_again(call); }, [this](Call& call) { stop_again(call); }},
               most_lineage_bytes()),
      groups_({[this](const wire::CreatePlacementGroup& creation) { (void)connection_->send(creation); },
               [this](const wire::GetPlacementGroup& question) { (void)connection_->send(question); },
               [this](const wire::RemovePlacementGroup& removal) { (void)connection_->send(removal); },
               [this] { return objects_.make(); },
               [this](ObjectEntry& entry, const Status& status) {
                 status.ok() ? objects_.complete(entry, Encoder().to_blob()) : objects_.fail(entry, status);
               }}) {}

Result<std::unique_ptr<NodeRuntime>> NodeRuntime::connect(NodeRuntimeOptions options, std::chrono::milliseconds timeout) {
  MANTA_ASSIGN_OR_RETURN(Greeting greeting, greet(options, timeout));
  std::unique_ptr<NodeRuntime> runtime(new NodeRuntime(std::move(options), greeting));
  MANTA_RETURN_IF_ERROR(runtime->open_store(greeting));
  return runtime;
}

Result<NodeRuntime::Greeting> NodeRuntime::greet(NodeRuntimeOptions& options, std::chrono::milliseconds timeout) {
  Greeting greeting;
  MANTA_ASSIGN_OR_RETURN(greeting.bell, wire::Bell::create());
  MANTA_ASSIGN_OR_RETURN(greeting.hazard, object_store::HazardPage::create());
  greeting.connection = std::make_unique<wire::Connection>(std::move(options.socket));
  MANTA_RETURN_IF_ERROR(greeting.connection->send(options.hello, {greeting.bell.fd().get(), greeting.hazard.fd().get()}));
  MANTA_ASSIGN_OR_RETURN(wire::Frame frame, greeting.connection->receive_one(timeout));
  if (frame.type == wire::Type::kRefused) {
    MANTA_ASSIGN_OR_RETURN(const wire::Refused refused, wire::decode<wire::Refused>(frame.body));
    return wire::from_wire(refused.status).with_context("the raylet refused this process");
  }
  if (frame.type != wire::Type::kWelcome || frame.descriptors.size() != 1) {
    return Status(Code::kInternal, "the raylet answered Hello with something else");
  }
  MANTA_ASSIGN_OR_RETURN(greeting.welcome, wire::decode<wire::Welcome>(frame.body));
  greeting.object_table = std::move(frame.descriptors[0]);
  return greeting;
}

Status NodeRuntime::open_store(Greeting& greeting) {
  MANTA_ASSIGN_OR_RETURN(store_, object_store::StoreClient::create(
                                     greeting.object_table, std::move(greeting.hazard),
                                     [this](wire::Type type, std::string_view body, const std::vector<int>& fds) {
                                       return connection_->send_frame(type, body, fds);
                                     },
                                     wire::node_of(self_.value)));
  tasks_.set_capacity(welcome_.capacity);
  return {};
}

void NodeRuntime::start() {
  const std::lock_guard lock(finish_mutex_);  // a signal may end the driver just now
  control_ = std::thread([this] { control_main(); });
}

NodeRuntime::~NodeRuntime() {
  stopping_ = true;
  if (wake_control_) ::eventfd_write(wake_control_.get(), 1);
  {
    const std::lock_guard lock(completer_mutex_);
    completer_wake_.notify_all();
  }
  {
    const std::lock_guard lock(jobs_mutex_);
    jobs_wake_.notify_all();
  }
  bell_.ring(wire::Bell::Line::kReplies);
  for (std::thread* thread : {&control_, &completer_, &jobs_thread_}) {
    if (thread->joinable()) thread->join();
  }
  if (store_) store_->disconnected(Status(Code::kUnavailable, "this process has left its node"));
}

bool NodeRuntime::is_needed() {
  const Guard guard(lock_);
  return live_calls_ > 0 || objects_.is_needed();
}

void NodeRuntime::say_goodbye(int exit_code) {
  leaving_ = true;
  (void)connection_->send(wire::Goodbye{exit_code});
  (void)connection_->drain(std::chrono::milliseconds(1000));
}

void NodeRuntime::finish_reading() {
  const std::lock_guard lock(finish_mutex_);
  if (control_.joinable()) control_.join();
}

// ---------------------------------------------------------------------------------------------------- waiting

void NodeRuntime::wake_waiters() { bell_.ring(wire::Bell::Line::kReplies); }

size_t NodeRuntime::poll_replies() {
  size_t replies = 0;
  for (size_t i = 0; i < active_.size();) {
    Peer& peer = *active_[i];
    const Status status = peer.poll([&](Call& call, const Reply& reply) {
      ++replies;
      on_reply(call, reply);
    });
    if (!status.ok())
      on_process_died({peer.process().value, peer.pid(), wire::to_wire(Status(Code::kDied, status.message()))});
    if (peer.in_flight() == 0) {
      peer.is_active = false;
      // `on_reply` may have sent to peers that were not active: active_ may have grown, never shrunk.
      active_[i] = active_.back();
      active_.pop_back();
    } else {
      ++i;
    }
  }
  if (active_.empty()) has_outstanding_.store(false, std::memory_order_relaxed);
  free_stored();
  return replies;
}

bool NodeRuntime::wait_until(const std::function<bool()>& done, detail::Deadline deadline) {
  if (done()) return true;
  const bool is_alone = ++waiting_ == 1;  // several that look would keep the processors from who is to answer
  const auto poll = [&] {
    if (!lock_.try_lock()) return;
    const size_t replies = poll_replies();
    lock_.unlock();
    if (replies > 0 && sleeping_.load(std::memory_order_relaxed) > 0) wake_waiters();
  };
  const auto start = std::chrono::steady_clock::now();
  const SpinPolicy::Duration limit = processors() == 1 ? SpinPolicy::Duration(0)
                                     : is_alone        ? t_spin.limit()
                                                       : SpinPolicy::kShort;
  auto now = start;
  bool is_done = false;
  while (!(is_done = done()) && now - start < limit && now < deadline) {
    poll();
    SpinPolicy::pause(now - start);
    now = std::chrono::steady_clock::now();
  }
  const bool looked = is_done;
  if (!is_done) {
    Running* const on_worker = t_running;
    if (on_worker != nullptr && on_worker->on_blocked) on_worker->on_blocked(true);
    while (true) {
      const bool is_among_calls = on_worker != nullptr && on_worker->give_back && on_worker->give_back();
      const uint32_t ticket = bell_.prepare_sleep(wire::Bell::Line::kReplies);
      size_t replies = 0;
      {
        const Guard guard(lock_);
        replies = poll_replies();
      }
      is_done = done();
      now = std::chrono::steady_clock::now();
      if (is_done || now >= deadline) {
        bell_.cancel_sleep(wire::Bell::Line::kReplies);
        if (replies > 0) wake_waiters();
        break;
      }
      if (replies > 0 && sleeping_.load(std::memory_order_relaxed) > 0) wake_waiters();
      ++sleeping_;
      const auto longest =
          std::min<std::chrono::steady_clock::duration>(deadline - now, is_among_calls ? kSleepAmongCalls : kLongestSleep);
      bell_.sleep(wire::Bell::Line::kReplies, ticket,
                  std::chrono::duration_cast<std::chrono::microseconds>(longest).count());
      --sleeping_;
    }
    if (on_worker != nullptr && on_worker->on_blocked) on_worker->on_blocked(false);
  }
  --waiting_;
  if (is_alone) t_spin.ended(now - start, looked);
  return is_done;
}

void NodeRuntime::note_outstanding() {
  if (has_outstanding_.exchange(true, std::memory_order_relaxed)) return;
  if (!completer_.joinable()) completer_ = std::thread([this] { completer_main(); });
  if (completer_deep_.load(std::memory_order_acquire)) {
    const std::lock_guard lock(completer_mutex_);
    completer_wake_.notify_all();
  }
}

// Takes replies while nobody waits, so that what is queued goes on and coroutines wake. It never competes with a thread that
// waits.
void NodeRuntime::completer_main() {
  using std::chrono::milliseconds;
  constexpr int kNapsBeforeDeep = 50;
  int naps = 0;
  while (!stopping_) {
    if (waiting_ > 0 || !has_outstanding_.load(std::memory_order_relaxed)) {
      std::unique_lock lock(completer_mutex_);
      if (++naps < kNapsBeforeDeep || waiting_ > 0) {
        completer_wake_.wait_for(lock, milliseconds(1));
        continue;
      }
      completer_deep_.store(true, std::memory_order_release);
      if (!has_outstanding_ && !stopping_) completer_wake_.wait_for(lock, milliseconds(500));
      completer_deep_.store(false, std::memory_order_release);
      continue;
    }
    naps = 0;
    const uint32_t ticket = bell_.prepare_sleep(wire::Bell::Line::kReplies);
    size_t replies = 0;
    {
      const Guard guard(lock_);
      replies = poll_replies();
    }
    if (replies > 0) {
      bell_.cancel_sleep(wire::Bell::Line::kReplies);
      wake_waiters();
      // While replies stream in, workers need not wake anybody: look again soon instead.
      std::unique_lock lock(completer_mutex_);
      completer_wake_.wait_for(lock, std::chrono::microseconds(100));
      continue;
    }
    bell_.sleep(wire::Bell::Line::kReplies, ticket, 10'000);
  }
}

// ---------------------------------------------------------------------------------------------------- objects

Handle NodeRuntime::failed(const Status& status) {
  const Guard guard(lock_);
  Handle handle = objects_.make();
  objects_.fail(*handle.get(), status);
  return handle;
}

Handle NodeRuntime::handle_for(const ObjectId& id) {
  const Guard guard(lock_);
  return objects_.handle_for(id, t_running != nullptr ? &t_running->uncovered : nullptr);
}
void NodeRuntime::note_exported(ObjectEntry& entry) {
  if (entry.exported.load(std::memory_order_acquire)) return;
  const Guard guard(lock_);
  objects_.note_exported(entry);
}
void NodeRuntime::release_exported(ObjectEntry* entry) noexcept {
  const Guard guard(lock_);
  objects_.release_exported(entry);
}
void NodeRuntime::forget(ObjectEntry* entry) noexcept {
  // Nobody can find it and nothing of it lies elsewhere: no lock.
  const ObjectState state = entry->state.load(std::memory_order_acquire);
  if ((state == ObjectState::kInline || state == ObjectState::kFailed) && !entry->extras) {
    delete entry;
    return;
  }
  const Guard guard(lock_);
  objects_.forget(entry);
  if (to_free_.size() >= 64 || active_.empty()) free_stored();
}

void NodeRuntime::free_stored() {
  if (to_free_.empty()) return;
  store_->free(to_free_);
  to_free_.clear();
}

std::vector<ObjectId> NodeRuntime::keep(Uncovered& uncovered) {
  if (uncovered.borrowed.empty()) return {};
  const Guard guard(lock_);
  return objects_.keep(uncovered);
}
void NodeRuntime::sent_in_result(const ObjectId& id, ProcessId receiver) {
  const Guard guard(lock_);
  objects_.sent_in_result(id, receiver);
}

Handle NodeRuntime::put(const Encoder& value) {
  const size_t size = value.blob_size();
  Handle handle;
  {
    const Guard guard(lock_);
    handle = objects_.make();
    for (const ObjectId& id : value.refs()) {
      handle.get()->more().inside.push_back(objects_.handle_for(id, t_running != nullptr ? &t_running->uncovered : nullptr));
    }
    if (size < kOutOfBandBytes) {
      objects_.complete(*handle.get(), value.to_blob());
      return handle;
    }
  }
  if (size <= kInlineBytes) {
    std::shared_ptr<detail::OwnMemory> blob = heap_memory(size);
    value.write_blob(blob->bytes());
    const Guard guard(lock_);
    objects_.complete(*handle.get(), std::move(blob));
    return handle;
  }
  const Result<wire::ObjectLocation> written = write_object(*store_, value, handle.get()->id);
  if (!written.ok()) throw Error(written.status().with_context("put of " + std::to_string(size) + " bytes"));
  const Guard guard(lock_);
  objects_.complete(*handle.get(), *written);
  return handle;
}

std::shared_ptr<detail::OwnMemory> NodeRuntime::allocate(size_t size_bytes) {
  return StoreMemory::create(*store_, size_bytes);
}

detail::Argument NodeRuntime::make_argument(const Encoder& value, bool outlives_submission) {
  detail::Argument out;
  const size_t size = value.blob_size();
  if (size > kInlineBytes) {
    out.ref = put(value);
    return out;
  }
  if (outlives_submission && size >= kWorthOneCopyBytes && value.refs().empty()) {
    out.unwritten = &value;
    return out;
  }
  out.blob = value.to_blob();
  for (const ObjectId& id : value.refs()) out.inside.push_back(handle_for(id));
  return out;
}

Result<detail::Value> NodeRuntime::await_value(const Handle& handle, detail::Deadline deadline) {
  ObjectEntry& entry = *handle.get();
  if (!entry.is_ready()) {
    if (entry.id.owner != self_.value) {
      const Guard guard(lock_);
      objects_.fetch(entry);
    }
    if (!wait_until([&] { return entry.is_ready(); }, deadline)) {
      return Status(Code::kTimeout, "object " + entry.id.to_string() + " was not there before the deadline");
    }
  }
  switch (entry.state.load(std::memory_order_acquire)) {
    case ObjectState::kInline: return detail::Value{entry.bytes(), entry.whole};
    case ObjectState::kStored: return read_entry(entry, deadline);
    default: return entry.error;
  }
}

size_t NodeRuntime::await_some(std::span<ObjectEntry* const> entries, size_t count, detail::Deadline deadline) {
  const auto ready_now = [&] {
    return static_cast<size_t>(
        std::count_if(entries.begin(), entries.end(), [](const ObjectEntry* e) { return e->is_ready(); }));
  };
  size_t ready = ready_now();
  if (ready >= count) return ready;
  // A countdown on every pending object: linear, however often we wake.
  struct Countdown {
    std::atomic<size_t> ready{0};
  } countdown;
  std::vector<ObjectEntry*> watched;
  {
    const Guard guard(lock_);
    ready = 0;
    for (ObjectEntry* entry : entries) {
      if (entry->is_ready()) {
        ++ready;
        continue;
      }
      if (entry->id.owner != self_.value) objects_.fetch(*entry);
      entry->waiters.push_back({[](void* context) { static_cast<Countdown*>(context)->ready.fetch_add(1); }, &countdown});
      watched.push_back(entry);
    }
  }
  wait_until([&] { return ready + countdown.ready.load() >= count; }, deadline);
  const Guard guard(lock_);
  for (ObjectEntry* entry : watched) {
    if (!entry->is_ready()) std::erase_if(entry->waiters, [&](const detail::Waiter& w) { return w.context == &countdown; });
  }
  return ready_now();
}

void NodeRuntime::ask_for(std::span<ObjectEntry* const> entries) {
  std::vector<wire::ObjectLocation> here;
  const Guard guard(lock_);
  for (ObjectEntry* entry : entries) {
    if (entry == nullptr) continue;
    if (entry->state == ObjectState::kStored) here.push_back(entry->location);
    if (entry->is_ready()) continue;
    entry->is_read_soon = true;
    objects_.fetch(*entry);
  }
  if (!here.empty()) store_->read_soon(here);
}

void NodeRuntime::idle_until(const std::function<bool()>& done) { wait_until(done, detail::kForever); }

void NodeRuntime::on_ready(const Handle& handle, void (*ready)(void*), void* context) {
  ObjectEntry& entry = *handle.get();
  {
    const Guard guard(lock_);
    if (!entry.is_ready()) {
      objects_.fetch(entry);
      entry.waiters.push_back({ready, context});
      return;
    }
  }
  ready(context);
}

bool NodeRuntime::is_cancelled() const noexcept {
  return t_running != nullptr && t_running->cancelled != nullptr && t_running->cancelled->load(std::memory_order_relaxed);
}

std::vector<int> NodeRuntime::my_devices() const {
  const Guard guard(lock_);
  return devices_;
}
void NodeRuntime::set_devices(std::vector<int> devices) {
  const Guard guard(lock_);
  devices_ = std::move(devices);
}

void NodeRuntime::cleanup_path(const std::string& path, bool add) { (void)connection_->send(wire::CleanupPath{path, add}); }

NodeInfo NodeRuntime::node_info() {
  uint64_t request = 0;
  {
    const Guard guard(lock_);
    request = next_request_++;
    state_requests_[request] = {};
  }
  (void)connection_->send(wire::GetNodeState{request});
  const bool came = wait_until(
      [&] {
        const Guard guard(lock_);
        return state_requests_[request].first || !down_.ok();
      },
      std::chrono::steady_clock::now() + std::chrono::seconds(10));
  const Guard guard(lock_);
  const wire::NodeState state = state_requests_[request].second;
  state_requests_.erase(request);
  if (!came) throw Error(Status(Code::kTimeout, "the raylet did not tell its state within 10 s"));
  if (!down_.ok()) throw Error(down_);
  const auto whole = [](int64_t amount) { return static_cast<double>(amount) / wire::kWhole; };
  NodeInfo info;
  info.cpus = whole(state.capacity.cpus), info.free_cpus = whole(state.available.cpus);
  info.gpus = whole(state.capacity.gpus), info.free_gpus = whole(state.available.gpus);
  info.workers = static_cast<int>(state.workers), info.idle_workers = static_cast<int>(state.idle_workers);
  info.actors = static_cast<int>(state.actors), info.leases = static_cast<int>(state.leases);
  info.store_capacity_bytes = state.store_capacity_bytes, info.store_used_bytes = state.store_object_bytes;
  info.store_objects = state.store_objects;
  return info;
}

}  // namespace manta

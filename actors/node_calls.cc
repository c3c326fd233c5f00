// NodeRuntime: from a submission to its last reply.
#include "actors/bytes_setting.h"
#include "actors/call_options.h"
#include "actors/node_runtime.h"
#include "actors/own_memory.h"
#include "actors/registry.h"
#include "actors/shared_host.h"
#include "common/check.h"

#include <manta/error.h>

#include <algorithm>
#include <cmath>

namespace manta {

using detail::Argument;
using detail::Handle;
using detail::Maker;
using detail::ObjectEntry;
using detail::ObjectState;

namespace {

constexpr size_t kMaxLiveCalls = 4'000'000;
constexpr size_t kMaxQueuedBytes = size_t{256} << 20;

/// MANTA_MAX_QUEUED_BYTES, for drivers with little or much memory.
size_t most_queued_bytes() {
  static const size_t most = bytes_setting("MANTA_MAX_QUEUED_BYTES", kMaxQueuedBytes, 1);
  return most;
}

/// The error as it passes from a task to those that need its result: along a chain of any length it stays readable.
Status explained(const Status& error, const std::string& context) {
  constexpr size_t kLongest = 1'000;
  return error.message().size() > kLongest ? error : error.with_context(context);
}

size_t inline_bytes(const std::vector<Argument>& arguments) {
  size_t bytes = 0;
  for (const Argument& argument : arguments)
    bytes += argument.unwritten != nullptr ? argument.unwritten->blob_size() : argument.blob.size();
  return bytes;
}

bool has_unwritten(const std::vector<Argument>& arguments) {
  return std::ranges::any_of(arguments, [](const Argument& each) { return each.unwritten != nullptr; });
}

// Of a wait for room in a ring: it is worth it only while the other side gives room back.
constexpr auto kLongestWaitForRoom = std::chrono::milliseconds(1);
constexpr auto kSoon = std::chrono::microseconds(10);
constexpr auto kStalled = std::chrono::microseconds(50);
constexpr int kHastyCalls = 32;
constexpr auto kStoreTimeout = std::chrono::seconds(10);

const std::shared_ptr<const CallPolicy>& default_task_policy() {
  static const auto policy = [] {
    auto made = std::make_shared<CallPolicy>();
    made->retries = TaskOptions().retries;
    return std::shared_ptr<const CallPolicy>(std::move(made));
  }();
  return policy;
}

std::shared_ptr<const CallPolicy> policy_of(const TaskOptions& options) {
  auto made = std::make_shared<CallPolicy>();
  made->name = options.name;
  made->retries = options.retries;
  made->retry_on = options.retry_on;
  made->timeout = options.timeout;
  made->stream_buffer = std::max(options.stream_buffer, 1);
  made->throw_when_full = options.throw_when_full;
  return made;
}

}  // namespace

// ---------------------------------------------------------------------------------------------------- submitting

uint32_t NodeRuntime::intern(const detail::Function& function, const std::string& name, const std::string& group) {
  if (name.empty() && group.empty()) {
    if (const auto at = plain_templates_.find(&function); at != plain_templates_.end()) return at->second;
  }
  const auto [at, is_new] =
      templates_.emplace(Template{&function, name, group}, static_cast<uint32_t>(template_by_id_.size()));
  if (is_new) {
    template_by_id_.push_back(&at->first);
    if (template_by_id_.size() == 1) wake_control();
    if (name.empty() && group.empty()) plain_templates_[&function] = at->second;
  }
  return at->second;
}

Call* NodeRuntime::new_call(const detail::Function& function, std::vector<Argument>&& arguments, int returns, Handle* out) {
  auto* const call = new Call();
  ++live_calls_;
  call->function = &function;
  call->returns = returns;
  call->arguments = std::move(arguments);
  call->argument_bytes = inline_bytes(call->arguments);
  queued_bytes_ += call->argument_bytes;
  const size_t objects = returns < 0 ? 1 : static_cast<size_t>(returns);
  call->first_sequence = objects_.reserve(objects);
  if (returns < 0) call->stream = std::make_unique<StreamState>();
  if (objects > 1) call->more_results.resize(objects - 1);
  for (size_t i = 0; i < objects; ++i) {
    out[i] = objects_.make(call->first_sequence + i);
    out[i].get()->producer = call;
    call->result_at(i) = out[i];
  }
  if (returns < 0) out[0].get()->stream_call = call;
  return call;
}

// A submitter that outruns the workers waits here, taking replies, instead of filling the memory.
void NodeRuntime::wait_for_room(const std::vector<Argument>& arguments, bool throw_when_full) {
  const size_t bytes = inline_bytes(arguments);
  const size_t most = most_queued_bytes();
  const auto has_room = [&] {
    const size_t calls = live_calls_.load(std::memory_order_relaxed);
    const size_t queued = queued_bytes_.load(std::memory_order_relaxed);
    return calls < kMaxLiveCalls && (queued == 0 || queued + bytes <= most);
  };
  if (has_room()) return;
  if (throw_when_full) {
    throw Error(Status(Code::kFull, "this process has " + std::to_string(live_calls_.load()) + " calls with " +
                                        std::to_string(queued_bytes_.load()) + " bytes of arguments queued (at most " +
                                        std::to_string(kMaxLiveCalls) + " and " + std::to_string(most) +
                                        "): take results before submitting more, or pass big arguments as Refs from put"));
  }
  wait_until(has_room, detail::kForever);
}

void NodeRuntime::submit_task(const detail::Function& function, const TaskOptions* options,
                              std::vector<Argument>&& arguments, int returns, Handle* out) {
  wait_for_room(arguments, options != nullptr && options->throw_when_full);
  static const wire::SchedulingClass plain = scheduling_class_of(TaskOptions());
  const std::shared_ptr<const CallPolicy> policy = options != nullptr ? policy_of(*options) : default_task_policy();
  const wire::SchedulingClass wanted = options != nullptr ? scheduling_class_of(*options) : wire::SchedulingClass();
  write_blobs(arguments);
  const Guard guard(lock_);
  Call* const call = new_call(function, std::move(arguments), returns, out);
  call->policy = policy;
  call->retries_left = policy->retries;
  call->template_id = intern(function, policy->name, {});
  call->task_class = &tasks_.class_for(options != nullptr ? wanted : plain);
  const uint64_t sequence = call->first_sequence;
  resolve_arguments(*call);  // one of them may have failed, and then the call is over
  if (!active_.empty() && sequence % 32 == 0) poll_replies();
}

void NodeRuntime::submit_call(const detail::ActorHandle& actor, const detail::Function& method, const CallOptions* options,
                              std::vector<Argument>&& arguments, int returns, Handle* out) {
  wait_for_room(arguments, options != nullptr && options->throw_when_full);
  const std::shared_ptr<const CallPolicy> policy = policy_of(options);
  const ActorId host = actor.record()->host;
  const ActorId callee = host ? host : actor.id();
  const int retries = actor.record()->max_task_retries;
  std::unique_lock lock(lock_);
  if (has_unwritten(arguments) && (retries != 0 || !can_send_at_once(callee, arguments, lock))) {
    lock.unlock();
    write_blobs(arguments);
    lock.lock();
  }
  Call* const call = new_call(method, std::move(arguments), returns, out);
  call->policy = policy;
  call->retries_left = retries;
  call->template_id = intern(method, {}, policy->group);
  call->actor = &actors_.client_for(callee);
  if (host) {
    call->instance = actor.id().sequence;
    call->target = actor.record()->life;
  }
  if (policy->timeout.count() > 0) {
    call->deadline = std::chrono::steady_clock::now() + policy->timeout;
    timed_.insert(call);
  }
  start_actor_call(*call);
}

bool NodeRuntime::can_send_at_once(const ActorId& id, const std::vector<Argument>& arguments,
                                   std::unique_lock<RuntimeLock>& lock) {
  const bool is_ready = std::ranges::all_of(arguments, [](const Argument& argument) {
    return !argument.ref || (argument.ref.get()->is_ready() && argument.ref.get()->state != ObjectState::kFailed);
  });
  const size_t size = is_ready ? Peer::message_bytes(arguments) : 0;
  if (!is_ready || size > kMaxCallBytes) return false;
  const auto start = std::chrono::steady_clock::now();
  auto moved = start;
  uint64_t given_back = 0;
  while (true) {
    ActorClient& actor = actors_.client_for(id);
    if (actor.phase != wire::ActorPhase::kAlive || actor.peer == nullptr || actor.peer->is_dead) return false;
    if (actor.queued.empty() && actor.peer->has_room(size)) return true;
    if (actor.hasty_calls > 0) return --actor.hasty_calls, false;
    const auto now = std::chrono::steady_clock::now();
    const uint64_t position = actor.peer->room_given_back();
    if (std::exchange(given_back, position) != position) moved = now;
    if (now - moved > kStalled || now - start > kLongestWaitForRoom) {
      actor.hasty_calls = kHastyCalls;
      return false;
    }
    lock.unlock();
    if (now - moved > kSoon) {
      std::this_thread::yield();  // the worker may be waiting for this processor
    } else {
      for (int i = 0; i < 16; ++i) __builtin_ia32_pause();
    }
    lock.lock();
    if (poll_replies() > 0 && sleeping_.load(std::memory_order_relaxed) > 0) wake_waiters();
  }
}

void NodeRuntime::start_actor_call(Call& call) {
  const uint64_t sequence = call.first_sequence;
  const Handle result = has_unwritten(call.arguments) ? call.result : Handle();
  // Its place in the order is taken now, before its arguments are there.
  ++call.unresolved;
  resolve_arguments(call);
  if (call.state != CallState::kDone) actors_.enqueue(call);
  argument_ready(call);
  // If it is still there and was not sent after all, the submitter's values are kept for it.
  if (result && result.get()->producer == &call && call.state != CallState::kSent) write_blobs(call.arguments);
  if (!active_.empty() && sequence % 32 == 0) poll_replies();
}

void NodeRuntime::resolve_arguments(Call& call) {
  ++call.unresolved;
  for (const Argument& argument : call.arguments) {
    if (!argument.ref) continue;
    ObjectEntry& entry = *argument.ref.get();
    if (objects_.is_lost(entry)) objects_.lose(entry);
    if (!entry.awaits_value()) {
      if (entry.state == ObjectState::kFailed) fail_call(call, explained(entry.error, "an argument of " + call_name(call)));
      continue;
    }
    objects_.fetch(entry);
    ++call.unresolved;
    entry.waiters.push_back({&ArgumentWait::ready, new ArgumentWait{this, &call}});
    if (call.state == CallState::kDone) break;
  }
  argument_ready(call);
}

void NodeRuntime::argument_ready(Call& call) {
  --call.unresolved;
  if (call.state == CallState::kDone) {
    if (call.unresolved == 0) dispose(call);
    return;
  }
  if (call.unresolved > 0) return;
  for (const Argument& argument : call.arguments) {
    if (!argument.ref) continue;
    ObjectEntry& entry = *argument.ref.get();
    const ObjectState state = entry.state.load(std::memory_order_relaxed);
    if (state == ObjectState::kFailed) return fail_call(call, explained(entry.error, "an argument of " + call_name(call)));
    if (state == ObjectState::kStored) objects_.note_exported(entry);  // its id goes along
  }
  if (!call.stored_arguments && Peer::message_bytes(call.arguments) > kMaxCallBytes) return store_arguments(call);
  dispatch(call);
}

void NodeRuntime::dispatch(Call& call) {
  if (!down_.ok()) return fail_call(call, down_);
  if (call.actor != nullptr) return actors_.argument_ready(call);
  tasks_.enqueue(call, std::chrono::steady_clock::now());
}

// Together the arguments are too long for a ring message: they go through the store as one object, off the lock.
void NodeRuntime::store_arguments(Call& call) {
  ++call.unresolved;
  const size_t size = Peer::message_bytes(call.arguments) - sizeof(CallHeader);
  post_job([this, &call, size, arguments = Peer::arguments_of(call)] {
    const auto stored = [&]() -> Result<wire::ObjectLocation> {
      MANTA_ASSIGN_OR_RETURN(object_store::MutableBlock block, store_->create(size, kStoreTimeout));
      {
        // The values under the arguments are constant and held by the call.
        Pen pen(block.bytes());
        Peer::write_arguments(arguments, pen);
      }
      return store_->seal(std::move(block), ObjectId{self_.value, call.first_sequence});
    }();
    const Guard guard(lock_);
    if (stored.ok()) {
      call.stored_arguments = objects_.make();
      objects_.complete(*call.stored_arguments.get(), *stored);
    } else if (call.state != CallState::kDone) {
      fail_call(call, stored.status().with_context("the arguments of " + call_name(call)));
    }
    argument_ready(call);
  });
}

bool NodeRuntime::send_call(Call& call, Peer& peer) {
  if (peer.is_dead) return false;
  if (call.stream && call.stream->slot < 0) {
    call.stream->slot = peer.take_stream_slot();
    if (call.stream->slot < 0) return false;
  }
  if (!peer.send(call, *template_by_id_[call.template_id])) {
    if (call.stream) peer.return_stream_slot(std::exchange(call.stream->slot, -1));
    return false;
  }
  call.inside.clear();  // of an attempt that died
  if (!peer.is_active) {
    peer.is_active = true;
    active_.push_back(&peer);
    note_outstanding();
  }
  if (call.policy->timeout.count() > 0) {
    timed_.insert(&call);
  }
  return true;
}

// ---------------------------------------------------------------------------------------------------- replies

void NodeRuntime::set_result(Call& call, size_t index, const Reply& reply) {
  ObjectEntry* const entry = call.result_entry(index);
  if (entry != nullptr && entry->awaits_value()) return set_value(call, *entry, reply);
  const Handle unwanted = objects_.make();  // the call ran again for others: takes the value with it
  set_value(call, *unwanted.get(), reply);
}

void NodeRuntime::set_value(Call& call, ObjectEntry& entry, const Reply& reply) {
  if (entry.extras) entry.extras->inside.clear();  // of a value that is lost
  if (reply.header.value_kind == static_cast<uint32_t>(PartKind::kStored)) {
    entry.maker = call.actor != nullptr ? Maker::kMethod : call.stream ? Maker::kStream : Maker::kTask;
    PackedLocation at;
    std::memcpy(&at, reply.value.data(), sizeof at);
    if (!call.inside.empty()) entry.more().inside = std::exchange(call.inside, {});
    objects_.complete(entry, unpack(at));
  } else {
    if (reply.value.size() < kOutOfBandBytes) {
      std::string blob(reinterpret_cast<const char*>(reply.value.data()), reply.value.size());
      objects_.hold_inside(entry, std::as_bytes(std::span(blob)));
      return objects_.complete(entry, std::move(blob));
    }
    std::shared_ptr<detail::OwnMemory> blob = heap_memory(reply.value.size());
    std::memcpy(blob->bytes().data(), reply.value.data(), reply.value.size());
    objects_.hold_inside(entry, blob->bytes());
    objects_.complete(entry, std::move(blob));
  }
}

void NodeRuntime::on_reply(Call& call, const Reply& reply) {
  Cursor kept(reply.kept);
  while (kept.rest().size() >= 16) {
    const auto owner = kept.read<uint64_t>();
    const auto sequence = kept.read<uint64_t>();
    objects_.kept_by({owner, sequence}, call.peer->process());
  }
  switch (reply.kind) {
    case ReplyKind::kInside:
      for (Cursor ids(reply.value); ids.rest().size() >= 16;) {
        const auto owner = ids.read<uint64_t>();
        const auto sequence = ids.read<uint64_t>();
        call.inside.push_back(objects_.received({owner, sequence}));
      }
      return;
    case ReplyKind::kPart:
      if (call.stream) {
        Handle item = objects_.make();
        set_value(call, *item.get(), reply);
        ++call.stream->arrived;
        if (!call.stream->closed) call.stream->items.push_back(std::move(item));
        wake_waiters();
      } else if (reply.header.index < call.result_count()) {
        set_result(call, reply.header.index, reply);
      }
      return;
    case ReplyKind::kResult: set_result(call, 0, reply); return finish(call, reply.header.run_ns);
    case ReplyKind::kNotBegun: return take_not_begun(call);
    case ReplyKind::kDone: {
      const Status missing(Code::kInternal, call_name(call) + " returned " + std::to_string(reply.header.index) +
                                                " values, not " + std::to_string(call.result_count()));
      if (call.stream) {
        Encoder count;
        count.unsigned_integer(call.stream->arrived);
        objects_.complete(*call.result.get(), count.to_blob());
      }
      if (call.stream || reply.header.index < call.result_count()) fail_results(call, missing);
      return finish(call, reply.header.run_ns);
    }
    case ReplyKind::kFailed: {
      const auto& wanted = call.policy->retry_on;
      const bool listed = std::any_of(wanted.begin(), wanted.end(), [&](const std::string& type) {
        return type == "*" || type == reply.error.origin_type();
      });
      if (call.task_class != nullptr && listed && call.retries_left != 0 && !call.cancelled && !call.stream) {
        if (call.retries_left > 0) --call.retries_left;
        const auto now = std::chrono::steady_clock::now();
        timed_.erase(&call);
        call.peer->forget(call);
        tasks_.finished(call, reply.header.run_ns, now);
        return tasks_.retry(call, now);
      }
      fail_results(call, reply.error);
      return finish(call, reply.header.run_ns);
    }
  }
}

/// Its worker waits inside another task, on another node: from there it could not be taken back.
void NodeRuntime::take_not_begun(Call& call) {
  const auto now = std::chrono::steady_clock::now();
  const bool is_wrong = call.task_class == nullptr || (call.stream && call.stream->arrived > 0);
  if (is_wrong || call.cancelled || call.deadline <= now) {
    const Status late(Code::kTimeout, call_name(call) + " did not begin before its deadline");
    const Status wrong(Code::kInternal, call_name(call) + " was given back by a worker that had begun it");
    fail_results(call, is_wrong ? wrong : late);
    return finish(call, 0);
  }
  timed_.erase(&call);
  call.peer->forget(call);
  tasks_.not_begun(call, now);
}

void NodeRuntime::finish(Call& call, uint64_t run_ns) {
  timed_.erase(&call);
  call.peer->forget(call);
  call.state = CallState::kDone;
  if (call.actor != nullptr) {
    actors_.finished(call);
  } else {
    tasks_.finished(call, run_ns, std::chrono::steady_clock::now());
  }
  dispose(call);
}

void NodeRuntime::fail_results(Call& call, const Status& status) {
  const Status error = call.cancelled ? Status(Code::kCancelled, call_name(call) + " was cancelled")
                       : call.lineage ? explained(status, "a lost result was to be made again")
                                      : status;
  for (size_t i = 0; i < call.result_count(); ++i) {
    if (ObjectEntry* const entry = call.result_entry(i)) objects_.fail(*entry, error);
  }
}

/// Ends a call that no worker has (any more).
void NodeRuntime::fail_call(Call& call, const Status& status) {
  if (call.state == CallState::kDone) return;
  const bool is_waiting = call.unresolved > 0;
  if (call.actor != nullptr && call.state != CallState::kSent) (void)actors_.withdraw(call);
  timed_.erase(&call);
  const bool was_sent = std::exchange(call.state, CallState::kDone) == CallState::kSent;
  // The constructor of a shared actor that never reached its host: calls that did would wait there for it.
  if (call.instance != 0 && !was_sent && call.function->kind == detail::FunctionKind::kConstructor)
    drop_instances(call.actor->id, {call.instance}, status.message());
  fail_results(call, status.code() == Code::kDied ? status.with_context(call_name(call)) : status);
  wake_waiters();
  if (!is_waiting) dispose(call);
}

void NodeRuntime::dispose(Call& call) {
  if (call.unresolved > 0) return;
  // A stream is read from what the call left; the stream's end keeps it until the reader is done.
  if (call.stream && !call.stream->closed) return;
  --live_calls_;
  queued_bytes_ -= call.argument_bytes;
  if (!lineage_.keep(call)) delete &call;
}

std::string NodeRuntime::call_name(const Call& call) const {
  const std::string name = !call.policy || call.policy->name.empty() ? function_name(*call.function) : call.policy->name;
  return (call.actor != nullptr ? "call " : "task ") + name;
}

// ---------------------------------------------------------------------------------------------------- cancel, streams

Status NodeRuntime::cancel_call(Call& call, bool force) {
  if (call.state == CallState::kDone) return {};
  call.cancelled = true;
  const bool withdrawn =
      call.actor != nullptr ? actors_.withdraw(call) : tasks_.withdraw(call, std::chrono::steady_clock::now());
  if (withdrawn) {
    fail_call(call, {});
    return {};
  }
  if (force && call.lease != nullptr) {
    call.retries_left = 0;
    tasks_.kill_worker_of(call, "a task on it was cancelled with force");
  } else if (call.peer != nullptr) {
    (void)connection_->send(
        wire::Relay{self_.value, call.peer->process().value, peer_payload(PeerCancel{call.peer->cookie(call)})});
  }
  fail_results(call, {});
  wake_waiters();
  return {};
}

Status NodeRuntime::cancel(const Handle& handle, bool force) {
  const Guard guard(lock_);
  ObjectEntry& entry = *handle.get();
  if (entry.id.owner != self_.value) return Status(Code::kInvalid, "only the process that submitted a call can cancel it");
  if (entry.is_ready() || entry.producer == nullptr) return {};
  return cancel_call(*static_cast<Call*>(entry.producer), force);
}

Handle NodeRuntime::next_stream_item(const Handle& stream, uint64_t, detail::Deadline deadline, Status& status) {
  ObjectEntry& end = *stream.get();
  Call* call = nullptr;
  {
    const Guard guard(lock_);
    call = static_cast<Call*>(end.stream_call);
  }
  if (call == nullptr) return {};
  const auto has_item = [&] {
    const Guard guard(lock_);
    return !call->stream->items.empty() || end.is_ready();
  };
  if (!wait_until(has_item, deadline)) {
    status = Status(Code::kTimeout, "the stream's next item was not there before the deadline");
    return {};
  }
  const Guard guard(lock_);
  StreamState& state = *call->stream;
  if (!state.items.empty()) {
    Handle item = std::move(state.items.front());
    state.items.pop_front();
    ++state.read;
    if (call->peer != nullptr) call->peer->advance_stream(*call, state.read);
    return item;
  }
  if (end.state == ObjectState::kFailed) status = end.error;
  return {};
}

void NodeRuntime::close_stream(const Handle& stream) {
  const Guard guard(lock_);
  Call* const call = static_cast<Call*>(stream.get()->stream_call);
  if (call == nullptr) return;
  stream.get()->stream_call = nullptr;
  call->stream->closed = true;
  call->stream->items.clear();
  if (call->state != CallState::kDone) {
    (void)cancel_call(*call, false);
  } else {
    dispose(*call);
  }
}

}  // namespace manta

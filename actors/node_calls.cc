// NodeRuntime: from a submission to its last reply.
#include "actors/node_runtime.h"
#include "actors/registry.h"
#include "actors/shared_host.h"
#include "common/check.h"

#include <manta/error.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>

namespace manta {

using detail::Argument;
using detail::Handle;
using detail::ObjectEntry;
using detail::ObjectState;

namespace {

constexpr size_t kMaxLiveCalls = 4'000'000;
constexpr size_t kMaxQueuedBytes = size_t{256} << 20;

/// MANTA_MAX_QUEUED_BYTES, for tests and for drivers with much memory.
size_t most_queued_bytes() {
  static const size_t most = [] {
    const char* const text = std::getenv("MANTA_MAX_QUEUED_BYTES");
    const unsigned long long given = text != nullptr ? std::strtoull(text, nullptr, 10) : 0;
    return given > 0 ? static_cast<size_t>(given) : kMaxQueuedBytes;
  }();
  return most;
}

size_t inline_bytes(const std::vector<Argument>& arguments) {
  size_t bytes = 0;
  for (const Argument& argument : arguments) bytes += argument.blob.size();
  return bytes;
}
constexpr auto kStoreTimeout = std::chrono::seconds(10);

int64_t fixed_point(double amount, const char* what) {
  if (!(amount >= 0) || amount > 1e9) {
    throw Error(Status(Code::kInvalid, std::string(what) + " must be between 0 and 1e9, not " + std::to_string(amount)));
  }
  return std::llround(amount * wire::kWhole);
}

template <typename Options>
wire::SchedulingClass scheduling_class_of(const Options& options) {
  wire::SchedulingClass out;
  out.resources.cpus = fixed_point(options.cpus, "cpus");
  out.resources.gpus = fixed_point(options.gpus, "gpus");
  if (out.resources.gpus > wire::kWhole && out.resources.gpus % wire::kWhole != 0) {
    throw Error(Status(Code::kInvalid, "gpus must be below 1 or a whole number, not " + std::to_string(options.gpus)));
  }
  out.resources.gpu_memory_bytes = options.gpu_memory_bytes;
  out.resources.memory_bytes = options.memory_bytes;
  for (const auto& [name, amount] : options.resources) out.resources.custom[name] = fixed_point(amount, name.c_str());
  out.env = options.env;
  return out;
}

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

std::shared_ptr<const CallPolicy> policy_of(const CallOptions* options) {
  static const auto plain = std::make_shared<const CallPolicy>();
  if (options == nullptr) return plain;
  auto made = std::make_shared<CallPolicy>();
  made->group = options->group;
  made->timeout = options->timeout;
  made->stream_buffer = std::max(options->stream_buffer, 1);
  made->throw_when_full = options->throw_when_full;
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
  const auto has_room = [&] {
    const size_t calls = live_calls_.load(std::memory_order_relaxed);
    const size_t queued = queued_bytes_.load(std::memory_order_relaxed);
    return calls < kMaxLiveCalls && (queued == 0 || queued + bytes <= most_queued_bytes());
  };
  if (has_room()) return;
  if (throw_when_full) {
    throw Error(Status(Code::kFull, "this process has " + std::to_string(live_calls_.load()) + " calls with " +
                                        std::to_string(queued_bytes_.load()) + " bytes of arguments queued (at most " +
                                        std::to_string(kMaxLiveCalls) + " and " + std::to_string(most_queued_bytes()) +
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
  const Guard guard(lock_);
  Call* const call = new_call(function, std::move(arguments), returns, out);
  call->policy = policy;
  call->retries_left = policy->retries;
  call->template_id = intern(function, policy->name, {});
  call->task_class = &tasks_.class_for(options != nullptr ? wanted : plain);
  resolve_arguments(*call);
  if (!active_.empty() && call->first_sequence % 32 == 0) poll_replies();
}

void NodeRuntime::submit_call(const detail::ActorHandle& actor, const detail::Function& method, const CallOptions* options,
                              std::vector<Argument>&& arguments, int returns, Handle* out) {
  wait_for_room(arguments, options != nullptr && options->throw_when_full);
  const std::shared_ptr<const CallPolicy> policy = policy_of(options);
  const Guard guard(lock_);
  Call* const call = new_call(method, std::move(arguments), returns, out);
  call->policy = policy;
  call->retries_left = actor.record()->max_task_retries;
  call->template_id = intern(method, {}, policy->group);
  if (const ActorId host = actor.record()->host; host) {
    call->actor = &actors_.client_for(host);
    call->instance = actor.id().sequence;
    call->target = actor.record()->life;
  } else {
    call->actor = &actors_.client_for(actor.id());
  }
  if (policy->timeout.count() > 0) {
    call->deadline = std::chrono::steady_clock::now() + policy->timeout;
    timed_.insert(call);
  }
  start_actor_call(*call);
}

void NodeRuntime::start_actor_call(Call& call) {
  const uint64_t sequence = call.first_sequence;
  // Its place in the order is taken now, before its arguments are there.
  ++call.unresolved;
  resolve_arguments(call);
  if (call.state != CallState::kDone) actors_.enqueue(call);
  argument_ready(call);
  if (!active_.empty() && sequence % 32 == 0) poll_replies();
}

void NodeRuntime::resolve_arguments(Call& call) {
  struct Waiting {
    NodeRuntime* runtime;
    Call* call;
  };
  ++call.unresolved;
  for (const Argument& argument : call.arguments) {
    if (!argument.ref) continue;
    ObjectEntry& entry = *argument.ref.get();
    if (entry.is_ready()) {
      if (entry.state == ObjectState::kFailed)
        fail_call(call, entry.error.with_context("an argument of " + call_name(call)));
      continue;
    }
    objects_.fetch(entry);
    ++call.unresolved;
    entry.waiters.push_back({[](void* context) {
                               const std::unique_ptr<Waiting> self(static_cast<Waiting*>(context));
                               self->runtime->argument_ready(*self->call);
                             },
                             new Waiting{this, &call}});
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
    if (argument.ref && argument.ref.get()->state == ObjectState::kFailed) {
      return fail_call(call, argument.ref.get()->error.with_context("an argument of " + call_name(call)));
    }
  }
  if (!call.stored_arguments && Peer::message_bytes(call) > kMaxCallBytes) return store_arguments(call);
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
  const size_t size = Peer::message_bytes(call) - sizeof(CallHeader);
  post_job([this, &call, size] {
    const auto stored = [&]() -> Result<wire::ObjectLocation> {
      MANTA_ASSIGN_OR_RETURN(object_store::MutableBlock block, store_->create(size, kStoreTimeout));
      {
        // The values under the arguments are constant and held by the call.
        Pen pen(block.bytes());
        Peer::write_arguments(call, pen);
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

void NodeRuntime::set_value(ObjectEntry& entry, const Reply& reply) {
  if (reply.header.value_kind == static_cast<uint32_t>(PartKind::kStored)) {
    PackedLocation at;
    std::memcpy(&at, reply.value.data(), sizeof at);
    Cursor ids(reply.value.subspan(sizeof at));
    while (ids.rest().size() >= 16) {
      const auto owner = ids.read<uint64_t>();
      const auto sequence = ids.read<uint64_t>();
      entry.more().inside.push_back(objects_.received({owner, sequence}));
    }
    objects_.complete(entry, unpack(at));
  } else {
    std::string blob(reinterpret_cast<const char*>(reply.value.data()), reply.value.size());
    objects_.hold_inside(entry, std::as_bytes(std::span(blob)));
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
    case ReplyKind::kPart:
      if (call.stream) {
        Handle item = objects_.make();
        set_value(*item.get(), reply);
        ++call.stream->arrived;
        if (!call.stream->closed) call.stream->items.push_back(std::move(item));
        wake_waiters();
      } else if (reply.header.index < call.result_count()) {
        set_value(*call.result_at(reply.header.index).get(), reply);
      }
      return;
    case ReplyKind::kResult: set_value(*call.result.get(), reply); return finish(call, reply.header.run_ns);
    case ReplyKind::kDone: {
      const Status missing(Code::kInternal, call_name(call) + " returned " + std::to_string(reply.header.index) +
                                                " values, not " + std::to_string(call.result_count()));
      if (call.stream) {
        Encoder count;
        count.unsigned_integer(call.stream->arrived);
        objects_.complete(*call.result.get(), count.to_blob());
      }
      fail_results(call, missing);
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
  const Status& error = call.cancelled ? Status(Code::kCancelled, call_name(call) + " was cancelled") : status;
  for (size_t i = 0; i < call.result_count(); ++i) objects_.fail(*call.result_at(i).get(), error);
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
  fail_results(call, status);
  wake_waiters();
  if (!is_waiting) dispose(call);
}

void NodeRuntime::dispose(Call& call) {
  if (call.unresolved > 0) return;
  for (size_t i = 0; i < call.result_count(); ++i) {
    if (call.result_at(i)) call.result_at(i).get()->producer = nullptr;
  }
  // A stream is read from what the call left; the stream's end keeps it until the reader is done.
  if (call.stream && !call.stream->closed) return;
  --live_calls_;
  queued_bytes_ -= call.argument_bytes;
  delete &call;
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

// ---------------------------------------------------------------------------------------------------- actors

detail::ActorHandle NodeRuntime::create_actor(const detail::Function& constructor, const char* class_key,
                                              const ActorOptions& options, std::vector<Argument>&& arguments) {
  if (options.shared_process) return create_shared(constructor, class_key, options, std::move(arguments));
  wire::CreateActor creation;
  creation.class_key = constructor.key;
  creation.class_name = detail::type_name(class_key);
  creation.scheduling_class = scheduling_class_of(options);
  creation.max_restarts = options.max_restarts;
  creation.max_concurrency = std::max(options.max_concurrency, 1);
  for (const auto& [name, threads] : options.concurrency_groups) creation.concurrency_groups[name] = threads;
  creation.name = options.name;
  creation.name_space = options.name_space;
  creation.detached = options.detached;
  creation.get_if_exists = options.get_if_exists;

  if (options.get_if_exists && !options.name.empty()) {
    try {
      return find_actor(options.name, options.name_space, class_key);
    } catch (const Error& error) {
      if (error.code() != Code::kNotFound) throw;
    }
  }
  struct Waiting {
    NodeRuntime* runtime;
    ActorId actor;
    Handle argument;
  };
  const Guard guard(lock_);
  Handle life = objects_.make();
  const ActorId id{life.get()->id.owner, life.get()->id.sequence};
  life.get()->is_actor = true;
  creation.actor = {id.owner, id.sequence};
  auto record = std::make_shared<detail::ActorRecord>();
  record->id = id;
  record->life = life;
  record->class_key = class_key;
  record->max_task_retries = options.max_task_retries;
  records_[id] = record;

  int unresolved = 0;
  Status failed_argument;
  std::vector<Handle> pending;
  for (const Argument& argument : arguments) {
    if (!argument.ref) continue;
    ObjectEntry& entry = *argument.ref.get();
    if (!entry.is_ready()) {
      objects_.fetch(entry);
      pending.push_back(argument.ref);
      ++unresolved;
    } else if (entry.state == ObjectState::kFailed) {
      failed_argument = entry.error;
      ++unresolved;
    }
  }
  ActorClient& client = actors_.create(id, std::move(creation), std::move(arguments), unresolved);
  client.max_task_retries = options.max_task_retries;
  if (!failed_argument.ok()) actors_.creation_argument_ready(client, failed_argument);
  for (const Handle& argument : pending) {
    argument.get()->waiters.push_back({[](void* context) {
                                         const std::unique_ptr<Waiting> self(static_cast<Waiting*>(context));
                                         if (ActorClient* const actor = self->runtime->actors_.find(self->actor)) {
                                           self->runtime->actors_.creation_argument_ready(*actor,
                                                                                          self->argument.get()->error);
                                         }
                                       },
                                       new Waiting{this, id, argument}});
  }
  return detail::ActorHandle(std::move(record));
}

detail::ActorHandle NodeRuntime::create_shared(const detail::Function& constructor, const char* class_key,
                                               const ActorOptions& options, std::vector<Argument>&& arguments) {
  SharedActors::check(options);
  wait_for_room(arguments, false);
  const Guard guard(lock_);
  auto record = std::make_shared<detail::ActorRecord>();
  record->life = objects_.make();
  ObjectEntry& life = *record->life.get();
  life.is_actor = true;
  record->id = {life.id.owner, life.id.sequence};
  record->class_key = class_key;
  const auto most = static_cast<size_t>(std::max<int64_t>(welcome_.capacity.cpus / wire::kWhole, 1));
  const detail::ActorHandle& host = shared_.add(record->id.sequence, options, most);
  record->host = host.id();
  records_[record->id] = record;
  Call* const call = new_call(constructor, std::move(arguments), 1, &record->made);
  call->policy = policy_of(nullptr);
  call->template_id = intern(constructor, {}, {});
  call->actor = &actors_.client_for(record->host);
  call->instance = record->id.sequence;
  call->target = record->life;
  start_actor_call(*call);
  return detail::ActorHandle(std::move(record));
}

void NodeRuntime::drop_instances(const ActorId& host, const std::vector<uint64_t>& instances, const std::string& why) {
  const auto argument = [this]<typename T>(const T& value) {
    Encoder out;
    Codec<T>::encode(out, value);
    return make_argument(out);
  };
  std::vector<Argument> arguments;
  arguments.push_back(argument(instances));
  arguments.push_back(argument(why));
  const Guard guard(lock_);
  Handle done;  // nobody waits for it
  Call* const call = new_call(drop_instances_function(), std::move(arguments), 1, &done);
  call->policy = policy_of(nullptr);
  call->template_id = intern(drop_instances_function(), {}, {});
  call->actor = &actors_.client_for(host);
  start_actor_call(*call);
}

detail::ActorHandle NodeRuntime::find_actor(const std::string& name, const std::string& name_space, const char* class_key) {
  uint64_t request = 0;
  {
    const Guard guard(lock_);
    request = next_request_++;
    searches_[request] = {};
  }
  (void)connection_->send(wire::FindActor{request, name, name_space});
  const bool came = wait_until(
      [&] {
        const Guard guard(lock_);
        return searches_[request].first || !down_.ok();
      },
      std::chrono::steady_clock::now() + std::chrono::seconds(10));
  const Guard guard(lock_);
  const wire::ActorFound found = searches_[request].second;
  searches_.erase(request);
  if (!came || !down_.ok()) throw Error(down_.ok() ? Status(Code::kTimeout, "the head did not answer within 10 s") : down_);
  throw_if_error(wire::from_wire(found.status));
  if (found.class_name != detail::type_name(class_key)) {
    throw Error(Status(Code::kInvalid,
                       "the actor named " + name + " is a " + found.class_name + ", not a " + detail::type_name(class_key)));
  }
  const ActorId id{found.actor.owner, found.actor.sequence};
  if (auto living = records_[id].lock()) return detail::ActorHandle(std::move(living));
  auto record = std::make_shared<detail::ActorRecord>();
  record->id = id;
  record->class_key = class_key;
  records_[id] = record;
  actors_.client_for(id);
  return detail::ActorHandle(std::move(record));
}

void NodeRuntime::kill_actor(const detail::ActorHandle& actor, bool allow_restart) {
  if (const ActorId host = actor.record()->host; host)
    return drop_instances(host, {actor.id().sequence}, "the actor was killed by its user");
  (void)connection_->send(
      wire::KillActor{{actor.id().owner, actor.id().sequence}, false, !allow_restart, "killed by its user"});
}

Status NodeRuntime::await_actor(const detail::ActorHandle& actor, detail::Deadline deadline) {
  if (actor.record()->made) return await_value(actor.record()->made, deadline).status();
  const ActorId id = actor.record()->host ? actor.record()->host : actor.id();
  Status status;
  const bool came = wait_until(
      [&] {
        const Guard guard(lock_);
        const ActorClient& client = actors_.client_for(id);
        status = client.phase == wire::ActorPhase::kDead ? client.cause : Status();
        return client.phase == wire::ActorPhase::kDead || client.phase == wire::ActorPhase::kAlive;
      },
      deadline);
  if (came) return status;
  const Guard guard(lock_);
  const Status waits = actors_.client_for(id).cause;
  return Status(Code::kTimeout,
                "the actor did not start before the deadline" + (waits.ok() ? std::string() : ": " + waits.message()));
}

void NodeRuntime::encode_actor(Encoder& out, const detail::ActorHandle& actor) {
  out.array_header(7);
  out.unsigned_integer(actor.id().owner);
  out.unsigned_integer(actor.id().sequence);
  out.text(actor ? actor.record()->class_key : "");
  out.integer(actor ? actor.record()->max_task_retries : 0);
  out.unsigned_integer(actor ? actor.record()->host.owner : 0);
  out.unsigned_integer(actor ? actor.record()->host.sequence : 0);
  detail::encode_ref(out, actor ? actor.record()->life : Handle());
}

detail::ActorHandle NodeRuntime::decode_actor(Decoder& in) {
  if (in.array_header() != 7) return in.fail("an actor handle was expected"), detail::ActorHandle();
  const uint64_t owner = in.unsigned_integer();
  const uint64_t sequence = in.unsigned_integer();
  const std::string class_key(in.text());
  const int64_t retries = in.integer();
  const uint64_t host_owner = in.unsigned_integer();
  const uint64_t host_sequence = in.unsigned_integer();
  Handle life = detail::decode_ref(in);
  const ActorId id{owner, sequence};
  if (!in.ok() || !id) return {};
  const Guard guard(lock_);
  if (auto living = records_[id].lock()) return detail::ActorHandle(std::move(living));
  auto record = std::make_shared<detail::ActorRecord>();
  record->id = id;
  record->life = std::move(life);
  record->class_key = class_key;
  record->max_task_retries = static_cast<int>(retries);
  record->host = {host_owner, host_sequence};
  records_[id] = record;
  actors_.client_for(record->host ? record->host : id);
  return detail::ActorHandle(std::move(record));
}

void NodeRuntime::forget_actor(const ActorId& id) noexcept {
  const Guard guard(lock_);
  if (const auto at = records_.find(id); at != records_.end() && at->second.expired()) records_.erase(at);
}

}  // namespace manta

// NodeRuntime: making, finding, passing and ending actors.
#include "actors/call_options.h"
#include "actors/node_runtime.h"
#include "actors/registry.h"
#include "actors/shared_host.h"
#include "common/check.h"

#include <manta/error.h>

#include <algorithm>

namespace manta {

using detail::Argument;
using detail::Handle;
using detail::ObjectEntry;
using detail::ObjectState;

detail::ActorHandle NodeRuntime::create_actor(const detail::Function& constructor, const char* class_key,
                                              const ActorOptions& options, std::vector<Argument>&& arguments) {
  write_blobs(arguments);
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
    return make_argument(out, false);
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
      std::chrono::steady_clock::now() + std::chrono::seconds(30));  // a head that is started again answers late
  const Guard guard(lock_);
  const wire::ActorFound found = searches_[request].second;
  searches_.erase(request);
  if (!came || !down_.ok()) throw Error(down_.ok() ? Status(Code::kTimeout, "the head did not answer within 30 s") : down_);
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
  const auto at = records_.find(id);
  if (at == records_.end() || !at->second.expired()) return;
  records_.erase(at);
  actors_.forget(id);
}

}  // namespace manta

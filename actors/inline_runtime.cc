#include "actors/inline_runtime.h"

#include "actors/failure.h"
#include "actors/registry.h"
#include "common/processors.h"

#include <manta/error.h>

namespace manta {

using detail::Argument;
using detail::Handle;
using detail::ObjectEntry;
using detail::ObjectState;

class InlineRuntime::Call final : public detail::Invocation {
 public:
  Call(InlineRuntime& runtime, Instance* made, int returns, Handle* out)
      : runtime_(runtime), made_(made), returns_(returns), out_(out) {}
  virtual ~Call() = default;

  void set_instance(std::shared_ptr<void> instance, const detail::InstanceHooks&) override {
    made_->object = std::move(instance);
  }
  [[nodiscard]] size_t argument_count() const override { return values.size(); }
  [[nodiscard]] const detail::Value& argument(size_t index) const override { return values[index]; }
  void emit(size_t index, const Encoder& value) override {
    std::vector<Handle> inside;
    for (const ObjectId& id : value.refs()) inside.push_back(runtime_.handle_for(id));
    if (returns_ >= 0) return runtime_.finish(*out_[index].get(), value.to_blob(), std::move(inside));
    Handle item = runtime_.new_object();
    runtime_.finish(*item.get(), value.to_blob(), std::move(inside));
    const std::lock_guard lock(runtime_.mutex_);
    runtime_.streams_[out_[0].get()].push_back(std::move(item));
  }

  std::vector<detail::Value> values;

 private:
  InlineRuntime& runtime_;
  Instance* made_;
  int returns_;
  Handle* out_;
};

InlineRuntime::InlineRuntime() = default;
InlineRuntime::~InlineRuntime() { actors_.clear(); }

Handle InlineRuntime::new_object() {
  auto* const entry = new ObjectEntry();
  entry->id = {1, ++next_};
  return Handle(entry);
}

void InlineRuntime::finish(ObjectEntry& entry, Result<std::string> blob, std::vector<Handle> inside) {
  std::vector<detail::Waiter> waiters;
  {
    const std::lock_guard lock(mutex_);
    if (entry.is_ready()) return;
    if (!inside.empty()) entry.more().inside = std::move(inside);
    const ObjectState state = blob.ok() ? ObjectState::kInline : ObjectState::kFailed;
    if (blob.ok()) {
      entry.blob = std::move(blob).value();
    } else {
      entry.error = blob.status();
    }
    entry.state.store(state, std::memory_order_release);
    waiters.swap(entry.waiters);
  }
  for (const detail::Waiter& waiter : waiters) waiter.ready(waiter.context);
}

void InlineRuntime::run(const detail::Function& function, const std::string& name, void* self, Instance* made,
                        std::vector<Argument>&& arguments, int returns, Handle* out) {
  const int objects = returns < 0 ? 1 : returns;
  for (int i = 0; i < objects; ++i) out[i] = new_object();
  Call call(*this, made, returns, out);
  call.self = self;
  Status status;
  for (const Argument& argument : arguments) {
    if (!argument.ref) {
      call.values.push_back({std::as_bytes(std::span(argument.blob)), nullptr});
      continue;
    }
    Result<detail::Value> value = await_value(argument.ref, detail::kForever);
    if (!value.ok()) status = value.status();
    call.values.push_back(value.ok() ? std::move(value).value() : detail::Value{});
  }
  if (status.ok()) status = run_guarded(function.thunk, call).with_context(name + " (inline)");
  if (!status.ok() && made != nullptr) made->error = status;
  for (int i = 0; i < objects; ++i) {
    if (!status.ok()) {
      finish(*out[i].get(), status, {});
    } else if (!out[i].get()->is_ready()) {
      finish(*out[i].get(), Encoder().to_blob(), {});
    }
  }
}

void InlineRuntime::submit_task(const detail::Function& function, const TaskOptions* options,
                                std::vector<Argument>&& arguments, int returns, Handle* out) {
  const std::string name = options != nullptr && !options->name.empty() ? options->name.value() : function_name(function);
  run(function, "task " + name, nullptr, nullptr, std::move(arguments), returns, out);
}

detail::ActorHandle InlineRuntime::create_actor(const detail::Function& constructor, const char* class_key,
                                                const ActorOptions& options, std::vector<Argument>&& arguments) {
  if (!options.name.empty()) {
    const std::lock_guard lock(mutex_);
    for (const auto& [id, instance] : actors_) {
      if (instance->name != options.name_space + "/" + options.name) continue;
      if (!options.get_if_exists) throw Error(Status(Code::kExists, "an actor named " + options.name + " is alive"));
      auto record = std::make_shared<detail::ActorRecord>();
      record->id = id;
      return detail::ActorHandle(std::move(record));
    }
  }
  auto record = std::make_shared<detail::ActorRecord>();
  record->id = {1, ++next_};
  record->class_key = class_key;
  auto instance = std::make_shared<Instance>();
  instance->class_key = class_key;
  instance->detached = options.detached;
  if (!options.name.empty()) instance->name = options.name_space + "/" + options.name;
  instance->record = record;
  run(constructor, "constructor of " + function_name(constructor), nullptr, instance.get(), std::move(arguments), 0,
      nullptr);
  const std::lock_guard lock(mutex_);
  actors_[record->id] = std::move(instance);
  return detail::ActorHandle(std::move(record));
}

detail::ActorHandle InlineRuntime::find_actor(const std::string& name, const std::string& name_space,
                                              const char* class_key) {
  const std::lock_guard lock(mutex_);
  for (const auto& [id, instance] : actors_) {
    if (instance->name != name_space + "/" + name) continue;
    if (instance->class_key != class_key) {
      throw Error(
          Status(Code::kInvalid, "the actor named " + name + " is a " + detail::type_name(instance->class_key.c_str())));
    }
    if (auto living = instance->record.lock()) return detail::ActorHandle(std::move(living));
    auto record = std::make_shared<detail::ActorRecord>();
    record->id = id;
    instance->record = record;
    return detail::ActorHandle(std::move(record));
  }
  throw Error(Status(Code::kNotFound, "no actor is named " + name));
}

void InlineRuntime::submit_call(const detail::ActorHandle& actor, const detail::Function& method, const CallOptions*,
                                std::vector<Argument>&& arguments, int returns, Handle* out) {
  std::shared_ptr<Instance> instance;
  {
    const std::lock_guard lock(mutex_);
    if (const auto at = actors_.find(actor.id()); at != actors_.end()) instance = at->second;
  }
  Status error = instance ? instance->error : Status(Code::kDied, "the actor is gone: it was killed");
  if (error.ok())
    return run(method, "call " + function_name(method), instance->object.get(), nullptr, std::move(arguments), returns, out);
  for (int i = 0; i < (returns < 0 ? 1 : returns); ++i) out[i] = failed(error);
}

void InlineRuntime::kill_actor(const detail::ActorHandle& actor, bool) {
  const std::lock_guard lock(mutex_);
  actors_.erase(actor.id());
}

Status InlineRuntime::await_actor(const detail::ActorHandle& actor, detail::Deadline) {
  const std::lock_guard lock(mutex_);
  const auto at = actors_.find(actor.id());
  return at == actors_.end() ? Status(Code::kDied, "the actor is gone: it was killed") : at->second->error;
}

void InlineRuntime::encode_actor(Encoder& out, const detail::ActorHandle& actor) {
  out.array_header(2);
  out.unsigned_integer(actor.id().sequence);
  out.text(actor ? actor.record()->class_key : "");
}

detail::ActorHandle InlineRuntime::decode_actor(Decoder& in) {
  if (in.array_header() != 2) return in.fail("an actor handle was expected"), detail::ActorHandle();
  const ActorId id{1, in.unsigned_integer()};
  in.text();
  const std::lock_guard lock(mutex_);
  const auto at = actors_.find(id);
  auto record = at == actors_.end() ? nullptr : at->second->record.lock();
  return detail::ActorHandle(std::move(record));
}

void InlineRuntime::forget_actor(const ActorId& id) noexcept {
  std::shared_ptr<Instance> last;  // destroyed outside the lock: it is the user's object
  const std::lock_guard lock(mutex_);
  const auto at = actors_.find(id);
  if (at == actors_.end() || at->second->detached || !at->second->record.expired()) return;
  last = std::move(at->second);
  actors_.erase(at);
}

Argument InlineRuntime::make_argument(const Encoder& value, bool) {
  Argument out;
  out.blob = value.to_blob();
  for (const ObjectId& id : value.refs()) out.inside.push_back(handle_for(id));
  return out;
}

Handle InlineRuntime::put(const Encoder& value) {
  Handle handle = new_object();
  Argument argument = make_argument(value, false);
  finish(*handle.get(), std::move(argument.blob), std::move(argument.inside));
  return handle;
}

Handle InlineRuntime::failed(const Status& status) {
  Handle handle = new_object();
  finish(*handle.get(), status, {});
  return handle;
}

Handle InlineRuntime::handle_for(const ObjectId& id) {
  const std::lock_guard lock(mutex_);
  const auto at = exported_.find(id);
  if (at == exported_.end()) return {};
  detail::retain(at->second);
  return Handle(at->second);
}

void InlineRuntime::note_exported(ObjectEntry& entry) {
  const std::lock_guard lock(mutex_);
  if (entry.exported.exchange(true)) return;
  exported_[entry.id] = &entry;
}

void InlineRuntime::release_exported(ObjectEntry* entry) noexcept {
  {
    const std::lock_guard lock(mutex_);
    if (entry->refs.fetch_sub(1) != 1) return;
    exported_.erase(entry->id);
  }
  forget(entry);
}

void InlineRuntime::forget(ObjectEntry* entry) noexcept {
  std::vector<Handle> items;
  {
    const std::lock_guard lock(mutex_);
    if (const auto at = streams_.find(entry); at != streams_.end()) {
      items = std::move(at->second);
      streams_.erase(at);
    }
  }
  delete entry;
}

Result<detail::Value> InlineRuntime::await_value(const Handle& handle, detail::Deadline) {
  const ObjectEntry& entry = *handle.get();
  if (!entry.is_ready())
    return Status(Code::kInvalid, "inline mode: this value is waited for before the call that makes it has ended");
  if (entry.state == ObjectState::kFailed) return entry.error;
  return detail::Value{std::as_bytes(std::span(entry.blob)), nullptr};
}

bool InlineRuntime::is_lost(ObjectEntry& entry) {
  return entry.state == ObjectState::kFailed && entry.error.code() == Code::kLost;
}

size_t InlineRuntime::await_some(std::span<ObjectEntry* const> entries, size_t, detail::Deadline) {
  size_t ready = 0;
  for (const ObjectEntry* entry : entries) ready += entry->is_ready() ? 1 : 0;
  return ready;
}

void InlineRuntime::idle_until(const std::function<bool()>& done) {
  if (!done()) throw Error(Status(Code::kInvalid, "inline mode: a coroutine waits for a value that nothing will make"));
}

void InlineRuntime::on_ready(const Handle& handle, void (*ready)(void*), void* context) {
  {
    const std::lock_guard lock(mutex_);
    if (!handle.get()->is_ready()) return handle.get()->waiters.push_back({ready, context});
  }
  ready(context);
}

Status InlineRuntime::cancel(const Handle&, bool) { return {}; }

Handle InlineRuntime::next_stream_item(const Handle& stream, uint64_t index, detail::Deadline, Status& status) {
  const std::lock_guard lock(mutex_);
  const auto at = streams_.find(stream.get());
  if (at != streams_.end() && index < at->second.size()) return at->second[index];
  if (stream.get()->state == ObjectState::kFailed) status = stream.get()->error;
  return {};
}

void InlineRuntime::close_stream(const Handle&) {}

NodeInfo InlineRuntime::node_info() {
  NodeInfo info;
  info.cpus = info.free_cpus = processors();
  const std::lock_guard lock(mutex_);
  info.actors = static_cast<int>(actors_.size());
  return info;
}

// ---------------------------------------------------------------------------------------------------- placement groups

detail::GroupHandle InlineRuntime::create_group(const std::vector<Bundle>& bundles, const GroupOptions& options) {
  auto group = std::make_shared<detail::GroupRecord>();
  group->number = ++next_;
  group->state = detail::GroupRecord::State::kReady;
  group->name = options.name;
  group->nodes.assign(bundles.size(), this_node());
  group->ready = new_object();
  finish(*group->ready.get(), Encoder().to_blob(), {});
  return group;
}
detail::GroupHandle InlineRuntime::group_of(uint64_t) { return create_group({Bundle()}, {}); }
uint64_t InlineRuntime::group_number(detail::GroupRecord& group) { return group.number; }
Status InlineRuntime::await_group(detail::GroupRecord& group, detail::Deadline) { return group.why; }
Handle InlineRuntime::group_ready(detail::GroupRecord& group) { return group.ready; }
std::string InlineRuntime::why_group_waits(detail::GroupRecord& group) { return group.why.ok() ? "" : group.why.message(); }
std::vector<NodeNumber> InlineRuntime::nodes_of_group(detail::GroupRecord& group) { return group.nodes; }
void InlineRuntime::remove_group(detail::GroupRecord& group) {
  group.state = detail::GroupRecord::State::kOver;
  group.why = Status(Code::kDied, "it was removed");
}

std::string InlineRuntime::explain(const Handle& handle) {
  return handle.get()->is_ready() ? "it is ready" : "inline: it waits for another thread of this process";
}
std::string InlineRuntime::explain(const detail::ActorHandle&) { return "inline: it lives in this process"; }

}  // namespace manta

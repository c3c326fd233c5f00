// NodeRuntime: reading what may be lost, and running again what made it.
#include "actors/node_runtime.h"
#include "common/check.h"

#include <algorithm>
#include <optional>

namespace manta {

using detail::Argument;
using detail::Handle;
using detail::ObjectEntry;
using detail::ObjectState;

// ---------------------------------------------------------------------------------------------------- reading

Result<detail::Value> NodeRuntime::read_stored(const wire::ObjectLocation& location, detail::Deadline deadline) {
  MANTA_ASSIGN_OR_RETURN(object_store::PinnedBytes pinned, store_->pin_patiently(location, deadline));
  auto owner = std::make_shared<const object_store::PinnedBytes>(std::move(pinned));
  const auto bytes = owner->bytes();
  return detail::Value{bytes, std::move(owner)};
}

/// Of a ready entry that is kStored: reads it where it lies, however often it has to be made again.
Result<detail::Value> NodeRuntime::read_entry(ObjectEntry& entry, detail::Deadline deadline) {
  while (true) {
    std::optional<wire::ObjectLocation> at;
    {
      const Guard guard(lock_);
      if (objects_.is_lost(entry)) objects_.lose(entry);
      const ObjectState state = entry.state.load(std::memory_order_acquire);
      if (state == ObjectState::kFailed) return entry.error;
      if (state == ObjectState::kInline) return detail::Value{entry.bytes(), entry.whole};
      if (!entry.awaits_value()) at = entry.location;
    }
    if (at) {
      Result<detail::Value> value = read_stored(*at, deadline);
      if (value.ok() || value.status().code() != Code::kLost) return value;
      const Guard guard(lock_);
      objects_.lose(entry, *at, value.status());
    }
    if (!await_rebuilt(entry, deadline)) {
      return Status(Code::kTimeout, "object " + entry.id.to_string() + " was lost, and not made again before the deadline");
    }
  }
}

bool NodeRuntime::is_lost(ObjectEntry& entry) {
  const Guard guard(lock_);
  if (objects_.is_lost(entry)) objects_.lose(entry);
  return entry.state == ObjectState::kFailed && entry.error.code() == Code::kLost;
}

bool NodeRuntime::await_rebuilt(ObjectEntry& entry, detail::Deadline deadline) {
  std::atomic<bool> came{false};
  {
    const Guard guard(lock_);
    if (!entry.awaits_value()) return true;
    entry.waiters.push_back({[](void* context) { static_cast<std::atomic<bool>*>(context)->store(true); }, &came});
  }
  if (wait_until([&] { return came.load(); }, deadline)) return true;
  const Guard guard(lock_);
  std::erase_if(entry.waiters, [&](const detail::Waiter& waiter) { return waiter.context == &came; });
  return came;
}

Result<detail::Value> NodeRuntime::read_argument(const wire::ObjectLocation& location, const ObjectId& id) {
  Result<detail::Value> value = read_stored(location);
  if (value.ok() || value.status().code() != Code::kLost || !id) return value;
  const Handle handle = handle_for(id);
  ObjectEntry& entry = *handle.get();
  {
    const Guard guard(lock_);
    if (!objects_.is_own(entry) && !entry.is_ready()) objects_.complete(entry, location);
    objects_.lose(entry, location, value.status());
  }
  value = await_value(handle, detail::kForever);
  if (value.ok() && !value->owner) value->owner = std::make_shared<const Handle>(handle);  // a small one, in the table
  return value;
}

// ---------------------------------------------------------------------------------------------------- running again

void NodeRuntime::ArgumentWait::ready(void* context) {
  const std::unique_ptr<ArgumentWait> self(static_cast<ArgumentWait*>(context));
  self->runtime->argument_ready(*self->call);
}

bool NodeRuntime::has_lost_argument(const Call& call) const {
  if (!objects_.may_lose()) return false;
  return std::any_of(call.arguments.begin(), call.arguments.end(),
                     [this](const Argument& argument) { return argument.ref && objects_.is_lost(*argument.ref.get()); });
}

void NodeRuntime::hold_call(Call& call) {
  call.state = CallState::kWaiting;
  call.stored_arguments = {};  // they name the old places
  resolve_arguments(call);
}

void NodeRuntime::run_again(Call& call) {
  ++live_calls_;
  queued_bytes_ += call.argument_bytes;
  call.cancelled = false;
  call.deadline = TimePoint::max();
  resolve_arguments(call);
}

void NodeRuntime::stop_again(Call& call) {
  if (call.state == CallState::kWaiting) {
    for (const Argument& argument : call.arguments) {
      if (!argument.ref) continue;
      std::erase_if(argument.ref.get()->waiters, [&](const detail::Waiter& waiter) {
        if (waiter.ready != &ArgumentWait::ready) return false;
        auto* const wait = static_cast<ArgumentWait*>(waiter.context);
        if (wait->call != &call) return false;
        delete wait;
        --call.unresolved;
        return true;
      });
    }
  } else if (!tasks_.withdraw(call, std::chrono::steady_clock::now())) {
    return;  // it has begun: what it returns is dropped
  }
  timed_.erase(&call);
  if (call.lineage->cost_retry) ++call.retries_left;
  call.state = CallState::kDone;
  dispose(call);
}

}  // namespace manta

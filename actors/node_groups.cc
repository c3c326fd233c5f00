// NodeRuntime: placement groups, and why work waits.
#include "actors/call_options.h"
#include "actors/node_runtime.h"
#include "common/check.h"
#include "wire/cluster.h"

#include <manta/error.h>

namespace manta {

using detail::GroupRecord;
using detail::Handle;
using detail::ObjectEntry;
using detail::ObjectState;

namespace {

constexpr auto kHeadTimeout = std::chrono::seconds(30);
constexpr auto kExplainTimeout = std::chrono::seconds(5);

Status over(const GroupRecord& group) {
  return Status(group.why.code(), group.why.message()).with_context(GroupOwner::name_of(group));
}

}  // namespace

detail::GroupHandle NodeRuntime::create_group(const std::vector<Bundle>& bundles, const GroupOptions& options) {
  wire::CreatePlacementGroup spec;
  for (const Bundle& bundle : bundles) spec.bundles.push_back(resources_of(bundle));
  spec.strategy = static_cast<uint8_t>(options.strategy);
  spec.detached = options.detached;
  spec.name = options.name;
  const Guard guard(lock_);
  throw_if_error(down_);
  return groups_.create(std::move(spec));
}

detail::GroupHandle NodeRuntime::group_of(uint64_t number) {
  const Guard guard(lock_);
  return groups_.find(number);
}

uint64_t NodeRuntime::group_number(GroupRecord& group) {
  const bool came = wait_until([&] { return group.number != 0 || group.state == GroupRecord::State::kOver; },
                               std::chrono::steady_clock::now() + kHeadTimeout);
  if (const uint64_t number = group.number; number != 0) return number;
  const Guard guard(lock_);
  throw Error(came ? over(group) : Status(Code::kTimeout, "the head did not answer within 30 s"));
}

Status NodeRuntime::await_group(GroupRecord& group, detail::Deadline deadline) {
  const bool came = wait_until([&] { return group.state != GroupRecord::State::kPending; }, deadline);
  if (group.state == GroupRecord::State::kReady) return {};
  const Guard guard(lock_);
  if (came) return over(group);
  return Status(Code::kTimeout, GroupOwner::name_of(group) + " was not ready before the deadline" +
                                    (group.why.ok() ? std::string() : ": " + group.why.message()));
}

Handle NodeRuntime::group_ready(GroupRecord& group) {
  const Guard guard(lock_);
  return groups_.ready(group);
}

std::string NodeRuntime::why_group_waits(GroupRecord& group) {
  const Guard guard(lock_);
  return group.why.ok() ? std::string() : group.why.message();
}

std::vector<NodeNumber> NodeRuntime::nodes_of_group(GroupRecord& group) {
  const Guard guard(lock_);
  return group.nodes;
}

void NodeRuntime::remove_group(GroupRecord& group) {
  const Guard guard(lock_);
  groups_.remove(group);
}

NodeNumber NodeRuntime::this_node() const {
  const wire::NodeNumber node = wire::node_of(self_.value);
  return {node == 0 ? wire::kHeadNode : node};
}

// ---------------------------------------------------------------------------------------------------- explaining

std::string NodeRuntime::explain(const Handle& handle) {
  std::string text;
  uint64_t request = 0;
  {
    const Guard guard(lock_);
    const ObjectEntry& entry = *handle.get();
    if (entry.state == ObjectState::kFailed) return "it failed: " + entry.error.message();
    if (entry.is_ready()) return "it is ready";
    if (entry.id.owner != self_.value)
      return "it belongs to process " + ProcessId{entry.id.owner}.to_string() + ", which has to say";
    if (entry.producer == nullptr) return "it waits for something that is no task or call";
    text = explain_call(*static_cast<const Call*>(entry.producer), request);
  }
  if (request == 0) return text;
  for (const std::string& line : ask_why(request)) text += "; " + line;
  return text;
}

std::string NodeRuntime::explain_call(const Call& call, uint64_t& lease_request) {
  switch (call.state) {
    case CallState::kDone: return "it has ended";
    case CallState::kSent: {
      const std::string where = "process " + std::to_string(call.peer->pid()) + " of node " +
                                std::to_string(wire::node_of(call.peer->process().value));
      return "it is with " + where + ", which runs it or what was sent there before it";
    }
    case CallState::kWaiting: {
      size_t missing = 0;
      for (const detail::Argument& argument : call.arguments) missing += argument.ref && !argument.ref.get()->is_ready();
      if (missing > 0) return "it waits for " + std::to_string(missing) + " of its arguments";
      break;
    }
    case CallState::kQueued: break;
  }
  if (call.actor != nullptr) return explain_actor(*call.actor);
  const auto [waiting, request] = tasks_.line_of(call);
  lease_request = request;
  return "it is one of " + std::to_string(waiting) + " tasks that wait for a worker";
}

std::string NodeRuntime::explain_actor(const ActorClient& actor) const {
  const std::string cause = actor.cause.ok() ? "" : ": " + actor.cause.message();
  switch (actor.phase) {
    case wire::ActorPhase::kPending: return "the actor has not started" + cause;
    case wire::ActorPhase::kRestarting: return "the actor is started again" + cause;
    case wire::ActorPhase::kMoving: return "the actor moves to another node" + cause;
    case wire::ActorPhase::kDead: return "the actor has ended" + cause;
    case wire::ActorPhase::kAlive: break;
  }
  return "the actor lives; " + std::to_string(actor.queued.size() + actor.sent.size()) + " calls from here are before it";
}

std::string NodeRuntime::explain(const detail::ActorHandle& actor) {
  const Guard guard(lock_);
  return explain_actor(actors_.client_for(actor.record()->host ? actor.record()->host : actor.id()));
}

std::vector<std::string> NodeRuntime::ask_why(uint64_t lease_request) {
  uint64_t request = 0;
  {
    const Guard guard(lock_);
    request = next_request_++;
    explanations_[request] = {};
  }
  (void)connection_->send(wire::Explain{request, lease_request});
  (void)wait_until(
      [&] {
        const Guard guard(lock_);
        return explanations_[request].first || !down_.ok();
      },
      std::chrono::steady_clock::now() + kExplainTimeout);
  const Guard guard(lock_);
  return explanations_.extract(request).mapped().second.lines;
}

}  // namespace manta

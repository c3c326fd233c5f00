#include "raylet/node_log.h"

#include "common/log.h"

namespace manta::raylet {
namespace {

std::string name_of(const wire::ActorKey& actor) { return ActorId{actor.owner, actor.sequence}.to_string(); }
std::string text_of(const wire::WireStatus& status) { return wire::from_wire(status).to_string(); }

// ---------------------------------------------------------------------------------------------------- events

template <typename Other>
void note(const Other&) {}

void note(const WorkerSpawned& event) {
  MANTA_LOG(kInfo, "raylet", "worker started", {"token", event.token.value}, {"pid", event.pid});
}
void note(const WorkerExited& event) {
  MANTA_LOG(kInfo, "raylet", "worker ended", {"token", event.token.value}, {"cause", describe(event.cause)},
            {"last_words", event.last_words});
}
void note(const SpawnFailed& event) {
  MANTA_LOG(kWarn, "raylet", "a worker cannot be started", {"token", event.token.value}, {"why", event.status});
}
void note(const ClientJoined& event) {
  const auto role = static_cast<wire::Role>(event.hello.role);
  if (role == wire::Role::kDriver)
    MANTA_LOG(kInfo, "raylet", "driver joined", {"pid", event.hello.pid}, {"program", event.hello.program});
  if (role == wire::Role::kWorker)
    MANTA_LOG(kDebug, "raylet", "worker is ready", {"token", event.hello.spawn_token}, {"process", event.hello.process});
}
void note(const ClientGone& event) {
  if (event.reason.ok()) return;
  MANTA_LOG(kWarn, "raylet", "client cut off", {"process", event.process.value}, {"why", event.reason});
}

void note(const MembersChanged& event) {
  for (const wire::NodeInfo& info : event.members.joined)
    MANTA_LOG(kInfo, "raylet", "a node is there", {"node", info.number}, {"name", info.name});
  for (const wire::NodeGone& gone : event.members.gone)
    MANTA_LOG(kWarn, "raylet", "a node is gone", {"node", gone.number}, {"why", text_of(gone.cause)});
}
void note(const DrainAsked& event) {
  MANTA_LOG(kInfo, "raylet", "the node is to be drained", {"deadline_us", event.deadline_us}, {"why", event.reason});
}

// ---------------------------------------------------------------------------------------------------- effects

void note(const wire::LeaseGranted& message) {
  MANTA_LOG(kDebug, "raylet", "lease granted", {"lease", message.lease}, {"pid", message.worker_pid});
}
void note(const wire::LeaseRefused& message) {
  MANTA_LOG(kWarn, "raylet", "lease refused", {"request", message.request}, {"why", text_of(message.status)});
}
void note(const wire::ReclaimLease& message) { MANTA_LOG(kDebug, "raylet", "lease asked back", {"lease", message.lease}); }
void note(const wire::LogLines& message) { MANTA_LOG(kWarn, "raylet", message.lines.front()); }
void note(const wire::Goodbye&) { MANTA_LOG(kDebug, "raylet", "idle worker asked to leave"); }
void note(const wire::StartActor& message) {
  MANTA_LOG(kDebug, "raylet", "actor has a worker", {"actor", name_of(message.actor)}, {"class", message.class_name},
            {"incarnation", message.incarnation});
}

void note(const Send& effect) {
  std::visit([](const auto& message) { note(message); }, effect.message);
}
void note(const KillWorker& effect) {
  MANTA_LOG(kInfo, "raylet", "kills a worker", {"token", effect.token.value}, {"why", effect.reason});
}
void note(const Disconnect& effect) {
  MANTA_LOG(kWarn, "raylet", "client refused", {"process", effect.process.value}, {"why", effect.status});
}
void note(const EndNode& effect) {
  if (effect.is_drained) {
    MANTA_LOG(kInfo, "raylet", "the node is drained", {"why", effect.reason});
    return;
  }
  if (effect.is_given_up) {
    MANTA_LOG(kError, "raylet", "the cluster gave this node up and went on without it", {"why", effect.reason});
    return;
  }
  MANTA_LOG(kInfo, "raylet", "the driver is gone", {"by_goodbye", effect.by_goodbye}, {"exit_code", effect.exit_code});
}

void note(const wire::HeadActorEvent& event) {
  const std::string actor = name_of(event.actor);
  switch (static_cast<wire::ActorEvent>(event.event)) {
    case wire::ActorEvent::kWaiting:
      MANTA_LOG(kInfo, "raylet", "actor waits", {"actor", actor}, {"why", text_of(event.cause)});
      break;
    case wire::ActorEvent::kStarted:
      MANTA_LOG(kInfo, "raylet", "actor is alive", {"actor", actor}, {"incarnation", event.incarnation},
                {"pid", event.worker_pid});
      break;
    case wire::ActorEvent::kRefused:
      MANTA_LOG(kWarn, "raylet", "actor refused", {"actor", actor}, {"why", text_of(event.cause)});
      break;
    case wire::ActorEvent::kEnded:
      MANTA_LOG(kWarn, "raylet", "actor died", {"actor", actor}, {"incarnation", event.incarnation},
                {"why", text_of(event.cause)});
      break;
    case wire::ActorEvent::kLeft:
      MANTA_LOG(kInfo, "raylet", "actor ended", {"actor", actor}, {"incarnation", event.incarnation});
      break;
    case wire::ActorEvent::kLent:
    case wire::ActorEvent::kTookBack: break;
  }
}
void note(const TellHead& effect) {
  if (const auto* event = std::get_if<wire::HeadActorEvent>(&effect.message)) note(*event);
}

}  // namespace

void log_event(const Event& event) {
  std::visit([](const auto& one) { note(one); }, event);
}

void log_effect(const Effect& effect) {
  std::visit([](const auto& one) { note(one); }, effect);
}

}  // namespace manta::raylet

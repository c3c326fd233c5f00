#include "raylet/client_messages.h"

#include "common/check.h"

namespace manta::raylet {
namespace {

template <typename Message>
Result<ClientMessage> as(std::string_view body) {
  MANTA_ASSIGN_OR_RETURN(Message message, wire::decode<Message>(body));
  return ClientMessage(std::move(message));
}

}  // namespace

Result<ClientMessage> decode_client_message(wire::Type type, std::string_view body) {
  switch (type) {
    case wire::Type::kGoodbye: return as<wire::Goodbye>(body);
    case wire::Type::kRequestLease: return as<wire::RequestLease>(body);
    case wire::Type::kCancelLeaseRequest: return as<wire::CancelLeaseRequest>(body);
    case wire::Type::kReturnLease: return as<wire::ReturnLease>(body);
    case wire::Type::kKillLease: return as<wire::KillLease>(body);
    case wire::Type::kBlocked: return as<wire::Blocked>(body);
    case wire::Type::kRelay: return as<wire::Relay>(body);
    case wire::Type::kWatchProcess: return as<wire::WatchProcess>(body);
    case wire::Type::kCreateActor: return as<wire::CreateActor>(body);
    case wire::Type::kWatchActor: return as<wire::WatchActor>(body);
    case wire::Type::kKillActor: return as<wire::KillActor>(body);
    case wire::Type::kFindActor: return as<wire::FindActor>(body);
    case wire::Type::kActorStarted: return as<wire::ActorStarted>(body);
    case wire::Type::kSaveActorState: return as<wire::SaveActorState>(body);
    case wire::Type::kReleaseActor: return as<wire::ReleaseActor>(body);
    case wire::Type::kLogLineage: return as<wire::LogLineage>(body);
    case wire::Type::kCleanupPath: return as<wire::CleanupPath>(body);
    case wire::Type::kGetNodeState: return as<wire::GetNodeState>(body);
    case wire::Type::kExplain: return as<wire::Explain>(body);
    case wire::Type::kCreatePlacementGroup: return as<wire::CreatePlacementGroup>(body);
    case wire::Type::kRemovePlacementGroup: return as<wire::RemovePlacementGroup>(body);
    case wire::Type::kGetPlacementGroup: return as<wire::GetPlacementGroup>(body);
    case wire::Type::kDrainNode: return as<wire::DrainNode>(body);
    case wire::Type::kList: return as<wire::ListRequest>(body);
    case wire::Type::kGetClusterStatus: return as<wire::GetClusterStatus>(body);
    default: break;
  }
  if (type == wire::SubmitJob::kType) return as<wire::SubmitJob>(body);
  if (type == wire::UploadProgram::kType) return as<wire::UploadProgram>(body);
  if (type == wire::StopJob::kType) return as<wire::StopJob>(body);
  if (type == wire::FindJob::kType) return as<wire::FindJob>(body);
  if (type == wire::ReadJobLog::kType) return as<wire::ReadJobLog>(body);
  return Status(Code::kInvalid, "no client sends a message of type " + std::to_string(static_cast<int>(type)));
}

VisitorRight visitor_right(const ClientMessage& message) {
  const wire::Type type = std::visit([]<typename Message>(const Message&) { return Message::kType; }, message);
  if (type == wire::FindJob::kType || type == wire::ReadJobLog::kType) return VisitorRight::kLook;
  if (type == wire::SubmitJob::kType || type == wire::UploadProgram::kType || type == wire::StopJob::kType)
    return VisitorRight::kAct;
  switch (type) {
    case wire::Type::kExplain:
    case wire::Type::kGetNodeState:
    case wire::Type::kList:
    case wire::Type::kGetClusterStatus: return VisitorRight::kLook;
    case wire::Type::kDrainNode:
    case wire::Type::kKillActor: return VisitorRight::kAct;
    default: return VisitorRight::kNone;
  }
}

}  // namespace manta::raylet

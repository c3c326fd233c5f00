#include "raylet/client_messages.h"

#include "common/check.h"

namespace manta::raylet {
namespace {

template <typename Message>
Result<ClientMessage> as(const wire::Frame& frame) {
  MANTA_ASSIGN_OR_RETURN(Message message, wire::decode<Message>(frame.body));
  return ClientMessage(std::move(message));
}

}  // namespace

Result<ClientMessage> decode_client_message(const wire::Frame& frame) {
  switch (frame.type) {
    case wire::Type::kGoodbye: return as<wire::Goodbye>(frame);
    case wire::Type::kRequestLease: return as<wire::RequestLease>(frame);
    case wire::Type::kCancelLeaseRequest: return as<wire::CancelLeaseRequest>(frame);
    case wire::Type::kReturnLease: return as<wire::ReturnLease>(frame);
    case wire::Type::kKillLease: return as<wire::KillLease>(frame);
    case wire::Type::kBlocked: return as<wire::Blocked>(frame);
    case wire::Type::kRelay: return as<wire::Relay>(frame);
    case wire::Type::kWatchProcess: return as<wire::WatchProcess>(frame);
    case wire::Type::kCreateActor: return as<wire::CreateActor>(frame);
    case wire::Type::kWatchActor: return as<wire::WatchActor>(frame);
    case wire::Type::kKillActor: return as<wire::KillActor>(frame);
    case wire::Type::kFindActor: return as<wire::FindActor>(frame);
    case wire::Type::kActorStarted: return as<wire::ActorStarted>(frame);
    case wire::Type::kSaveActorState: return as<wire::SaveActorState>(frame);
    case wire::Type::kReleaseActor: return as<wire::ReleaseActor>(frame);
    case wire::Type::kLogLineage: return as<wire::LogLineage>(frame);
    case wire::Type::kCleanupPath: return as<wire::CleanupPath>(frame);
    case wire::Type::kGetNodeState: return as<wire::GetNodeState>(frame);
    case wire::Type::kExplain: return as<wire::Explain>(frame);
    case wire::Type::kCreatePlacementGroup: return as<wire::CreatePlacementGroup>(frame);
    case wire::Type::kRemovePlacementGroup: return as<wire::RemovePlacementGroup>(frame);
    case wire::Type::kGetPlacementGroup: return as<wire::GetPlacementGroup>(frame);
    default: break;
  }
  if (frame.type == wire::SubmitJob::kType) return as<wire::SubmitJob>(frame);
  if (frame.type == wire::UploadProgram::kType) return as<wire::UploadProgram>(frame);
  if (frame.type == wire::StopJob::kType) return as<wire::StopJob>(frame);
  if (frame.type == wire::FindJob::kType) return as<wire::FindJob>(frame);
  if (frame.type == wire::ReadJobLog::kType) return as<wire::ReadJobLog>(frame);
  return Status(Code::kInvalid, "no client sends a message of type " + std::to_string(static_cast<int>(frame.type)));
}

}  // namespace manta::raylet

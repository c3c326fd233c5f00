// Control messages off a Unix socket or a network: the frame header, and every message type over any body.
#include <tuple>

#include "common/check.h"
#include "tests/fuzz/fuzz.h"
#include "wire/cluster.h"
#include "wire/drain_messages.h"
#include "wire/frame.h"
#include "wire/group_messages.h"
#include "wire/job_messages.h"
#include "wire/visitor_messages.h"

namespace manta::fuzz {
namespace {

// Of clients and raylets, then of visitors and jobs, then between nodes (the rest of those: head_link_fuzz).
using Messages =
    std::tuple<wire::Hello, wire::Welcome, wire::Refused, wire::Goodbye, wire::RequestLease, wire::CancelLeaseRequest,
               wire::ReturnLease, wire::KillLease, wire::LeaseGranted, wire::LeaseRefused, wire::ReclaimLease,
               wire::LeaseBlocked, wire::AttachChannel, wire::DetachChannel, wire::Blocked, wire::ProcessDied, wire::Relay,
               wire::CreateActor, wire::WatchActor, wire::KillActor, wire::FindActor, wire::ActorFound, wire::ActorUpdate,
               wire::StartActor, wire::ActorStarted, wire::StopActor, wire::SaveActorState, wire::RequestSegment,
               wire::SegmentGranted, wire::SegmentRefused, wire::OpenSegment, wire::SegmentOpened, wire::ReturnSegment,
               wire::SegmentRetired, wire::TrimSegments, wire::Sealed, wire::Free, wire::Reclaimed, wire::LogLines,
               wire::LogLineage, wire::CleanupPath, wire::GetNodeState, wire::NodeState, wire::ClusterCapacity,
               wire::WatchProcess, wire::ForkServerReady, wire::ForkWorker, wire::WorkerForked, wire::ReleaseActor,
               wire::Explain, wire::Explained, wire::CancelSegmentRequest, wire::RestoreObject, wire::PrefetchObjects,
               wire::ObjectRestored, wire::CreatePlacementGroup, wire::RemovePlacementGroup, wire::GetPlacementGroup,
               wire::PlacementGroupUpdate, wire::ListRequest, wire::Listed, wire::GetClusterStatus, wire::ClusterStatus,
               wire::Enroll, wire::Enrolled, wire::RotateKey, wire::KeyRotated, wire::DrainNode, wire::DrainProgress,
               wire::SubmitJob, wire::UploadProgram, wire::StopJob, wire::FindJob, wire::ReadJobLog, wire::JobAnswer,
               wire::ProgramReceived, wire::JobLogChunk, wire::Forward, wire::Deliver, wire::ProcessGone, wire::RemoteLease,
               wire::LeaseSpilled, wire::GetJob, wire::Job, wire::GetProgram, wire::ProgramChunk, wire::VisitorFrame,
               wire::DropCopies, wire::LeaseNews, wire::AdoptObjects, wire::AdoptionRefused, wire::ObjectsMoved>;
constexpr size_t kTypes = std::tuple_size_v<Messages>;

/// What decodes has to survive a round trip: the same bytes again, once they are ours.
template <typename Message>
void check(std::string_view body) {
  const Result<Message> message = wire::decode<Message>(body);
  if (!message.ok()) return;
  const std::string encoded = wire::encode(*message);
  const Result<Message> again = wire::decode<Message>(encoded);
  MANTA_CHECK(again.ok(), again.status().to_string());
  MANTA_CHECK(wire::encode(*again) == encoded);
}

template <size_t... I>
void check_type(size_t type, std::string_view body, std::index_sequence<I...>) {
  ((type == I ? check<std::tuple_element_t<I, Messages>>(body) : void()), ...);
}

template <size_t... I>
void add_seeds(std::vector<std::string>& out, std::index_sequence<I...>) {
  (out.push_back(static_cast<char>(I) + wire::encode(std::tuple_element_t<I, Messages>{})), ...);
}

}  // namespace

std::vector<std::string> seeds() {
  std::vector<std::string> out;
  add_seeds(out, std::make_index_sequence<kTypes>());
  wire::Hello hello;
  hello.build_id = "build";
  hello.program = "/bin/program";
  hello.arguments = {"--a", "b"};
  hello.env = {{"A", "1"}};
  out.push_back('\0' + wire::encode(hello));
  char header[wire::kFrameHeaderBytes];
  wire::write_header(header, {.type = wire::Type::kHello, .descriptors = 2, .size_bytes = 100});
  out.emplace_back(header, sizeof header);
  return out;
}

}  // namespace manta::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  if (size >= manta::wire::kFrameHeaderBytes) {
    const auto header = manta::wire::read_header(reinterpret_cast<const char*>(data));
    if (header.ok())
      MANTA_CHECK(header->size_bytes <= manta::wire::kMaxFrameBytes && header->descriptors <= manta::wire::kMaxDescriptors);
  }
  const std::string_view body(reinterpret_cast<const char*>(data) + 1, size - 1);
  manta::fuzz::check_type(data[0] % manta::fuzz::kTypes, body, std::make_index_sequence<manta::fuzz::kTypes>());
  return 0;
}

// What every control message is made of: their types, and the parts that many have. See messages.h.
#pragma once

#include <manta/ids.h>
#include <manta/status.h>

#include <cstdint>
#include <map>
#include <msgpack.hpp>
#include <string>
#include <vector>

namespace manta::wire {

inline constexpr uint32_t kProtocolVersion = 1;

enum class Type : uint16_t {
  kHello = 1,
  kWelcome,
  kRefused,
  kGoodbye,
  kRequestLease = 10,
  kCancelLeaseRequest,
  kReturnLease,
  kKillLease,
  kLeaseGranted,
  kLeaseRefused,
  kReclaimLease,
  kLeaseBlocked,
  kClusterCapacity,
  kAttachChannel = 20,
  kDetachChannel,
  kBlocked,
  kProcessDied,
  kRelay,
  kWatchProcess,
  kCreateActor = 30,
  kWatchActor,
  kKillActor,
  kFindActor,
  kActorFound,
  kActorUpdate,
  kStartActor,
  kActorStarted,
  kStopActor,
  kSaveActorState,
  kRequestSegment = 50,
  kSegmentGranted,
  kSegmentRefused,
  kOpenSegment,
  kSegmentOpened,
  kReturnSegment,
  kSegmentRetired,
  kSealed,
  kFree,
  kReclaimed,
  kPin,
  kTrimSegments,
  kCancelSegmentRequest,
  kRestoreObject,
  kObjectRestored,
  kPrefetchObjects,
  kObjectsMoved,
  kLogLines = 70,
  kLogLineage,
  kCleanupPath,
  kGetNodeState,
  kNodeState,
  kForkServerReady = 80,
  kForkWorker,
  kWorkerForked,
  kCreatePlacementGroup = 90,
  kRemovePlacementGroup,
  kGetPlacementGroup,
  kPlacementGroupUpdate,
  kList = 100,
  kListed,
  kGetClusterStatus,
  kClusterStatus,
  kExplain = 110,
  kExplained,
  kEnroll = 120,
  kEnrolled,
  kRotateKey,
  kKeyRotated,
  kDrainNode = 130,
  kDrainProgress,
  kReleaseActor,
};

/// An observer is who neither works nor has work done: the command line. See visitor_messages.h.
enum class Role : uint8_t { kDriver = 0, kWorker = 1, kObserver = 2 };

/// A Status as it travels.
struct WireStatus {
  uint8_t code = 0;
  std::string message;
  std::string origin_type;
  MSGPACK_DEFINE(code, message, origin_type)
};
[[nodiscard]] WireStatus to_wire(const Status& status);
[[nodiscard]] Status from_wire(const WireStatus& status);

/// What work needs. Amounts are fixed point in 1/10,000: integers, because a scheduler that adds 0.1 ten times must get one.
struct Resources {
  int64_t cpus = 0;
  int64_t gpus = 0;  ///< Below 10,000 a share of one device, else a whole number of devices.
  int64_t gpu_memory_bytes = 0;
  int64_t memory_bytes = 0;
  std::map<std::string, int64_t> custom;
  auto operator<=>(const Resources&) const = default;
  MSGPACK_DEFINE(cpus, gpus, gpu_memory_bytes, memory_bytes, custom)
};
inline constexpr int64_t kWhole = 10'000;

/// Work of one class can share workers: same resources, same environment, same place.
struct SchedulingClass {
  Resources resources;
  std::map<std::string, std::string> env;
  std::map<std::string, std::string> labels = {};  ///< A node must have all of them.
  uint32_t node = 0;                               ///< A node's number: there; 0: anywhere.
  bool is_soft = false;                            ///< Elsewhere, if that node is gone or could never hold it.
  bool spread = false;                             ///< Rather on another node than where its owner and its like are.
  uint64_t group = 0;                              ///< Placement group that gives the resources; 0: none.
  int32_t bundle = -1;                             ///< Of the group; -1: any that has room.
  int32_t priority = 0;                            ///< More is sooner.
  auto operator<=>(const SchedulingClass&) const = default;
  MSGPACK_DEFINE(resources, env, labels, node, is_soft, spread, group, bundle, priority)
};

}  // namespace manta::wire

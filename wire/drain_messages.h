// Draining a node: it takes nothing new, finishes what it can, and goes. See docs/cluster-internals.md.
#pragma once

#include "wire/message_types.h"

#include <cstdint>
#include <string>

namespace manta::wire {

/// What was cut off because its node is drained died by no doing of its own: to try it again counts as no retry. Such an end
/// is kDied with this as the type of its origin.
inline constexpr const char* kPreempted = "manta::Preempted";
[[nodiscard]] inline Status preempted(std::string why) {
  return Status(Code::kDied, std::move(why)).with_origin_type(kPreempted);
}
[[nodiscard]] inline bool is_preempted(const Status& status) { return status.origin_type() == kPreempted; }
[[nodiscard]] inline bool is_preempted(const WireStatus& status) { return status.origin_type == kPreempted; }

/// client -> raylet -> head. The answer is a DrainProgress at once, and another when the node is gone. A node that drains
/// already keeps the earlier of the deadlines.
struct DrainNode {
  static constexpr Type kType = Type::kDrainNode;
  uint64_t request = 0;
  uint32_t node = 0;        ///< Its number. Neither the head's own nor that of a driver.
  int64_t deadline_us = 0;  ///< From now: what runs then is cut off.
  std::string reason;       ///< For people: who drains it and why.
  MSGPACK_DEFINE(request, node, deadline_us, reason)
};

struct DrainProgress {
  static constexpr Type kType = Type::kDrainProgress;
  uint64_t request = 0;
  WireStatus status;  ///< kNotFound: no such member; kInvalid: it cannot be drained.
  bool is_gone = false;
  std::string how;  ///< When it is gone: drained in time, or what ended it.
  MSGPACK_DEFINE(request, status, is_gone, how)
};

}  // namespace manta::wire

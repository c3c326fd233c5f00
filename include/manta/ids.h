// Typed ids. An ObjectId is never a TaskId and never a string; each prints as hex and hashes.
//
// A process that owns things gets a ProcessId (random, never reused: it is its own incarnation). The ids of what it makes
// are its ProcessId and a counter, so the owner of an object or a task is read off the id and no message asks for it.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

namespace manta {

template <typename Tag>
struct Id64 {
  uint64_t value = 0;  ///< 0 is "none".
  auto operator<=>(const Id64&) const = default;
  explicit operator bool() const { return value != 0; }
  [[nodiscard]] std::string to_string() const;
};

/// What an owner made: its process, and the how-manieth thing it is there.
template <typename Tag>
struct Id128 {
  uint64_t owner = 0;
  uint64_t sequence = 0;  ///< From 1; 0 is "none".
  auto operator<=>(const Id128&) const = default;
  explicit operator bool() const { return sequence != 0; }
  [[nodiscard]] std::string to_string() const;
};

using ProcessId = Id64<struct ProcessTag>;  ///< One incarnation of one process: driver, worker or mantad.
using NodeId = Id64<struct NodeTag>;
using JobId = Id64<struct JobTag>;
using LeaseId = Id64<struct LeaseTag>;
using SegmentId = Id64<struct SegmentTag>;
using ChannelId = Id64<struct ChannelTag>;
/// A node of a cluster, as the head counts them: never the same for two, also not after one was started again. 1 is the
/// head's node, and the one node of a local session.
struct NodeNumber {
  uint32_t value = 0;  ///< 0 is "none".
  auto operator<=>(const NodeNumber&) const = default;
  explicit operator bool() const { return value != 0; }
};

using TaskId = Id128<struct TaskTag>;
using ObjectId = Id128<struct ObjectTag>;
using ActorId = Id128<struct ActorTag>;

/// The process whose tables say whether the object lives.
[[nodiscard]] inline ProcessId owner_of(const ObjectId& id) { return {id.owner}; }

namespace detail {
std::string hex64(uint64_t value);
}

template <typename Tag>
std::string Id64<Tag>::to_string() const {
  return detail::hex64(value);
}
template <typename Tag>
std::string Id128<Tag>::to_string() const {
  return detail::hex64(owner) + "-" + std::to_string(sequence);
}

}  // namespace manta

template <typename Tag>
struct std::hash<manta::Id64<Tag>> {
  size_t operator()(const manta::Id64<Tag>& id) const noexcept { return id.value * 0x9E3779B97F4A7C15ull; }
};
template <typename Tag>
struct std::hash<manta::Id128<Tag>> {
  size_t operator()(const manta::Id128<Tag>& id) const noexcept {
    uint64_t mixed = (id.owner ^ (id.sequence * 0x9E3779B97F4A7C15ull));
    return mixed ^ (mixed >> 29);
  }
};

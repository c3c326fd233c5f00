// Control messages about what belongs to a whole cluster: placement groups, and lists of what the head knows. They go from a
// client through its raylet to the head and back; see messages.h for how messages are written.
#pragma once

#include "wire/messages.h"

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace manta::wire {

// ---------------------------------------------------------------------------------------------------- placement groups

enum class PlacementStrategy : uint8_t { kPack = 0, kSpread = 1, kStrictPack = 2, kStrictSpread = 3 };
inline constexpr size_t kMaxBundles = 1'000;

/// client -> raylet -> head: reserve all bundles or none. Answer: PlacementGroupUpdate, now and at each change.
struct CreatePlacementGroup {
  static constexpr Type kType = Type::kCreatePlacementGroup;
  uint64_t request = 0;  ///< The sender's number; the same again is the same group.
  std::vector<Resources> bundles;
  uint8_t strategy = 0;
  bool detached = false;  ///< Outlives the job.
  std::string name;       ///< For people.
  MSGPACK_DEFINE(request, bundles, strategy, detached, name)
};

struct RemovePlacementGroup {  ///< client -> raylet -> head. What runs in it ends.
  static constexpr Type kType = Type::kRemovePlacementGroup;
  uint64_t group = 0;
  MSGPACK_DEFINE(group)
};

struct GetPlacementGroup {  ///< client -> raylet -> head. Answer as to the creation, and the sender hears changes from now
                            ///< on.
  static constexpr Type kType = Type::kGetPlacementGroup;
  uint64_t request = 0;
  uint64_t group = 0;
  MSGPACK_DEFINE(request, group)
};

enum class PlacementGroupState : uint8_t { kPending = 0, kReady = 1, kRemoved = 2 };

struct PlacementGroupUpdate {
  static constexpr Type kType = Type::kPlacementGroupUpdate;
  uint64_t request = 0;  ///< Of the creation or question that this answers; 0: something changed.
  uint64_t group = 0;    ///< 0: it was refused.
  uint8_t state = 0;
  WireStatus why;                  ///< While pending what it waits for; else why it is refused or removed.
  std::vector<uint32_t> nodes;     ///< Of each bundle, when ready.
  std::vector<Resources> bundles;  ///< Likewise.
  MSGPACK_DEFINE(request, group, state, why, nodes, bundles)
};

// ---------------------------------------------------------------------------------------------------- lists

/// Up to kPlacementGroups the head knows them; the rest each node knows of itself.
enum class ListOf : uint8_t {
  kNodes = 0,
  kActors = 1,
  kJobs = 2,
  kPlacementGroups = 3,
  kWorkers = 4,
  kTasks = 5,
  kObjects = 6
};

/// client -> raylet, which answers, or hands it on to the head or to the node whose turn it is: a page, ordered by key. A
/// filter is "key=value"; all of them must hold. See list_page.h.
struct ListRequest {
  static constexpr Type kType = Type::kList;
  uint64_t request = 0;
  uint8_t what = 0;
  std::vector<std::string> filters;
  std::string cursor;  ///< Of the page before; empty: from the start.
  uint32_t limit = 100;
  MSGPACK_DEFINE(request, what, filters, cursor, limit)
};

struct Listed {
  static constexpr Type kType = Type::kListed;
  uint64_t request = 0;
  WireStatus status;
  std::vector<std::map<std::string, std::string>> rows;
  std::string cursor;     ///< Empty: that was the last page.
  std::string note = {};  ///< What is missing in the rows, and why; empty: nothing.
  MSGPACK_DEFINE(request, status, rows, cursor, note)
};

}  // namespace manta::wire

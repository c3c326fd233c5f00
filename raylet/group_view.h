// What the clients of this node know of placement groups: where the bundles of each are. The head says so to every process
// that made a group or asked for it; the raylet listens, and asks in a client's name when that one wants to run in a group
// that it does not know.
//
// Pure; owned by raylet_core.
#pragma once

#include "wire/cluster.h"
#include "wire/group_messages.h"

#include <manta/ids.h>

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

namespace manta::raylet {

class GroupView {
 public:
  struct Group {
    bool is_known = false;  ///< The head has answered.
    wire::PlacementGroupUpdate now = {};
    std::set<ProcessId> clients = {};  ///< Who hears of it.
    [[nodiscard]] bool is_ready() const {
      return is_known && static_cast<wire::PlacementGroupState>(now.state) == wire::PlacementGroupState::kReady;
    }
  };

  /// The client needs the group: true when the head must be asked in its name.
  bool watch(uint64_t group, ProcessId client);
  /// What the head told a client.
  void hear(ProcessId client, const wire::PlacementGroupUpdate& update);
  /// It is gone, or not as was thought: whoever needs it watches again.
  void drop(uint64_t group);
  void forget(ProcessId client);

  [[nodiscard]] const Group* find(uint64_t group) const;
  [[nodiscard]] const std::map<uint64_t, Group>& all() const { return groups_; }

  /// The nodes of the bundles that could hold it, each once, those of later bundles later; from the `turn`-th on, so that
  /// requests spread. Empty, with a reason in `why`, when none is large enough or the group has no such bundle.
  [[nodiscard]] static std::vector<wire::NodeNumber> nodes_for(const Group& group, const wire::SchedulingClass& what,
                                                               uint64_t turn, std::string& why);

 private:
  std::map<uint64_t, Group> groups_;
  std::map<ProcessId, std::set<uint64_t>> of_client_;
};

}  // namespace manta::raylet

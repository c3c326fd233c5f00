#include "raylet/group_view.h"

#include "raylet/resources.h"

#include <algorithm>

namespace manta::raylet {

bool GroupView::watch(uint64_t group, ProcessId client) {
  of_client_[client].insert(group);
  return groups_[group].clients.insert(client).second;
}

void GroupView::drop(uint64_t group) {
  const auto gone = groups_.extract(group);
  if (gone.empty()) return;
  for (const ProcessId client : gone.mapped().clients)
    if (const auto it = of_client_.find(client); it != of_client_.end()) it->second.erase(group);
}

void GroupView::hear(ProcessId client, const wire::PlacementGroupUpdate& update) {
  if (update.group == 0) return;
  const auto state = static_cast<wire::PlacementGroupState>(update.state);
  if (state == wire::PlacementGroupState::kRemoved) return drop(update.group);
  Group& group = groups_[update.group];
  group.is_known = true;
  group.now = update;
  group.clients.insert(client);
  of_client_[client].insert(update.group);
}

void GroupView::forget(ProcessId client) {
  const auto of_it = of_client_.extract(client);
  if (of_it.empty()) return;
  for (const uint64_t number : of_it.mapped()) {
    const auto group = groups_.find(number);
    if (group == groups_.end()) continue;
    group->second.clients.erase(client);
    if (group->second.clients.empty()) groups_.erase(group);
  }
}

const GroupView::Group* GroupView::find(uint64_t group) const {
  const auto it = groups_.find(group);
  return it == groups_.end() ? nullptr : &it->second;
}

std::vector<wire::NodeNumber> GroupView::nodes_for(const Group& group, const wire::SchedulingClass& what, uint64_t turn,
                                                   std::string& why) {
  const std::vector<wire::Resources>& bundles = group.now.bundles;
  std::vector<wire::NodeNumber> nodes;
  for (size_t i = 0; i < std::min(bundles.size(), group.now.nodes.size()); ++i) {
    if (what.bundle >= 0 && static_cast<size_t>(what.bundle) != i) continue;
    if (!is_zero(shortage(what.resources, bundles[i]))) continue;
    if (std::ranges::find(nodes, group.now.nodes[i]) == nodes.end()) nodes.push_back(group.now.nodes[i]);
  }
  if (!nodes.empty()) {
    std::rotate(nodes.begin(), nodes.begin() + static_cast<std::ptrdiff_t>(turn % nodes.size()), nodes.end());
    return nodes;
  }
  if (what.bundle >= static_cast<int32_t>(bundles.size())) {
    why = "its placement group has " + std::to_string(bundles.size()) + " bundles, no bundle " + std::to_string(what.bundle);
  } else {
    why = "no bundle of its placement group that it may run in has " + describe(what.resources);
  }
  return nodes;
}

}  // namespace manta::raylet

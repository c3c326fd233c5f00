// The objects of this node, in pages: by slot those that are in memory, then by name those that are on disk only.
#include "object_store/store_core.h"

#include "wire/list_page.h"

#include <algorithm>
#include <string_view>

namespace manta::object_store {

wire::Listed StoreCore::list(const wire::ListRequest& request) const {
  wire::ListPage page(request);
  std::string_view cursor = request.cursor;
  const bool is_on_disk = cursor.starts_with('d');
  if (is_on_disk) cursor.remove_prefix(1);
  const bool is_first = cursor.empty();
  const uint64_t after = wire::take_number(cursor);
  const auto row = [&](const ObjectId& id, uint64_t size_bytes, const char* state) -> wire::Row {
    return {{"node", std::to_string(options_.node)},
            {"object", id.sequence == 0 ? "" : id.to_string()},
            {"owner", id.sequence == 0 ? "" : ProcessId{id.owner}.to_string()},
            {"size_bytes", std::to_string(size_bytes)},
            {"state", state}};
  };
  uint64_t index = is_on_disk ? slots_.size() : is_first ? 0 : after + 1;
  for (; index < slots_.size() && page.has_room(); ++index) {
    const Slot& slot = slots_[index];
    if (slot.state != SlotState::kLive && slot.state != SlotState::kLimbo) continue;
    const bool is_evicted = slot.state == SlotState::kLimbo && slot.name != 0;
    if (is_evicted) continue;  // it is on disk, and was seen there
    const char* const state = slot.state == SlotState::kLimbo ? "freed" : slot.sequence == 0 ? "copy" : "memory";
    page.add(std::to_string(index), row(ObjectId{slot.owner, slot.sequence}, slot.size_bytes, state));
  }
  if (index < slots_.size()) return std::move(page).finish(false);
  std::vector<Name> names;
  for (const auto& [name, spilled] : spilled_) {
    const bool is_here = spilled.place != Place::kResident && !spilled.freed && !spilled.home;
    if (is_here && (!is_on_disk || name > after)) names.push_back(name);
  }
  const size_t most = std::min<size_t>(names.size(), wire::ListPage::kMaxLooks);
  std::ranges::partial_sort(names, names.begin() + static_cast<std::ptrdiff_t>(most));
  size_t at = 0;
  for (; at < most && page.has_room(); ++at) {
    const Spilled& spilled = spilled_.at(names[at]);
    const char* const state = spilled.place == Place::kDisk      ? "disk"
                              : spilled.place == Place::kDamaged ? "lost"
                                                                 : "restoring";
    page.add(std::string("d").append(std::to_string(names[at])), row(spilled.id, spilled.size_bytes, state));
  }
  return std::move(page).finish(at == names.size());
}

}  // namespace manta::object_store

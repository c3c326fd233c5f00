#include "object_store/transfer/spread.h"

#include "object_store/hazard_page.h"

#include <algorithm>

namespace manta::object_store {
namespace {

constexpr auto kReadsFor = std::chrono::seconds(2);  // since it last asked

}  // namespace

std::vector<wire::NodeNumber> Spread::elsewhere(const BulkRequest& request, wire::NodeNumber peer, Time now) {
  if (request.object_bytes < kFromBytes || request.offset >= request.object_bytes) return {};
  Object& object = object_of(request, now);
  std::erase_if(object.readers, [now](const auto& reader) { return reader.second + kReadsFor < now; });
  if (object.readers.insert_or_assign(peer, now).second) {
    // What it once got it may have dropped since.
    for (auto& holders : object.holders) std::erase(holders, peer);
  }
  std::vector<wire::NodeNumber>& holders = object.holders.at(request.offset / kChunkBytes);
  // Who asks again did not get it. Sending it to those who wait for it themselves would be a circle.
  const bool asks_again = std::find(holders.begin(), holders.end(), peer) != holders.end();
  std::erase_if(holders, [&](wire::NodeNumber node) { return node == peer || !object.readers.contains(node); });
  std::vector<wire::NodeNumber> instead;
  const auto most = std::min<ptrdiff_t>(std::ssize(holders), kMaxElsewhere);
  if (request.no_redirect == 0 && !asks_again) instead.assign(holders.begin(), holders.begin() + most);
  if (instead.empty()) {
    holders.push_back(peer);
  } else {
    std::rotate(holders.begin(), holders.begin() + 1, holders.end());  // who is named first now is named last next time
  }
  return instead;
}

Spread::Object& Spread::object_of(const BulkRequest& request, Time now) {
  const std::pair key(wire::node_of(request.segment), hazard_key(request.slot, request.generation));
  if (!objects_.contains(key) && objects_.size() >= kMaxObjects) {
    objects_.erase(std::min_element(objects_.begin(), objects_.end(),
                                    [](const auto& a, const auto& b) { return a.second.last_used < b.second.last_used; }));
  }
  Object& object = objects_[key];
  object.last_used = now;
  object.holders.resize((request.object_bytes + kChunkBytes - 1) / kChunkBytes);
  return object;
}

void Spread::forget(wire::NodeNumber node) {
  for (auto& [key, object] : objects_) {
    object.readers.erase(node);
    for (auto& holders : object.holders) std::erase(holders, node);
  }
}

}  // namespace manta::object_store

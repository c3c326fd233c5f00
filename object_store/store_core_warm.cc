// StoreCore: memory made warm before anybody asks for it. The first touch of a shared page costs many times what writing it
// does; a node with nothing to do touches some, so that whoever puts first need not.
//
//   first client joins, a prepared segment is granted, or a new one had to be made
//     --some time later--> PREPARED: one standard segment, one for a large object, both in phase WARM
//     --no such need for kKeptFor--> retired: a node at rest holds nothing
//
// A prepared segment is like any warm one otherwise: the first to go when memory is short, granted to whoever it fits.
#include "object_store/store_core.h"

#include <algorithm>

namespace manta::object_store {
namespace {

// A short program ends before; a longer one has begun to compute.
constexpr auto kAfterJoin = std::chrono::milliseconds(200);
constexpr auto kAfterGrant = std::chrono::seconds(1);  // then who puts one thing after the other has taken what it needs
constexpr auto kKeptFor = std::chrono::seconds(60);
constexpr uint64_t kStandardBytes = uint64_t{16} << 20;  // a producer's first

uint64_t round_down(uint64_t bytes, uint64_t grain) { return bytes / grain * grain; }

}  // namespace

Duration StoreCore::kept_warm(const Segment& segment) const {
  constexpr auto kReturned = std::chrono::seconds(10);
  return segment.is_prepared ? std::max<Duration>(prepared_until_ - segment.idle_since, kReturned) : Duration(kReturned);
}

void StoreCore::want_prepared(Duration in) {
  if (options_.prepared_bytes == 0) return;
  prepared_until_ = now_ + kKeptFor;
  prepare_at_ = now_ + in;
}
void StoreCore::want_prepared_for_first() { want_prepared(kAfterJoin); }
void StoreCore::want_prepared_again() { want_prepared(kAfterGrant); }

/// Of the standard one and the one for a large object: none where it would be too small to serve.
std::pair<uint64_t, uint64_t> StoreCore::prepared_sizes() const {
  const uint64_t most = std::min(options_.prepared_bytes, options_.capacity_bytes / 8);
  const uint64_t standard = round_down(std::min(kStandardBytes, most / 8), grain());
  const uint64_t dedicated = round_down(most - standard, grain());
  return {standard, dedicated > kDedicatedBytes ? dedicated : 0};
}

void StoreCore::prepare() {
  prepare_at_.reset();
  if (is_short() || clients_.empty()) return;
  bool has_standard = false, has_dedicated = false;
  for (const auto& [id, segment] : segments_) {
    if (segment.is_prepared) (segment.dedicated ? has_dedicated : has_standard) = true;
  }
  const auto [standard, dedicated] = prepared_sizes();
  effect::MakeWarm effect;
  if (!has_standard) prepare_one(standard, false, effect);
  if (!has_dedicated) prepare_one(dedicated, true, effect);
  if (!effect.segments.empty()) effects_.emplace_back(std::move(effect));
}

void StoreCore::prepare_one(uint64_t size_bytes, bool dedicated, effect::MakeWarm& effect) {
  // Only from what nobody holds, and half of that stays.
  if (size_bytes == 0 || size_bytes > (options_.capacity_bytes - held_bytes_) / 2) return;
  const std::optional<SegmentId> id = make_segment(size_bytes, dedicated);
  if (!id) return;
  make_warm(*id);
  segments_.at(id->value).is_prepared = true;
  effect.segments.push_back({*id, size_bytes});
}

}  // namespace manta::object_store

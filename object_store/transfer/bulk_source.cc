#include "object_store/transfer/bulk_source.h"

#include "common/check.h"
#include "object_store/hazard_page.h"

#include <algorithm>
#include <thread>
#include <tuple>

namespace manta::object_store {
namespace {

constexpr auto kServeOnWithin = std::chrono::seconds(5);
constexpr auto kLocateWithin = std::chrono::seconds(5);
constexpr auto kSealedWithin = std::chrono::milliseconds(100);
constexpr auto kLocateAgainAfter = std::chrono::milliseconds(1);
constexpr size_t kMaxKnown = 65'536;

bool is_same_place(const wire::ObjectLocation& one, const wire::ObjectLocation& other) {
  return std::tie(one.segment, one.offset, one.size_bytes) == std::tie(other.segment, other.offset, other.size_bytes);
}

uint64_t name_of(const wire::ObjectLocation& at) { return hazard_key(at.slot, at.generation); }

}  // namespace

bool BulkSource::is_ready(const BulkRequest& request) const { return reader_.client().is_in_memory(request.location()); }

void BulkSource::copied(wire::NodeNumber peer, const wire::ObjectLocation& at) {
  if (wire::node_of(at.segment) == node_) reader_.copied(peer, at);
}

std::optional<wire::ObjectLocation> BulkSource::known(const wire::ObjectLocation& named) {
  std::lock_guard lock(mutex_);
  const auto found = known_.find(name_of(named));
  return found == known_.end() ? std::nullopt : std::optional(found->second);
}

void BulkSource::learn(std::span<const BulkRequest> requests) {
  std::vector<wire::ObjectLocation> asked;
  for (const BulkRequest& request : requests) {
    const wire::ObjectLocation named = request.location();
    const bool is_asked = !asked.empty() && name_of(asked.back()) == name_of(named);
    if (wire::node_of(named.segment) == node_ && !is_asked && is_ready(request) && !known(named)) asked.push_back(named);
  }
  if (asked.empty()) return;
  const auto found = reader_.locate(std::move(asked), Clock::real().now() + kLocateWithin);
  std::lock_guard lock(mutex_);
  if (known_.size() + found.size() > kMaxKnown) known_.clear();
  for (const auto& at : found)
    if (at) known_[name_of(*at)] = *at;
}

/// Of an object of this node: where it lies, or, if it is not in memory, how it is named to have it restored.
Result<wire::ObjectLocation> BulkSource::place_of(const wire::ObjectLocation& named) {
  const Time deadline = Clock::real().now() + kSealedWithin;
  while (reader_.client().is_in_memory(named)) {
    if (const auto at = known(named)) {
      if (is_same_place(*at, named)) return *at;
      return Status(Code::kInvalid, "the object does not lie where the peer says");
    }
    BulkRequest request;
    request.segment = named.segment, request.slot = named.slot, request.generation = named.generation;
    learn({&request, 1});
    if (known(named)) continue;
    // Its producer has sealed it and said so: the store comes to that in a moment.
    if (Clock::real().now() >= deadline) return Status(Code::kUnavailable, "the object is not known to be sealed yet");
    std::this_thread::sleep_for(kLocateAgainAfter);  // tidy: allow(sleep) because nobody tells who reads of a seal
  }
  return wire::ObjectLocation{.segment = named.segment, .slot = named.slot, .generation = named.generation};
}

Result<ChunkBytes> BulkSource::read(const BulkRequest& request, wire::NodeNumber peer) {
  const std::chrono::milliseconds timeout(request.timeout_ms);
  const wire::ObjectLocation at = request.location();
  ChunkBytes chunk;
  if (wire::node_of(at.segment) == node_) {
    const auto priority = static_cast<wire::TransferPriority>(request.priority);
    MANTA_ASSIGN_OR_RETURN(const wire::ObjectLocation place, place_of(at));
    MANTA_ASSIGN_OR_RETURN(chunk.pinned, reader_.client().pin(place, timeout, priority));
    // It is as large as it is, whatever the peer said.
    if (chunk.pinned.size() != request.object_bytes)
      return Status(Code::kInvalid, "the object has another size than was asked for");
    std::lock_guard lock(mutex_);
    chunk.elsewhere = spread_.elsewhere(request, peer, Clock::real().now());
    if (!chunk.elsewhere.empty()) return chunk;
    served_bytes_ += request.size_bytes;
  } else {
    const Time deadline = Clock::real().now() + std::min<std::chrono::milliseconds>(timeout, kServeOnWithin);
    Status status = under_way_.read_part(request, chunk.copied, deadline);
    if (status.ok()) {
      chunk.bytes = chunk.copied;
      return chunk;
    }
    if (status.code() != Code::kNotFound) return status;  // the peer asks the home, which has it
    MANTA_ASSIGN_OR_RETURN(chunk.pinned, reader_.client().pin_if_here(at, timeout));
    if (chunk.pinned.size() != request.object_bytes)
      return Status(Code::kNotFound, "the copy that is here has another size");
  }
  chunk.bytes = chunk.pinned.bytes().subspan(request.offset, request.size_bytes);
  return chunk;
}

void BulkSource::forget(wire::NodeNumber node) {
  std::lock_guard lock(mutex_);
  spread_.forget(node);
}

}  // namespace manta::object_store

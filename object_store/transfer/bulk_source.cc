#include "object_store/transfer/bulk_source.h"

#include "common/check.h"

#include <algorithm>

namespace manta::object_store {
namespace {

constexpr auto kServeOnWithin = std::chrono::seconds(5);

}  // namespace

bool BulkSource::is_ready(const BulkRequest& request) const { return reader_.client().is_in_memory(request.location()); }

void BulkSource::copied(wire::NodeNumber peer, const wire::ObjectLocation& at) {
  if (wire::node_of(at.segment) == node_) reader_.copied(peer, at);
}

Result<ChunkBytes> BulkSource::read(const BulkRequest& request, wire::NodeNumber peer) {
  const std::chrono::milliseconds timeout(request.timeout_ms);
  const wire::ObjectLocation at = request.location();
  ChunkBytes chunk;
  if (wire::node_of(at.segment) == node_) {
    const auto priority = static_cast<wire::TransferPriority>(request.priority);
    MANTA_ASSIGN_OR_RETURN(chunk.pinned, reader_.client().pin(at, timeout, priority));
    // One that came back from the disk is as large as it is, whatever the peer said.
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

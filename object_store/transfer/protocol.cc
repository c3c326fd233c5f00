#include "object_store/transfer/protocol.h"

#include <string>

namespace manta::object_store {
namespace {

Status invalid(const std::string& what) { return Status(Code::kInvalid, "the peer of a bulk connection sent " + what); }

}  // namespace

Status check_opening(const BulkOpening& opening, wire::NodeNumber self, wire::NodeNumber wanted_peer) {
  if (opening.magic != kBulkMagic) return invalid("something that is no bulk transfer");
  if (opening.version != kBulkVersion) {
    return Status(Code::kUnavailable, "the peer speaks version " + std::to_string(opening.version) +
                                          " of bulk transfer, this node version " + std::to_string(kBulkVersion));
  }
  if (opening.node == 0 || opening.node > wire::kMaxNodeNumber) return invalid("a node number that there is not");
  if (opening.peer != 0 && opening.peer != self) {
    return Status(Code::kUnavailable,
                  "the peer looks for node " + std::to_string(opening.peer) + "; this is node " + std::to_string(self));
  }
  if (wanted_peer != 0 && opening.node != wanted_peer) {
    return Status(Code::kUnavailable,
                  "node " + std::to_string(opening.node) + " answered instead of node " + std::to_string(wanted_peer));
  }
  return {};
}

Status check_request(const BulkRequest& request) {
  if (request.size_bytes > kChunkBytes) return invalid("a request for " + std::to_string(request.size_bytes) + " bytes");
  if (request.offset > request.object_bytes || request.size_bytes > request.object_bytes - request.offset)
    return invalid("a request beyond the end of an object");
  if (request.priority > static_cast<uint8_t>(wire::TransferPriority::kArgument) || request.no_redirect > 1)
    return invalid("a request with flags that there are not");
  if (wire::node_of(request.segment) == 0) return invalid("a request for a segment of no node");
  return {};
}

Status check_reply(const BulkReply& reply, uint64_t size_bytes) {
  switch (reply.kind) {
    case BulkKind::kData:
      if (reply.size != size_bytes)
        return invalid(std::to_string(reply.size) + " bytes instead of " + std::to_string(size_bytes));
      return {};
    case BulkKind::kElsewhere:
      if (reply.size == 0 || reply.size > kMaxElsewhere)
        return invalid("a list of " + std::to_string(reply.size) + " nodes");
      return {};
    case BulkKind::kFailed:
      if (reply.size > kMaxTextBytes) return invalid("a message of " + std::to_string(reply.size) + " bytes");
      if (reply.code == 0 || reply.code > static_cast<uint32_t>(Code::kInternal)) return invalid("a failure of no kind");
      return {};
  }
  return invalid("a reply of no kind");
}

}  // namespace manta::object_store

#include "object_store/transfer/bulk_replies.h"

#include "common/check.h"
#include "object_store/transfer/checksum.h"

#include <algorithm>
#include <cstring>

namespace manta::object_store {
namespace {

constexpr size_t kRequestsAtOnce = 1'024;
constexpr size_t kPackedBytes = size_t{64} << 10;  // up to this size bytes are copied to go together with others
constexpr size_t kFlushBytes = size_t{192} << 10;
constexpr size_t kHashedAtOnce = size_t{256} << 10;  // while it is in the cache

}  // namespace

BulkReplies::BulkReplies(Stream& stream, BulkSource& source, wire::NodeNumber peer, const Limits& limits)
    : stream_(stream), source_(source), peer_(peer), limits_(limits), in_(kRequestsAtOnce * sizeof(BulkRequest)) {}

Status BulkReplies::run() {
  size_t have = 0;
  while (true) {
    const Time idle_until = Clock::real().now() + limits_.idle_for;
    MANTA_ASSIGN_OR_RETURN(const size_t got, stream_.read_some(std::span(in_).subspan(have), idle_until));
    have += got;
    std::vector<BulkRequest> requests(have / sizeof(BulkRequest));
    const size_t used = requests.size() * sizeof(BulkRequest);
    if (used > 0) std::memcpy(requests.data(), in_.data(), used);
    source_.learn(requests);
    for (const BulkRequest& request : requests) {
      MANTA_RETURN_IF_ERROR(check_request(request));
      MANTA_RETURN_IF_ERROR(serve(request));
    }
    std::memmove(in_.data(), in_.data() + used, have - used);
    have -= used;
    MANTA_RETURN_IF_ERROR(flush());
  }
}

Status BulkReplies::serve(const BulkRequest& request) {
  const wire::ObjectLocation at = request.location();
  if (const uint64_t name = hazard_key(at.slot, at.generation); name != last_copied_) {
    last_copied_ = name;
    source_.copied(peer_, at);
  }
  // One that has to be waited for does not keep back what is ready.
  if (!source_.is_ready(request)) MANTA_RETURN_IF_ERROR(flush());
  Result<ChunkBytes> chunk = source_.read(request, peer_);
  if (!chunk.ok()) return send_failure(request.id, chunk.status());
  if (!chunk->elsewhere.empty()) return send_elsewhere(request.id, chunk->elsewhere);
  return send_data(request.id, chunk->bytes);
}

Status BulkReplies::send_elsewhere(uint64_t id, const std::vector<wire::NodeNumber>& nodes) {
  const BulkReply reply{.id = id, .kind = BulkKind::kElsewhere, .size = nodes.size()};
  append(&reply, sizeof reply);
  append(nodes.data(), nodes.size() * sizeof nodes.front());
  return {};
}

Status BulkReplies::send_data(uint64_t id, std::span<const std::byte> bytes) {
  const BulkReply reply{.id = id, .kind = BulkKind::kData, .size = bytes.size()};
  append(&reply, sizeof reply);
  Checksum checksum(!stream_.is_authenticated());
  if (bytes.size() <= kPackedBytes) {
    append(bytes.data(), bytes.size());
    checksum.update(bytes);
  } else {
    MANTA_RETURN_IF_ERROR(flush());
    while (!bytes.empty()) {
      const std::span<const std::byte> piece = bytes.first(std::min(bytes.size(), kHashedAtOnce));
      checksum.update(piece);
      MANTA_RETURN_IF_ERROR(stream_.write_all(piece, stalled_at()));
      bytes = bytes.subspan(piece.size());
    }
  }
  const uint64_t value = checksum.value();
  append(&value, sizeof value);
  return out_.size() < kFlushBytes ? Status() : flush();
}

Status BulkReplies::send_failure(uint64_t id, const Status& why) {
  const std::string text = why.message().substr(0, kMaxTextBytes);
  const BulkReply reply{.id = id, .kind = BulkKind::kFailed, .code = static_cast<uint32_t>(why.code()), .size = text.size()};
  append(&reply, sizeof reply);
  append(text.data(), text.size());
  return {};
}

void BulkReplies::append(const void* data, size_t size) {
  const auto* bytes = static_cast<const std::byte*>(data);
  out_.insert(out_.end(), bytes, bytes + size);
}

Status BulkReplies::flush() {
  if (out_.empty()) return {};
  Status status = stream_.write_all(out_, stalled_at());
  out_.clear();
  return status;
}

}  // namespace manta::object_store

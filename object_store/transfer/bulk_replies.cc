#include "object_store/transfer/bulk_replies.h"

#include "common/check.h"

#include <algorithm>
#include <cstring>

#define XXH_INLINE_ALL  // the library's header-only form
#include <xxhash.h>

namespace manta::object_store {
namespace {

constexpr size_t kRequestsAtOnce = 1'024;
constexpr size_t kPackedBytes = size_t{64} << 10;  // up to this size bytes are copied to go together with others
constexpr size_t kFlushBytes = size_t{192} << 10;
constexpr size_t kHashedAtOnce = size_t{256} << 10;  // while it is in the cache

}  // namespace

BulkReplies::BulkReplies(Stream& stream, LocalReader& reader, wire::NodeNumber peer, const Limits& limits)
    : stream_(stream), reader_(reader), peer_(peer), limits_(limits), in_(kRequestsAtOnce * sizeof(BulkRequest)) {}

Status BulkReplies::run() {
  size_t have = 0;
  while (true) {
    const Time idle_until = Clock::real().now() + limits_.idle_for;
    MANTA_ASSIGN_OR_RETURN(const size_t got, stream_.read_some(std::span(in_).subspan(have), idle_until));
    have += got;
    size_t used = 0;
    for (; have - used >= sizeof(BulkRequest); used += sizeof(BulkRequest)) {
      BulkRequest request;
      std::memcpy(&request, in_.data() + used, sizeof request);
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
    reader_.copied(peer_, at);
  }
  // One that has to be restored first does not keep back what is ready.
  if (!reader_.client().is_in_memory(at)) MANTA_RETURN_IF_ERROR(flush());
  Result<PinnedBytes> pinned = reader_.client().pin(at, std::chrono::milliseconds(request.timeout_ms),
                                                    static_cast<wire::TransferPriority>(request.priority));
  if (!pinned.ok()) return send_failure(request.id, pinned.status());
  return send_data(request.id, pinned->bytes().subspan(request.offset, request.size_bytes));
}

Status BulkReplies::send_data(uint64_t id, std::span<const std::byte> bytes) {
  const BulkReply reply{.id = id, .kind = BulkKind::kData, .size = bytes.size()};
  append(&reply, sizeof reply);
  uint64_t checksum = 0;
  if (bytes.size() <= kPackedBytes) {
    append(bytes.data(), bytes.size());
    checksum = XXH3_64bits(bytes.data(), bytes.size());
  } else {
    MANTA_RETURN_IF_ERROR(flush());
    XXH3_state_t state;
    XXH3_INITSTATE(&state);
    XXH3_64bits_reset(&state);
    while (!bytes.empty()) {
      const std::span<const std::byte> piece = bytes.first(std::min(bytes.size(), kHashedAtOnce));
      XXH3_64bits_update(&state, piece.data(), piece.size());
      MANTA_RETURN_IF_ERROR(stream_.write_all(piece, stalled_at()));
      bytes = bytes.subspan(piece.size());
    }
    checksum = XXH3_64bits_digest(&state);
  }
  append(&checksum, sizeof checksum);
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

// What a hostile peer sends on a bulk connection, both ways: an opening, a request or a reply that is let through is within
// the bounds that the code behind relies on.
#include "common/check.h"
#include "object_store/transfer/protocol.h"
#include "object_store/transfer/spread.h"
#include "object_store/transfer/stream.h"
#include "tests/fuzz/fuzz.h"

#include <cstring>

namespace manta::fuzz {
namespace {

using namespace object_store;

constexpr uint64_t kLargestSegment = uint64_t{1} << 34;

template <typename Message>
std::string seed(char kind, const Message& message) {
  std::string bytes(1, kind);
  bytes.append(reinterpret_cast<const char*>(&message), sizeof message);
  return bytes;
}

template <typename Message>
bool take(const uint8_t* data, size_t size, Message& message) {
  if (size < sizeof message) return false;
  std::memcpy(&message, data, sizeof message);
  return true;
}

void look_at_request(const BulkRequest& request) {
  if (!check_request(request).ok()) return;
  MANTA_CHECK(request.size_bytes <= kChunkBytes && request.offset <= request.object_bytes, request.offset);
  MANTA_CHECK(request.offset + request.size_bytes <= request.object_bytes, request.object_bytes);
  // Only what lies in a segment comes so far.
  if (request.object_bytes > kLargestSegment) return;
  static Spread spread;
  static Time now;
  now += std::chrono::milliseconds(1);
  const wire::NodeNumber peer = 2 + request.id % 5;
  const std::vector<wire::NodeNumber> nodes = spread.elsewhere(request, peer, now);
  MANTA_CHECK(nodes.size() <= kMaxElsewhere && spread.objects() <= Spread::kMaxObjects, nodes.size());
  MANTA_CHECK(request.no_redirect == 0 || nodes.empty(), nodes.size());
  for (wire::NodeNumber node : nodes) MANTA_CHECK(node != peer, node);
}

}  // namespace

std::vector<std::string> seeds() {
  const BulkRequest request{.id = 1,
                            .segment = wire::first_id_of(1) + 1,
                            .object_bytes = 3 * kChunkBytes,
                            .offset = kChunkBytes,
                            .size_bytes = kChunkBytes,
                            .slot = 2,
                            .generation = 1,
                            .timeout_ms = 100};
  return {seed('o', BulkOpening{.node = 2, .peer = 1}),
          seed('q', request),
          seed('r', BulkReply{.id = 1, .size = kChunkBytes}),
          seed('r', BulkReply{.kind = BulkKind::kElsewhere, .size = 2}),
          seed('r', BulkReply{.kind = BulkKind::kFailed, .code = 9, .size = 40}),
          "e127.0.0.1:80",
          "e[::1]:65535"};
}

}  // namespace manta::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace manta;
  using namespace manta::object_store;
  if (size == 0) return 0;
  const uint8_t kind = *data++;
  --size;
  BulkOpening opening;
  BulkRequest request;
  BulkReply reply;
  if (kind == 'o' && fuzz::take(data, size, opening) && check_opening(opening, 1, 0).ok()) {
    MANTA_CHECK(opening.node > 0 && opening.node <= wire::kMaxNodeNumber, opening.node);
  } else if (kind == 'q' && fuzz::take(data, size, request)) {
    fuzz::look_at_request(request);
  } else if (kind == 'r' && fuzz::take(data, size, reply) && check_reply(reply, kChunkBytes).ok()) {
    MANTA_CHECK(reply.size <= kChunkBytes, reply.size);
  } else if (kind == 'e') {
    const std::string text(reinterpret_cast<const char*>(data), size);
    if (Result<Endpoint> endpoint = parse_endpoint(text); endpoint.ok())
      MANTA_CHECK(!endpoint->host.empty() && std::stoul(endpoint->port) <= 65'535, text);
  }
  return 0;
}

#include "actors/arguments_ahead.h"

namespace manta {
namespace {

constexpr int kCallsAhead = 4;

void append_remote(Cursor& cursor, wire::NodeNumber here, std::vector<wire::ObjectLocation>& out) {
  const wire::ObjectLocation at = unpack(cursor.read<PackedLocation>());
  const wire::NodeNumber node = wire::node_of(at.segment);
  if (cursor.ok() && node != 0 && node != here) out.push_back(at);
}

}  // namespace

void append_remote_arguments(const CallHeader& header, std::span<const std::byte> arguments, wire::NodeNumber here,
                             std::vector<wire::ObjectLocation>& out) {
  Cursor cursor(arguments);
  if (header.arguments_stored != 0) return append_remote(cursor, here, out);
  for (uint32_t i = 0; i < header.argument_count && cursor.ok(); ++i) {
    const auto part = cursor.read<PartHeader>();
    Cursor bytes(cursor.take_padded(part.size_bytes));
    if (cursor.ok() && part.kind == static_cast<uint32_t>(PartKind::kStored)) append_remote(bytes, here, out);
  }
}

void append_arguments_behind(const wire::Ring& requests, uint64_t& looked_to, wire::NodeNumber here,
                             std::vector<wire::ObjectLocation>& out) {
  uint64_t position = 0;
  for (int calls = 0; calls < kCallsAhead;) {
    const std::optional<wire::RingMessage> message = requests.peek(position);
    if (!message) return;
    if (message->kind != static_cast<uint16_t>(RequestKind::kCall)) continue;
    ++calls;
    if (message->position < looked_to) continue;
    looked_to = position;
    Cursor cursor(message->body);
    const auto header = cursor.read<CallHeader>();
    if (cursor.ok()) append_remote_arguments(header, cursor.rest(), here, out);
  }
}

}  // namespace manta

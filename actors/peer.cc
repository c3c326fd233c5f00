#include "actors/peer.h"

#include "common/check.h"

#include <algorithm>
#include <bit>
#include <utility>

namespace manta {
namespace {

/// What an argument sends: its own blob (a value that is one once it is written), the blob of the object it refers to, or
/// that object's location.
struct Part {
  PartKind kind = PartKind::kInline;
  size_t size_bytes = 0;
  std::span<const std::byte> blob{};
  const detail::ObjectEntry* stored = nullptr;
};

Part part_of(const detail::Argument& argument) {
  if (argument.unwritten != nullptr) return {.size_bytes = argument.unwritten->blob_size()};
  if (argument.ring_bytes > 0) return {.size_bytes = argument.ring_bytes};
  if (!argument.ref) return {.size_bytes = argument.blob.size(), .blob = std::as_bytes(std::span(argument.blob))};
  const detail::ObjectEntry& entry = *argument.ref.get();
  if (entry.state.load(std::memory_order_acquire) == detail::ObjectState::kStored)
    return {.kind = PartKind::kStored, .size_bytes = sizeof(PackedLocation), .stored = &entry};
  return {.size_bytes = entry.bytes().size(), .blob = entry.bytes()};
}

}  // namespace

void write_blobs(std::span<detail::Argument> arguments) {
  for (detail::Argument& argument : arguments) {
    if (const Encoder* const value = std::exchange(argument.unwritten, nullptr)) argument.blob = value->to_blob();
  }
}

size_t Peer::message_bytes(std::span<const detail::Argument> arguments) {
  size_t size = sizeof(CallHeader);
  for (const detail::Argument& argument : arguments) size += sizeof(PartHeader) + padded(part_of(argument).size_bytes);
  return size;
}

void Peer::write_arguments(const Call& call, Pen& pen) {
  for (const detail::Argument& argument : call.arguments) {
    const Part part = part_of(argument);
    pen.write(PartHeader{static_cast<uint32_t>(part.kind), static_cast<uint32_t>(part.size_bytes)});
    if (part.kind == PartKind::kStored) {
      pen.write(pack(part.stored->location, part.stored->id));
    } else if (argument.unwritten != nullptr) {
      argument.unwritten->write_blob(pen.take(part.size_bytes));
      pen.pad(part.size_bytes);
    } else {
      MANTA_CHECK(part.blob.size() == part.size_bytes, call.first_sequence);
      pen.padded_bytes(part.blob);
    }
  }
}

std::vector<Peer::ArgumentBytes> Peer::arguments_of(const Call& call) {
  std::vector<ArgumentBytes> out;
  for (const detail::Argument& argument : call.arguments) {
    const Part part = part_of(argument);
    const bool is_stored = part.kind == PartKind::kStored;
    out.push_back({part.blob, is_stored ? pack(part.stored->location, part.stored->id) : PackedLocation{}, is_stored});
  }
  return out;
}

void Peer::write_arguments(std::span<const ArgumentBytes> arguments, Pen& pen) {
  for (const ArgumentBytes& argument : arguments) {
    const size_t size = argument.is_stored ? sizeof(PackedLocation) : argument.blob.size();
    pen.write(PartHeader{static_cast<uint32_t>(argument.is_stored ? PartKind::kStored : PartKind::kInline),
                         static_cast<uint32_t>(size)});
    if (argument.is_stored) {
      pen.write(argument.location);
    } else {
      pen.padded_bytes(argument.blob);
    }
  }
}

bool Peer::teach(uint32_t id, const Template& call_template) {
  const std::string_view key = call_template.function->key;
  const size_t size = 16 + key.size() + call_template.name.size() + call_template.group.size();
  const std::span<std::byte> room = channel_->requests.reserve(size);
  if (room.empty()) return false;
  Pen pen(room.first(size));
  pen.write(id);
  pen.write(static_cast<uint32_t>(key.size()));
  pen.write(static_cast<uint32_t>(call_template.name.size()));
  pen.write(static_cast<uint32_t>(call_template.group.size()));
  for (const std::string_view text : {key, std::string_view(call_template.name), std::string_view(call_template.group)}) {
    pen.bytes(std::as_bytes(std::span(text)));
  }
  channel_->requests.publish(static_cast<uint16_t>(RequestKind::kTemplate), size);
  if (taught_.size() <= id) taught_.resize(id + 1);
  taught_[id] = true;
  return true;
}

bool Peer::send(Call& call, const Template& call_template) {
  const bool is_taught = call.template_id < taught_.size() && taught_[call.template_id];
  if (!is_taught && !teach(call.template_id, call_template)) return false;
  const size_t size = call.stored_arguments ? sizeof(CallHeader) + sizeof(PackedLocation) : message_bytes(call.arguments);
  MANTA_CHECK(size <= wire::kMaxRingMessageBytes, size);
  const std::span<std::byte> room = channel_->requests.reserve(size);
  if (room.empty()) return false;

  if (free_slots_.empty()) {
    free_slots_.push_back(static_cast<uint32_t>(slots_.size()));
    slots_.emplace_back();
  }
  call.slot = free_slots_.back();
  free_slots_.pop_back();
  slots_[call.slot].call = &call;

  CallHeader header;
  header.cookie = (uint64_t{slots_[call.slot].generation} << 32) | call.slot;
  header.first_sequence = call.first_sequence;
  header.instance = call.instance;
  header.template_id = call.template_id;
  header.argument_count = static_cast<uint32_t>(call.arguments.size());
  header.returns = call.returns;
  header.attempt = call.attempt;
  header.arguments_stored = call.stored_arguments ? 1 : 0;
  if (call.stream) {
    header.stream_slot = static_cast<uint32_t>(call.stream->slot);
    header.stream_buffer = static_cast<uint32_t>(call.policy->stream_buffer);
  }
  Pen pen(room.first(size));
  pen.write(header);
  if (call.stored_arguments) {
    pen.write(pack(call.stored_arguments.get()->location));
  } else {
    write_arguments(call, pen);
    for (detail::Argument& argument : call.arguments) {
      if (const Encoder* const value = std::exchange(argument.unwritten, nullptr)) argument.ring_bytes = value->blob_size();
    }
  }
  call.position = channel_->requests.publish(static_cast<uint16_t>(RequestKind::kCall), size);
  call.in_ring = room.first(size);
  call.peer = this;
  call.state = CallState::kSent;
  ++in_flight_;
  bell_.ring(wire::Bell::Line::kRequests);
  return true;
}

bool Peer::take_back(Call& call) {
  if (!channel_->requests.take_back(call.position)) return false;
  copy_back(call);
  forget(call);
  return true;
}

// From the call's place in the ring, which was queued until now: nothing has been written over it.
void Peer::copy_back(Call& call) {
  if (std::ranges::all_of(call.arguments, [](const detail::Argument& each) { return each.ring_bytes == 0; })) return;
  Cursor cursor(call.in_ring);
  cursor.take(sizeof(CallHeader));
  for (detail::Argument& argument : call.arguments) {
    cursor.take(sizeof(PartHeader));
    const std::span<const std::byte> bytes = cursor.take_padded(part_of(argument).size_bytes);
    if (std::exchange(argument.ring_bytes, 0) > 0)
      argument.blob.assign(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }
}

void Peer::forget(Call& call) {
  MANTA_CHECK(call.peer == this && slots_[call.slot].call == &call, call.slot);
  slots_[call.slot].call = nullptr;
  ++slots_[call.slot].generation;
  free_slots_.push_back(call.slot);
  --in_flight_;
  if (call.stream && call.stream->slot >= 0) {
    return_stream_slot(call.stream->slot);
    call.stream->slot = -1;
  }
  call.peer = nullptr;
}

Call* Peer::find(uint64_t cookie) const {
  const uint32_t slot = static_cast<uint32_t>(cookie);
  if (slot >= slots_.size() || slots_[slot].generation != static_cast<uint32_t>(cookie >> 32)) return nullptr;
  return slots_[slot].call;
}

Status Peer::poll(const std::function<void(Call&, const Reply&)>& handle) {
  while (true) {
    Result<std::optional<wire::RingMessage>> claimed = channel_->replies.claim();
    if (!claimed.ok()) return claimed.status();
    if (!claimed->has_value()) return {};
    const wire::RingMessage message = **claimed;
    Cursor cursor(message.body);
    Reply reply;
    reply.kind = static_cast<ReplyKind>(message.kind);
    reply.header = cursor.read<ReplyHeader>();
    if (reply.kind == ReplyKind::kFailed) {
      const auto code = cursor.read<uint32_t>();
      const auto text_bytes = cursor.read<uint32_t>();
      const auto type_bytes = cursor.read<uint32_t>();
      cursor.read<uint32_t>();
      std::string text(cursor.text(text_bytes));
      std::string type(cursor.text(type_bytes));
      cursor.take((8 - (text_bytes + type_bytes) % 8) % 8);
      reply.error =
          Status(code == 0 ? Code::kInternal : static_cast<Code>(code), std::move(text)).with_origin_type(std::move(type));
    } else if (reply.kind == ReplyKind::kInside) {
      reply.value = cursor.take(cursor.rest().size() / 16 * 16);
    } else if (reply.kind != ReplyKind::kDone) {
      reply.value = cursor.take_padded(reply.header.value_bytes);
      if (reply.header.value_kind == static_cast<uint32_t>(PartKind::kStored) &&
          reply.value.size() != sizeof(PackedLocation))
        cursor.take(SIZE_MAX);
    }
    reply.kept = cursor.take(size_t{reply.header.kept} * 16);
    Call* const call = find(reply.header.cookie);
    // A reply to a call that is over (cancelled, given up) is stale, not wrong.
    if (call != nullptr && cursor.ok()) handle(*call, reply);
    channel_->replies.release(message);
    if (!cursor.ok()) return Status(Code::kInvalid, "process " + std::to_string(pid_) + " wrote a malformed reply");
  }
}

void Peer::advance_stream(const Call& call, uint64_t consumed) {
  if (call.stream->slot < 0) return;
  channel_->stream_consumed(call.stream->slot).store(consumed, std::memory_order_release);
  bell_.ring(wire::Bell::Line::kReplies);
}

int Peer::take_stream_slot() {
  const int slot = std::countr_one(stream_slots_);
  if (slot >= wire::Channel::kStreamSlots) return -1;
  stream_slots_ |= uint64_t{1} << slot;
  channel_->stream_consumed(slot).store(0, std::memory_order_release);
  return slot;
}

}  // namespace manta

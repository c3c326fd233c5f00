#include "wire/channel.h"

#include "common/check.h"
#include "common/shared_memory.h"

#include <sys/mman.h>

#include <new>
#include <utility>

namespace manta::wire {
namespace {

/// The first pages of a channel's file; the two rings' bytes follow.
struct ChannelHeader {
  RingHeader requests;
  RingHeader replies;
  alignas(64) std::atomic<int> stream_slots_used;
  struct alignas(64) Counter {
    std::atomic<uint64_t> value;
  };
  alignas(4096) Counter streams[Channel::kStreamSlots];
};
static_assert(sizeof(ChannelHeader) % 4096 == 0);

constexpr size_t kFileBytes = sizeof(ChannelHeader) + 2 * kRingBytes;

}  // namespace

Ring::Ring(RingHeader* header, std::byte* data, size_t capacity_bytes, End end)
    : header_(header), data_(data), capacity_bytes_(capacity_bytes), end_(end) {
  MANTA_CHECK((capacity_bytes & (capacity_bytes - 1)) == 0 && capacity_bytes >= 4 * kHeaderBytes, capacity_bytes);
}

Ring::Seen Ring::look_at(uint64_t position) const {
  SlotHeader* header = slot(position);
  Seen seen{.header = header, .state = static_cast<SlotState>(header->state.load(std::memory_order_acquire))};
  if (seen.state == SlotState::kEmpty) return seen;
  seen.size_bytes = std::atomic_ref(header->size_bytes).load(std::memory_order_relaxed);
  seen.kind = std::atomic_ref(header->kind).load(std::memory_order_relaxed);
  // A filler of header size only stands where 16 bytes are left at the ring's end.
  const uint64_t bytes = seen.kind == kFiller ? kHeaderBytes + uint64_t{seen.size_bytes} : slot_bytes(seen.size_bytes);
  const uint64_t to_end = capacity_bytes_ - (position & (capacity_bytes_ - 1));
  // The last condition also ends a walk through a ring that a hostile producer closed to a circle.
  const bool fits = bytes <= to_end && (bytes & 15) == 0 && position + bytes - tail_ <= capacity_bytes_;
  if (fits && (seen.kind == kFiller || seen.size_bytes <= kMaxRingMessageBytes)) seen.end = position + bytes;
  return seen;
}

bool Ring::next(RingMessage& message) {
  if (broken_) return false;
  bool skipped = false;
  while (true) {
    const Seen seen = look_at(position_);
    if (seen.state == SlotState::kEmpty) break;
    if (seen.end == 0) return broken_ = true, false;
    const uint64_t position = std::exchange(position_, seen.end);
    auto state = static_cast<uint32_t>(seen.state);
    if (seen.kind != kFiller && seen.state == SlotState::kQueued &&
        seen.header->state.compare_exchange_strong(state, static_cast<uint32_t>(SlotState::kClaimed),
                                                   std::memory_order_acq_rel)) {
      ++claimed_;
      message = {seen.kind, {reinterpret_cast<const std::byte*>(seen.header + 1), seen.size_bytes}, position};
      return true;
    }
    if (state != static_cast<uint32_t>(SlotState::kTakenBack)) return broken_ = true, false;
    skipped = true;
  }
  if (skipped && claimed_ == 0) {
    tail_ = position_;
    header_->tail.store(tail_, std::memory_order_release);
  }
  return false;
}

std::optional<RingMessage> Ring::peek(uint64_t& position) const {
  position = std::max(position, position_);
  while (!broken_) {
    const Seen seen = look_at(position);
    if (seen.state == SlotState::kEmpty || seen.end == 0) return std::nullopt;
    const uint64_t at = std::exchange(position, seen.end);
    if (seen.kind == kFiller || seen.state != SlotState::kQueued) continue;
    return RingMessage{seen.kind, {reinterpret_cast<const std::byte*>(seen.header + 1), seen.size_bytes}, at};
  }
  return std::nullopt;
}

Status Ring::broken() {
  return Status(Code::kInvalid,
                "the shared ring holds nonsense at position " + std::to_string(position_) + ": its other side broke it");
}

bool Ring::take_back(uint64_t position) {
  if (position < tail_) return false;  // released, and its bytes may be another message's by now
  auto state = static_cast<uint32_t>(SlotState::kQueued);
  return slot(position)->state.compare_exchange_strong(state, static_cast<uint32_t>(SlotState::kTakenBack),
                                                       std::memory_order_acq_rel);
}

bool Ring::is_claimed(uint64_t position) const {
  if (position < tail_) return true;
  return slot(position)->state.load(std::memory_order_acquire) == static_cast<uint32_t>(SlotState::kClaimed);
}

Result<Fd> Channel::create_file() { return create_shared_memory("manta-channel", kFileBytes); }

Result<std::unique_ptr<Channel>> Channel::open(const Fd& fd, Side side) {
  MANTA_RETURN_IF_ERROR(check_sealed(fd, kFileBytes).with_context("opening a channel"));
  MANTA_ASSIGN_OR_RETURN(Mapping mapping, Mapping::map(fd, kFileBytes, Mapping::Access::kReadWrite));
  std::unique_ptr<Channel> channel(new Channel());
  channel->mapping_ = std::move(mapping);
  std::byte* base = channel->mapping_.data();
  auto* header = reinterpret_cast<ChannelHeader*>(base);  // zeros are its empty state
  std::byte* data = base + sizeof(ChannelHeader);
  bool is_caller = side == Side::kCaller;
  channel->requests = Ring(&header->requests, data, kRingBytes, is_caller ? Ring::End::kProducer : Ring::End::kConsumer);
  channel->replies =
      Ring(&header->replies, data + kRingBytes, kRingBytes, is_caller ? Ring::End::kConsumer : Ring::End::kProducer);
  return channel;
}

Channel::~Channel() = default;

std::atomic<uint64_t>& Channel::stream_consumed(int slot) {
  MANTA_CHECK(slot >= 0 && slot < kStreamSlots, slot);
  auto* header = reinterpret_cast<ChannelHeader*>(mapping_.data());
  int used = header->stream_slots_used.load(std::memory_order_relaxed);
  while (slot >= used && !header->stream_slots_used.compare_exchange_weak(used, slot + 1)) {
  }
  return header->streams[slot].value;
}

int Channel::stream_slots_used() const {
  const auto* header = reinterpret_cast<const ChannelHeader*>(mapping_.data());
  return std::clamp(header->stream_slots_used.load(std::memory_order_acquire), 0, kStreamSlots);
}

}  // namespace manta::wire

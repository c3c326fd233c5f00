#include "wire/channel.h"

#include "common/check.h"
#include "common/shared_memory.h"

#include <sys/mman.h>

#include <new>

namespace manta::wire {
namespace {

/// The first pages of a channel's file; the two rings' bytes follow.
struct ChannelHeader {
  RingHeader requests;
  RingHeader replies;
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

bool Ring::refresh_head() {
  uint64_t head = header_->head.load(std::memory_order_acquire);
  // `position_` is at most a ring ahead of the released tail, so a head within a ring of it can still be a lie; each message's
  // own check below keeps every access inside the ring.
  if (head < other_position_ || head < position_ || head - position_ > capacity_bytes_ || (head & 15) != 0) {
    return broken_ = true, false;
  }
  other_position_ = head;
  return true;
}

void Ring::put_filler(uint64_t size_bytes) {
  SlotHeader* header = slot(position_);
  header->size_bytes = static_cast<uint32_t>(size_bytes - kHeaderBytes);
  header->kind = kFiller;
  header->state.store(static_cast<uint32_t>(SlotState::kTakenBack), std::memory_order_relaxed);
  position_ += size_bytes;
  header_->head.store(position_, std::memory_order_release);
}

bool Ring::next(RingMessage& message) {
  if (broken_) return false;
  bool skipped = false;
  while (true) {
    if (position_ == other_position_ && (!refresh_head() || position_ == other_position_)) break;
    SlotHeader* header = slot(position_);
    // Read once: the producer may change it any time.
    uint32_t size_bytes = std::atomic_ref(header->size_bytes).load(std::memory_order_relaxed);
    uint16_t kind = std::atomic_ref(header->kind).load(std::memory_order_relaxed);
    uint64_t to_end = capacity_bytes_ - (position_ & (capacity_bytes_ - 1));
    // A filler of header size only stands where 16 bytes are left at the ring's end.
    uint64_t bytes = kind == kFiller ? kHeaderBytes + uint64_t{size_bytes} : slot_bytes(size_bytes);
    bool fits = bytes <= to_end && bytes <= other_position_ - position_ && (bytes & 15) == 0;
    if (!fits || (kind != kFiller && size_bytes > kMaxRingMessageBytes)) {
      broken_ = true;
      break;
    }
    uint64_t position = position_;
    position_ += bytes;
    auto state = static_cast<uint32_t>(SlotState::kQueued);
    if (kind != kFiller &&
        header->state.compare_exchange_strong(state, static_cast<uint32_t>(SlotState::kClaimed), std::memory_order_acq_rel)) {
      ++claimed_;
      message = {kind, {reinterpret_cast<const std::byte*>(header + 1), size_bytes}, position};
      return true;
    }
    if (kind != kFiller && state != static_cast<uint32_t>(SlotState::kTakenBack)) {
      broken_ = true;
      break;
    }
    skipped = true;
  }
  if (skipped && claimed_ == 0) header_->tail.store(position_, std::memory_order_release);
  return false;
}

Status Ring::broken() {
  return Status(Code::kInvalid, "the shared ring holds nonsense at position " + std::to_string(position_) + ": its other side broke it");
}

bool Ring::take_back(uint64_t position) {
  if (position < other_position_) return false;  // released, and its bytes may be another message's by now
  auto state = static_cast<uint32_t>(SlotState::kQueued);
  return slot(position)->state.compare_exchange_strong(state, static_cast<uint32_t>(SlotState::kTakenBack),
                                                       std::memory_order_acq_rel);
}

bool Ring::is_claimed(uint64_t position) const {
  if (position < other_position_) return true;
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
  channel->replies = Ring(&header->replies, data + kRingBytes, kRingBytes, is_caller ? Ring::End::kConsumer : Ring::End::kProducer);
  return channel;
}

Channel::~Channel() = default;

std::atomic<uint64_t>& Channel::stream_consumed(int slot) {
  MANTA_CHECK(slot >= 0 && slot < kStreamSlots, slot);
  return reinterpret_cast<ChannelHeader*>(mapping_.data())->streams[slot].value;
}

}  // namespace manta::wire

#include "wire/net/batch.h"

#include "common/check.h"

#include <bit>
#include <string>

namespace manta::wire {
namespace {

static_assert(std::endian::native == std::endian::little, "the format is copied as it stands in memory");

template <typename T>
T read(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}
template <typename T>
void write(std::byte* to, T value) {
  std::memcpy(to, &value, sizeof value);
}

Status malformed(const std::string& what) { return Status(Code::kInvalid, "a malformed batch: " + what); }

Entry entry_at(std::span<const std::byte> bytes) {
  return {static_cast<EntryWhat>(read<uint16_t>(bytes.data() + 6)), read<uint16_t>(bytes.data() + 4),
          ChannelId{read<uint64_t>(bytes.data() + 8)}, bytes.subspan(kEntryHeaderBytes, read<uint32_t>(bytes.data()))};
}

bool is_within_caps(const Entry& entry) {
  const size_t size = entry.body.size();
  const bool has_channel = entry.channel.value != 0;
  switch (entry.what) {
    case EntryWhat::kFrame: return !has_channel && entry.kind != 0 && size <= kMaxFrameBytes;
    case EntryWhat::kMessage: return has_channel && entry.kind != 0xFFFF && size <= kMaxRingMessageBytes;
    case EntryWhat::kOpen:
    case EntryWhat::kClose: return has_channel && size == 0;
    case EntryWhat::kCredit: return has_channel && size == 8;
    case EntryWhat::kStream: return has_channel && size == 8 && entry.kind < Channel::kStreamSlots;
  }
  return false;
}

Status check_entries(std::span<const std::byte> left) {
  while (!left.empty()) {
    if (left.size() < kEntryHeaderBytes) return malformed(std::to_string(left.size()) + " bytes are no entry");
    const auto size = read<uint32_t>(left.data());
    if (size > left.size() - kEntryHeaderBytes) {
      return malformed("an entry of " + std::to_string(size) + " bytes where " +
                       std::to_string(left.size() - kEntryHeaderBytes) + " are left");
    }
    const Entry entry = entry_at(left);
    if (!is_within_caps(entry)) {
      return malformed("an entry of sort " + std::to_string(static_cast<int>(entry.what)) + ", kind " +
                       std::to_string(entry.kind) + ", " + std::to_string(size) + " bytes");
    }
    left = left.subspan(kEntryHeaderBytes + size);
  }
  return {};
}

}  // namespace

void BatchWriter::finish(const BatchHeader& header) {
  std::byte* out = room_.data();
  write(out, kBatchMagic);
  write(out + 4, kBatchVersion);
  write(out + 6, header.flags);
  write(out + 8, header.from);
  write(out + 12, uint32_t{0});
  write(out + 16, header.stream);
  write(out + 24, header.sequence);
  write(out + 32, header.ack_stream);
  write(out + 40, header.ack);
}

Result<BatchReader> BatchReader::open(std::span<const std::byte> bytes) {
  if (bytes.size() < kBatchHeaderBytes || bytes.size() > kMaxBatchBytes)
    return malformed("it has " + std::to_string(bytes.size()) + " bytes");
  const std::byte* in = bytes.data();
  if (read<uint32_t>(in) != kBatchMagic) return malformed("it does not begin like one");
  if (read<uint16_t>(in + 4) != kBatchVersion)
    return malformed("it is of version " + std::to_string(read<uint16_t>(in + 4)));
  const BatchHeader header{.flags = read<uint16_t>(in + 6),
                           .from = read<uint32_t>(in + 8),
                           .stream = read<uint64_t>(in + 16),
                           .sequence = read<uint64_t>(in + 24),
                           .ack_stream = read<uint64_t>(in + 32),
                           .ack = read<uint64_t>(in + 40)};
  const std::span<const std::byte> entries = bytes.subspan(kBatchHeaderBytes);
  constexpr uint16_t kFlags = BatchHeader::kBare | BatchHeader::kAckNow | BatchHeader::kResend;
  const bool is_bare = (header.flags & BatchHeader::kBare) != 0;
  const bool flags_fit =
      is_bare ? (header.flags & ~kFlags) == 0 && entries.empty() : header.flags == 0 && header.sequence != 0;
  if (!flags_fit || header.from > kMaxNodeNumber || header.stream == 0) {
    return malformed("flags " + std::to_string(header.flags) + ", from " + std::to_string(header.from) + ", sequence " +
                     std::to_string(header.sequence));
  }
  MANTA_RETURN_IF_ERROR(check_entries(entries));
  return BatchReader(header, entries);
}

bool BatchReader::next(Entry& entry) {
  if (left_.empty()) return false;
  entry = entry_at(left_);
  left_ = left_.subspan(kEntryHeaderBytes + entry.body.size());
  return true;
}

}  // namespace manta::wire

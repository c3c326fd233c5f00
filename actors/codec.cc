#include "common/copy.h"

#include <manta/codec.h>
#include <manta/error.h>

#include <algorithm>
#include <limits>

namespace manta {
namespace {

constexpr int kMaxDepth = 64;
constexpr size_t kPrefixBytes = 8;
constexpr size_t kRefBytes = 16;
constexpr size_t kBufferEntryBytes = 16;
constexpr uint16_t kLongCounts = 0xffff;

size_t align(size_t value) { return (value + kBufferAlignment - 1) / kBufferAlignment * kBufferAlignment; }

template <typename T>
void store(std::byte*& out, T value) {
  std::memcpy(out, &value, sizeof value);
  out += sizeof value;
}
template <typename T>
T load(const std::byte* in) {
  T value;
  std::memcpy(&value, in, sizeof value);
  return value;
}

}  // namespace

// ---------------------------------------------------------------------------------------------------- Encoder

void Encoder::unsigned_integer(uint64_t value) {
  if (value < 0x80) return byte(static_cast<uint8_t>(value));
  if (value <= 0xff) return byte(0xcc), byte(static_cast<uint8_t>(value));
  if (value <= 0xffff) return byte(0xcd), big_endian(static_cast<uint16_t>(value));
  if (value <= 0xffffffff) return byte(0xce), big_endian(static_cast<uint32_t>(value));
  byte(0xcf);
  big_endian(value);
}

void Encoder::integer(int64_t value) {
  if (value >= 0) return unsigned_integer(static_cast<uint64_t>(value));
  if (value >= -32) return byte(static_cast<uint8_t>(value));
  if (value >= INT8_MIN) return byte(0xd0), byte(static_cast<uint8_t>(value));
  if (value >= INT16_MIN) return byte(0xd1), big_endian(static_cast<uint16_t>(value));
  if (value >= INT32_MIN) return byte(0xd2), big_endian(static_cast<uint32_t>(value));
  byte(0xd3);
  big_endian(static_cast<uint64_t>(value));
}

void Encoder::real(double value) {
  byte(0xcb);
  big_endian(std::bit_cast<uint64_t>(value));
}
void Encoder::real(float value) {
  byte(0xca);
  big_endian(std::bit_cast<uint32_t>(value));
}

void Encoder::text(std::string_view value) {
  const size_t size = value.size();
  if (size < 32) {
    byte(static_cast<uint8_t>(0xa0 | size));
  } else if (size <= 0xff) {
    byte(0xd9), byte(static_cast<uint8_t>(size));
  } else if (size <= 0xffff) {
    byte(0xda), big_endian(static_cast<uint16_t>(size));
  } else {
    byte(0xdb), big_endian(static_cast<uint32_t>(size));
  }
  raw(value.data(), size);
}

void Encoder::binary(const void* bytes, size_t size) {
  if (size <= 0xff) {
    byte(0xc4), byte(static_cast<uint8_t>(size));
  } else if (size <= 0xffff) {
    byte(0xc5), big_endian(static_cast<uint16_t>(size));
  } else {
    byte(0xc6), big_endian(static_cast<uint32_t>(size));
  }
  raw(bytes, size);
}

void Encoder::array_header(size_t count) {
  if (count < 16) return byte(static_cast<uint8_t>(0x90 | count));
  if (count <= 0xffff) return byte(0xdc), big_endian(static_cast<uint16_t>(count));
  byte(0xdd), big_endian(static_cast<uint32_t>(count));
}

void Encoder::map_header(size_t count) {
  if (count < 16) return byte(static_cast<uint8_t>(0x80 | count));
  if (count <= 0xffff) return byte(0xde), big_endian(static_cast<uint16_t>(count));
  byte(0xdf), big_endian(static_cast<uint32_t>(count));
}

void Encoder::buffer(std::span<const std::byte> bytes, std::shared_ptr<const void> owner) {
  byte(0xd7), byte(1);  // fixext 8: u32 index of the buffer, u32 zero
  big_endian(static_cast<uint32_t>(buffers_.size()));
  big_endian(uint32_t{0});
  buffers_.push_back({bytes, std::move(owner)});
}

void Encoder::buffer(const Buffer& bytes) {
  buffer(bytes.bytes(), bytes.owner());
  buffers_.back().own = bytes.own_memory();
  if (bytes.own_memory() != nullptr) bytes.own_memory()->freeze();
}

void Encoder::ref(const ObjectId& id) {
  byte(0xd7), byte(2);
  big_endian(static_cast<uint32_t>(refs_.size()));
  big_endian(uint32_t{0});
  refs_.push_back(id);
}

bool Encoder::has_long_counts() const { return refs_.size() >= kLongCounts || buffers_.size() >= kLongCounts; }

size_t Encoder::head_size() const {
  if (in_band_.size() > std::numeric_limits<uint32_t>::max()) {
    throw Error(Status(Code::kInvalid, "a value has " + std::to_string(in_band_.size()) +
                                           " bytes beside its arrays and long texts; 4 GiB is the most: use vectors of "
                                           "numbers or Buffers, or cut it into several objects"));
  }
  return kPrefixBytes + (has_long_counts() ? kPrefixBytes : 0) + in_band_.size() + refs_.size() * kRefBytes +
         buffers_.size() * kBufferEntryBytes;
}

size_t Encoder::blob_size() const {
  size_t size = head_size();
  for (const OutOfBand& buffer : buffers_) size = align(size) + buffer.bytes.size();
  return size;
}

template <typename Write>
void Encoder::each_head_piece(size_t buffers_at, Write&& write) const {
  const bool is_long = has_long_counts();
  std::array<std::byte, 2 * kPrefixBytes> prefix;
  std::byte* at = prefix.data();
  store(at, static_cast<uint32_t>(in_band_.size()));
  store(at, is_long ? kLongCounts : static_cast<uint16_t>(refs_.size()));
  store(at, is_long ? kLongCounts : static_cast<uint16_t>(buffers_.size()));
  if (is_long) store(at, static_cast<uint32_t>(refs_.size())), store(at, static_cast<uint32_t>(buffers_.size()));
  write(prefix.data(), static_cast<size_t>(at - prefix.data()));
  write(in_band_.data(), in_band_.size());
  for (const ObjectId& id : refs_) {
    const std::array<uint64_t, 2> words = {id.owner, id.sequence};
    write(words.data(), sizeof words);
  }
  size_t offset = buffers_at;
  for (const OutOfBand& buffer : buffers_) {
    offset = align(offset);
    const std::array<uint64_t, 2> words = {offset, buffer.bytes.size()};
    write(words.data(), sizeof words);
    offset += buffer.bytes.size();
  }
}

template <typename Write>
void Encoder::each_piece(Write&& write) const {
  size_t size = head_size();
  each_head_piece(size, write);
  for (const OutOfBand& buffer : buffers_) {
    write(nullptr, align(size) - size);
    write(buffer.bytes.data(), buffer.bytes.size());
    size = align(size) + buffer.bytes.size();
  }
}

detail::OwnMemory* Encoder::only_own_memory() const { return buffers_.size() == 1 ? buffers_.front().own : nullptr; }

bool Encoder::write_head(std::span<std::byte> head) const {
  if (head_size() > head.size() || head.size() % kBufferAlignment != 0) return false;
  std::byte* at = head.data();
  each_head_piece(head.size(), [&](const void* bytes, size_t size_bytes) {
    if (size_bytes > 0) std::memcpy(at, bytes, size_bytes);
    at += size_bytes;
  });
  std::fill(at, head.data() + head.size(), std::byte{0});
  return true;
}

void Encoder::write_blob(std::span<std::byte> out) const {
  std::byte* at = out.data();
  each_piece([&](const void* bytes, size_t size_bytes) {
    if (size_bytes == 0) return;
    if (bytes != nullptr) {
      copy_bytes(at, bytes, size_bytes);
    } else {
      std::memset(at, 0, size_bytes);
    }
    at += size_bytes;
  });
}

std::string Encoder::to_blob() const {
  std::string out;
  out.reserve(blob_size());  // and appended to: what will be written is not zeroed first
  each_piece([&](const void* bytes, size_t size_bytes) {
    bytes != nullptr ? out.append(static_cast<const char*>(bytes), size_bytes) : out.append(size_bytes, '\0');
  });
  return out;
}

void Encoder::clear() {
  in_band_.clear();
  refs_.clear();
  buffers_.clear();
}

// ---------------------------------------------------------------------------------------------------- Decoder

Decoder::Decoder(std::span<const std::byte> blob, std::shared_ptr<const void> owner)
    : blob_(blob), owner_(std::move(owner)) {
  if (blob.size() < kPrefixBytes) {
    fail("a value is shorter than its header");
    return;
  }
  const size_t in_band = load<uint32_t>(blob.data());
  ref_count_ = load<uint16_t>(blob.data() + 4);
  buffer_count_ = load<uint16_t>(blob.data() + 6);
  size_t prefix = kPrefixBytes;
  if (ref_count_ == kLongCounts && buffer_count_ == kLongCounts && blob.size() >= 2 * kPrefixBytes) {
    ref_count_ = load<uint32_t>(blob.data() + kPrefixBytes);
    buffer_count_ = load<uint32_t>(blob.data() + kPrefixBytes + 4);
    prefix = 2 * kPrefixBytes;
  }
  const size_t tables = ref_count_ * kRefBytes + buffer_count_ * kBufferEntryBytes;
  if (in_band > blob.size() - prefix || tables > blob.size() - prefix - in_band) {
    ref_count_ = buffer_count_ = 0;
    fail("a value's header points past its end");
    return;
  }
  at_ = blob.data() + prefix;
  end_ = at_ + in_band;
  refs_ = end_;
  buffers_ = refs_ + ref_count_ * kRefBytes;
}

void Decoder::fail(std::string_view what) {
  if (status_.ok()) status_ = Status(Code::kInvalid, "cannot decode a value: " + std::string(what));
  at_ = end_;
}

uint8_t Decoder::take() {
  if (at_ == end_) return fail("it ends too early"), 0xc0;
  return static_cast<uint8_t>(*at_++);
}

const std::byte* Decoder::take(size_t size_bytes) {
  if (bytes_left() < size_bytes) return fail("it ends too early"), nullptr;
  const std::byte* start = at_;
  at_ += size_bytes;
  return start;
}

template <typename T>
T Decoder::big_endian() {
  const std::byte* bytes = take(sizeof(T));
  if (bytes == nullptr) return 0;
  T value = 0;
  for (size_t i = 0; i < sizeof(T); ++i)
    value = static_cast<T>((static_cast<uint64_t>(value) << 8) | static_cast<uint8_t>(bytes[i]));
  return value;
}

bool Decoder::next_is_nil() {
  if (at_ == end_ || static_cast<uint8_t>(*at_) != 0xc0) return false;
  ++at_;
  return true;
}

bool Decoder::boolean() {
  const uint8_t tag = take();
  if (tag != 0xc2 && tag != 0xc3) fail("true or false was expected");
  return tag == 0xc3;
}

uint64_t Decoder::unsigned_integer() {
  const uint8_t tag = take();
  if (tag < 0x80) return tag;
  switch (tag) {
    case 0xcc: return take();
    case 0xcd: return big_endian<uint16_t>();
    case 0xce: return big_endian<uint32_t>();
    case 0xcf: return big_endian<uint64_t>();
    default: break;
  }
  fail(tag >= 0xd0 ? "a negative number stands where none may be" : "a number was expected");
  return 0;
}

int64_t Decoder::integer() {
  if (at_ == end_) return fail("it ends too early"), 0;
  const uint8_t tag = static_cast<uint8_t>(*at_);
  if (tag >= 0xe0) return ++at_, static_cast<int8_t>(tag);
  switch (tag) {
    case 0xd0: return ++at_, static_cast<int8_t>(take());
    case 0xd1: return ++at_, static_cast<int16_t>(big_endian<uint16_t>());
    case 0xd2: return ++at_, static_cast<int32_t>(big_endian<uint32_t>());
    case 0xd3: return ++at_, static_cast<int64_t>(big_endian<uint64_t>());
    default: break;
  }
  const uint64_t value = unsigned_integer();
  if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) return fail("a number is out of range"), 0;
  return static_cast<int64_t>(value);
}

double Decoder::real() {
  if (at_ == end_) return fail("it ends too early"), 0;
  const uint8_t tag = static_cast<uint8_t>(*at_);
  if (tag == 0xca) return ++at_, std::bit_cast<float>(big_endian<uint32_t>());
  if (tag == 0xcb) return ++at_, std::bit_cast<double>(big_endian<uint64_t>());
  return static_cast<double>(integer());
}

std::string_view Decoder::text() {
  const uint8_t tag = take();
  size_t size = 0;
  if (tag >= 0xa0 && tag < 0xc0) {
    size = tag & 0x1f;
  } else if (tag == 0xd9) {
    size = take();
  } else if (tag == 0xda) {
    size = big_endian<uint16_t>();
  } else if (tag == 0xdb) {
    size = big_endian<uint32_t>();
  } else {
    return fail("text was expected"), std::string_view{};
  }
  const std::byte* bytes = take(size);
  return bytes == nullptr ? std::string_view{} : std::string_view(reinterpret_cast<const char*>(bytes), size);
}

std::span<const std::byte> Decoder::binary() {
  const uint8_t tag = take();
  size_t size = 0;
  if (tag == 0xc4) {
    size = take();
  } else if (tag == 0xc5) {
    size = big_endian<uint16_t>();
  } else if (tag == 0xc6) {
    size = big_endian<uint32_t>();
  } else {
    return fail("bytes were expected"), std::span<const std::byte>{};
  }
  const std::byte* bytes = take(size);
  return bytes == nullptr ? std::span<const std::byte>{} : std::span(bytes, size);
}

// Each element takes at least one byte, so a count beyond the bytes left is a lie, found before anything is reserved.
size_t Decoder::array_header() {
  const uint8_t tag = take();
  size_t count = 0;
  if ((tag & 0xf0) == 0x90) {
    count = tag & 0x0f;
  } else if (tag == 0xdc) {
    count = big_endian<uint16_t>();
  } else if (tag == 0xdd) {
    count = big_endian<uint32_t>();
  } else {
    return fail("an array was expected"), 0;
  }
  if (count > bytes_left()) return fail("an array's count is larger than what follows"), 0;
  return count;
}

size_t Decoder::map_header() {
  const uint8_t tag = take();
  size_t count = 0;
  if ((tag & 0xf0) == 0x80) {
    count = tag & 0x0f;
  } else if (tag == 0xde) {
    count = big_endian<uint16_t>();
  } else if (tag == 0xdf) {
    count = big_endian<uint32_t>();
  } else {
    return fail("a map was expected"), 0;
  }
  if (count > bytes_left() / 2) return fail("a map's count is larger than what follows"), 0;
  return count;
}

bool Decoder::next_is_buffer() const {
  return bytes_left() > 1 && static_cast<uint8_t>(at_[0]) == 0xd7 && static_cast<uint8_t>(at_[1]) == 1;
}

std::span<const std::byte> Decoder::buffer_bytes() {
  const auto none = std::span<const std::byte>{};
  if (take() != 0xd7 || take() != 1) return fail("a buffer was expected"), none;
  const uint32_t index = big_endian<uint32_t>();
  big_endian<uint32_t>();
  if (!ok() || index >= buffer_count_) return fail("a buffer's index is out of range"), none;
  const uint64_t offset = load<uint64_t>(buffers_ + index * kBufferEntryBytes);
  const uint64_t size = load<uint64_t>(buffers_ + index * kBufferEntryBytes + 8);
  if (offset > blob_.size() || size > blob_.size() - offset) return fail("a buffer lies outside its value"), none;
  return blob_.subspan(offset, size);
}

Buffer Decoder::buffer() {
  const auto bytes = buffer_bytes();
  if (!ok()) return {};
  return owner_ ? Buffer(bytes, owner_) : Buffer::copy_of(bytes);
}

ObjectId Decoder::ref() {
  if (take() != 0xd7 || take() != 2) return fail("a reference was expected"), ObjectId{};
  const uint32_t index = big_endian<uint32_t>();
  big_endian<uint32_t>();
  if (!ok() || index >= ref_count_) return fail("a reference's index is out of range"), ObjectId{};
  return {load<uint64_t>(refs_ + index * kRefBytes), load<uint64_t>(refs_ + index * kRefBytes + 8)};
}

bool Decoder::enter() {
  if (!ok()) return false;
  if (++depth_ <= kMaxDepth) return true;
  --depth_;
  fail("it is nested too deeply");
  return false;
}

void Decoder::skip(int depth) {
  if (depth > kMaxDepth) return fail("it is nested too deeply");
  const uint8_t tag = take();
  if (!ok() || tag < 0x80 || tag >= 0xe0 || tag == 0xc0 || tag == 0xc2 || tag == 0xc3) return;
  --at_;
  if ((tag & 0xf0) == 0x90 || tag == 0xdc || tag == 0xdd) {
    for (size_t count = array_header(); count > 0 && ok(); --count) skip(depth + 1);
  } else if ((tag & 0xf0) == 0x80 || tag == 0xde || tag == 0xdf) {
    for (size_t count = map_header() * 2; count > 0 && ok(); --count) skip(depth + 1);
  } else if ((tag & 0xe0) == 0xa0 || (tag >= 0xd9 && tag <= 0xdb)) {
    text();
  } else if (tag >= 0xc4 && tag <= 0xc6) {
    binary();
  } else if (tag == 0xca || tag == 0xcb) {
    real();
  } else if (tag >= 0xcc && tag <= 0xd3) {
    ++at_;
    take(size_t{1} << ((tag - (tag >= 0xd0 ? 0xd0 : 0xcc))));
  } else if (tag >= 0xd4 && tag <= 0xd8) {
    ++at_;
    take(1 + (size_t{1} << (tag - 0xd4)));
  } else {
    fail("an unknown tag");
  }
}

std::span<const std::byte> Decoder::raw_value() {
  const std::byte* start = at_;
  skip(depth_);
  return ok() ? std::span(start, at_) : std::span<const std::byte>{};
}

Result<std::vector<ObjectId>> Decoder::refs_of(std::span<const std::byte> blob) {
  const Decoder decoder(blob);
  if (!decoder.ok()) return decoder.status();
  std::vector<ObjectId> out(decoder.ref_count_);
  for (size_t i = 0; i < out.size(); ++i) {
    out[i] = {load<uint64_t>(decoder.refs_ + i * kRefBytes), load<uint64_t>(decoder.refs_ + i * kRefBytes + 8)};
  }
  return out;
}

}  // namespace manta

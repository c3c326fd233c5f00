// Frames: how a message and its descriptors cross a Unix socket, and the caps that make a hostile peer harmless.
//
// A frame is {u32 magic, u16 type, u16 descriptors, u32 size, u32 reserved}, little endian, then `size` bytes of msgpack.
// Caps: 16 MiB a frame, depth 32, array, map and string counts checked against the bytes left, a million values, 8
// descriptors.
#pragma once

#include "wire/messages.h"

#include <string>
#include <string_view>

namespace manta::wire {

inline constexpr uint32_t kFrameMagic = 0x414E544D;  // "MTNA"
inline constexpr size_t kFrameHeaderBytes = 16;
inline constexpr size_t kMaxFrameBytes = size_t{16} << 20;
inline constexpr int kMaxDepth = 32;
inline constexpr size_t kMaxValues = size_t{1}
                                     << 20;  ///< Parsed, a one-byte value takes 24 bytes: a frame costs 24 MiB at most.
inline constexpr int kMaxDescriptors = 8;

struct FrameHeader {
  Type type{};
  uint16_t descriptors = 0;
  uint32_t size_bytes = 0;
};
void write_header(char* out, const FrameHeader& header);
/// Reads kFrameHeaderBytes at `bytes`. kInvalid when they are no header within the caps.
[[nodiscard]] Result<FrameHeader> read_header(const char* bytes);

/// The msgpack bytes of a message, without the frame header.
template <typename Message>
[[nodiscard]] std::string encode(const Message& message) {
  msgpack::sbuffer buffer;
  msgpack::pack(buffer, message);
  return std::string(buffer.data(), buffer.size());
}

namespace detail {
/// Parses within the caps. Strings in the object refer to `bytes`, which must outlive it.
[[nodiscard]] Result<msgpack::object_handle> parse(std::string_view bytes);
[[nodiscard]] Status malformed(std::string_view what);
}  // namespace detail

/// A message from bytes of any origin: kInvalid when they are not that message within the caps. Never throws.
template <typename Message>
[[nodiscard]] Result<Message> decode(std::string_view bytes) {
  Result<msgpack::object_handle> handle = detail::parse(bytes);
  if (!handle.ok()) return handle.status();
  try {
    return handle->get().as<Message>();
  } catch (const std::exception& error) {
    return detail::malformed(error.what());
  }
}

}  // namespace manta::wire

// UTF-8 in and out, for text nobody has checked.
//
// Bytes that are no UTF-8 decode to U+FFFD, one for each maximal part of a sequence that could still have become one: the
// rule of the Unicode standard (3.9, table 3-8), which Python's `bytes.decode("utf-8", "replace")` follows too.
//
// Pure functions; nothing here allocates but `append_utf8`, into the string it is given.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace manta::models {

inline constexpr char32_t kReplacement = 0xFFFD;

struct Decoded {
  char32_t value;
  uint32_t size_bytes;  ///< At least 1.
};

/// The code point at `at`, of which `left_bytes` may be read. Precondition: left_bytes > 0.
inline Decoded decode_utf8(const uint8_t* at, size_t left_bytes) {
  const uint8_t lead = at[0];
  if (lead < 0x80) return {lead, 1};
  if (lead < 0xC2 || lead > 0xF4) return {kReplacement, 1};
  const uint32_t size = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  // The second byte's range is narrower after some leads: overlong forms, surrogates, and what lies past U+10FFFF.
  const uint8_t low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  const uint8_t high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  char32_t value = lead & (size == 2 ? 0x1F : size == 3 ? 0x0F : 0x07);
  for (uint32_t i = 1; i < size; ++i) {
    if (i >= left_bytes) return {kReplacement, i};
    const uint8_t byte = at[i];
    if (byte < (i == 1 ? low : 0x80) || byte > (i == 1 ? high : 0xBF)) return {kReplacement, i};
    value = (value << 6) | (byte & 0x3F);
  }
  return {value, size};
}

/// Writes `value` (a scalar value) as UTF-8 to `out`, which has room for 4 bytes; returns how many were written.
inline size_t encode_utf8(char32_t value, char* out) {
  if (value < 0x80) return out[0] = static_cast<char>(value), 1;
  if (value < 0x800) {
    out[0] = static_cast<char>(0xC0 | (value >> 6));
    out[1] = static_cast<char>(0x80 | (value & 0x3F));
    return 2;
  }
  if (value < 0x10000) {
    out[0] = static_cast<char>(0xE0 | (value >> 12));
    out[1] = static_cast<char>(0x80 | ((value >> 6) & 0x3F));
    out[2] = static_cast<char>(0x80 | (value & 0x3F));
    return 3;
  }
  out[0] = static_cast<char>(0xF0 | (value >> 18));
  out[1] = static_cast<char>(0x80 | ((value >> 12) & 0x3F));
  out[2] = static_cast<char>(0x80 | ((value >> 6) & 0x3F));
  out[3] = static_cast<char>(0x80 | (value & 0x3F));
  return 4;
}

inline void append_utf8(char32_t value, std::string& out) {
  char bytes[4];
  out.append(bytes, encode_utf8(value, bytes));
}

}  // namespace manta::models

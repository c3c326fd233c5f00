#include "common/copy.h"

#include <cstdint>
#include <cstring>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

namespace manta {

#ifdef __SSE2__
namespace {

// Where a plain copy begins to fall behind, measured from 1 to 100 MB.
constexpr size_t kStreamFromBytes = size_t{4} << 20;
constexpr size_t kLineBytes = 64;

}  // namespace

void copy_bytes(void* to, const void* from, size_t size_bytes) {
  if (size_bytes < kStreamFromBytes) {
    if (size_bytes > 0) std::memcpy(to, from, size_bytes);
    return;
  }
  auto* out = static_cast<char*>(to);
  const auto* in = static_cast<const char*>(from);
  const size_t head = (kLineBytes - reinterpret_cast<uintptr_t>(out) % kLineBytes) % kLineBytes;
  std::memcpy(out, in, head);
  out += head, in += head, size_bytes -= head;
  for (; size_bytes >= kLineBytes; out += kLineBytes, in += kLineBytes, size_bytes -= kLineBytes) {
    const auto* const source = reinterpret_cast<const __m128i*>(in);
    auto* const target = reinterpret_cast<__m128i*>(out);
    const __m128i a = _mm_loadu_si128(source), b = _mm_loadu_si128(source + 1);
    const __m128i c = _mm_loadu_si128(source + 2), d = _mm_loadu_si128(source + 3);
    _mm_stream_si128(target, a), _mm_stream_si128(target + 1, b);
    _mm_stream_si128(target + 2, c), _mm_stream_si128(target + 3, d);
  }
  _mm_sfence();  // before anybody is told that it is there
  std::memcpy(out, in, size_bytes);
}
#else
void copy_bytes(void* to, const void* from, size_t size_bytes) {
  if (size_bytes > 0) std::memcpy(to, from, size_bytes);
}
#endif

}  // namespace manta

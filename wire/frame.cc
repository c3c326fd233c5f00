#include "wire/frame.h"

#include <cstring>

namespace manta::wire {
namespace {

/// Walks msgpack bytes before they are parsed, so that no count is believed and nothing is allocated for bytes that are not
/// there.
class Walker {
 public:
  explicit Walker(std::string_view bytes) : at_(bytes.data()), end_(bytes.data() + bytes.size()) {}

  /// Empty when the bytes are exactly one value within the caps, else what is wrong.
  std::string_view walk() {
    size_t open[kMaxDepth];  // values still to come at each depth
    int depth = 0;
    size_t values = 0;
    do {
      if (depth > 0) --open[depth - 1];
      if (++values > kMaxValues) return "too many values";
      size_t children = 0;
      if (std::string_view problem = value(children); !problem.empty()) return problem;
      // Each child takes a byte at least.
      if (children > left()) return "a count beyond its bytes";
      if (children > 0) {
        if (depth == kMaxDepth) return "too deep";
        open[depth++] = children;
      }
      while (depth > 0 && open[depth - 1] == 0) --depth;
    } while (depth > 0);
    return at_ == end_ ? std::string_view{} : "bytes after the value";
  }

 private:
  [[nodiscard]] size_t left() const { return static_cast<size_t>(end_ - at_); }

  bool number(int bytes, size_t& out) {
    if (left() < static_cast<size_t>(bytes)) return false;
    out = 0;
    for (int i = 0; i < bytes; ++i) out = out << 8 | static_cast<unsigned char>(*at_++);
    return true;
  }
  std::string_view skip(size_t bytes) {
    if (left() < bytes) return "a value beyond its bytes";
    at_ += bytes;
    return {};
  }
  std::string_view sized(int bytes_of_size) {
    size_t size = 0;
    return number(bytes_of_size, size) ? skip(size) : "a size beyond its bytes";
  }
  std::string_view counted(int bytes_of_count, size_t each, size_t& children) {
    size_t count = 0;
    if (!number(bytes_of_count, count)) return "a count beyond its bytes";
    children = count * each;
    return {};
  }

  std::string_view value(size_t& children) {
    if (at_ == end_) return "cut short";
    auto tag = static_cast<unsigned char>(*at_++);
    if (tag <= 0x7f || tag >= 0xe0) return {};                                 // fixint
    if (tag <= 0x8f) return children = (tag & 0x0fu) * 2, std::string_view{};  // fixmap
    if (tag <= 0x9f) return children = tag & 0x0fu, std::string_view{};        // fixarray
    if (tag <= 0xbf) return skip(tag & 0x1fu);                                 // fixstr
    switch (tag) {
      case 0xc0:
      case 0xc2:
      case 0xc3: return {};  // nil, false, true
      case 0xc4:
      case 0xd9: return sized(1);  // bin, str
      case 0xc5:
      case 0xda: return sized(2);
      case 0xc6:
      case 0xdb: return sized(4);
      case 0xcc:
      case 0xd0: return skip(1);  // integers, floats
      case 0xcd:
      case 0xd1: return skip(2);
      case 0xca:
      case 0xce:
      case 0xd2: return skip(4);
      case 0xcb:
      case 0xcf:
      case 0xd3: return skip(8);
      case 0xdc: return counted(2, 1, children);  // arrays, maps
      case 0xdd: return counted(4, 1, children);
      case 0xde: return counted(2, 2, children);
      case 0xdf: return counted(4, 2, children);
      default: return "a type that no message has";  // extensions, 0xc1
    }
  }

  const char* at_;
  const char* end_;
};

bool refer(msgpack::type::object_type, size_t, void*) { return true; }

}  // namespace

void write_header(char* out, const FrameHeader& header) {
  auto type = static_cast<uint16_t>(header.type);
  uint32_t reserved = 0;
  std::memcpy(out, &kFrameMagic, 4);
  std::memcpy(out + 4, &type, 2);
  std::memcpy(out + 6, &header.descriptors, 2);
  std::memcpy(out + 8, &header.size_bytes, 4);
  std::memcpy(out + 12, &reserved, 4);
}

Result<FrameHeader> read_header(const char* bytes) {
  FrameHeader header;
  uint32_t magic = 0;
  uint16_t type = 0;
  std::memcpy(&magic, bytes, 4);
  std::memcpy(&type, bytes + 4, 2);
  std::memcpy(&header.descriptors, bytes + 6, 2);
  std::memcpy(&header.size_bytes, bytes + 8, 4);
  header.type = static_cast<Type>(type);
  if (magic != kFrameMagic) return detail::malformed("it does not begin with the magic number");
  if (header.size_bytes > kMaxFrameBytes) return detail::malformed("it is larger than 16 MiB");
  if (header.descriptors > kMaxDescriptors) return detail::malformed("it declares more than 8 descriptors");
  return header;
}

namespace detail {

Status malformed(std::string_view what) { return Status(Code::kInvalid, "malformed frame: " + std::string(what)); }

Result<msgpack::object_handle> parse(std::string_view bytes) {
  if (bytes.size() > kMaxFrameBytes) return malformed("it is larger than 16 MiB");
  if (std::string_view problem = Walker(bytes).walk(); !problem.empty()) return malformed(problem);
  try {
    size_t offset = 0;
    msgpack::unpack_limit limit(kMaxValues, kMaxValues, kMaxFrameBytes, kMaxFrameBytes, 0, kMaxDepth + 1);
    return msgpack::unpack(bytes.data(), bytes.size(), offset, refer, nullptr, limit);
  } catch (const std::exception& error) {
    return malformed(error.what());
  }
}

}  // namespace detail
}  // namespace manta::wire

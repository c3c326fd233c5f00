#include "torch/safetensors.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>
#include <vector>

#include "common/check.h"
#include "torch/json_file.h"

namespace manta::models {
namespace {

using nlohmann::json;

std::optional<Dtype> dtype_of(std::string_view name) {
  constexpr std::pair<std::string_view, Dtype> kNames[] = {
      {"F32", Dtype::kFloat32}, {"F16", Dtype::kFloat16}, {"BF16", Dtype::kBFloat16}, {"F64", Dtype::kFloat64},
      {"I64", Dtype::kInt64},   {"I32", Dtype::kInt32},   {"I16", Dtype::kInt16},     {"I8", Dtype::kInt8},
      {"U8", Dtype::kUInt8},    {"BOOL", Dtype::kBool}};
  for (const auto& [known, dtype] : kNames)
    if (known == name) return dtype;
  return std::nullopt;
}

struct Entry {
  std::string name;
  TensorView view;
  uint64_t begin, end;
};

/// Checks one header entry by itself; `data_bytes` is what follows the header.
Result<Entry> read_entry(const std::string& name, const json& value, uint64_t data_bytes, const std::string& path) {
  MANTA_ASSIGN_OR_RETURN(const JsonObject about, JsonObject::make(value, path + ": tensor " + in_quotes(name)));
  MANTA_ASSIGN_OR_RETURN(const std::string dtype_text, about.string("dtype"));
  const std::optional<Dtype> dtype = dtype_of(dtype_text);
  if (!dtype) return about.error("the dtype " + in_quotes(dtype_text) + " is not supported");

  Entry entry{.name = name, .view = {.dtype = *dtype}, .begin = 0, .end = 0};
  const json shape = about.json().value("shape", json());
  if (!shape.is_array() || shape.size() > SafeTensors::kMaxRank) return about.error("'shape' is no list of up to 8 sizes");
  uint64_t wanted_bytes = size_bytes_of(*dtype);
  for (const json& size : shape) {
    if (!size.is_number_unsigned() || size.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX))
      return about.error("'shape' holds something that is no size");
    if (__builtin_mul_overflow(wanted_bytes, size.get<uint64_t>(), &wanted_bytes))
      return about.error("the shape is too large");
    entry.view.shape.push_back(size.get<int64_t>());
  }

  const json offsets = about.json().value("data_offsets", json());
  if (!offsets.is_array() || offsets.size() != 2 || !offsets[0].is_number_unsigned() || !offsets[1].is_number_unsigned())
    return about.error("'data_offsets' are not two offsets");
  entry.begin = offsets[0].get<uint64_t>();
  entry.end = offsets[1].get<uint64_t>();
  if (entry.begin > entry.end || entry.end > data_bytes)
    return about.error("its data (bytes " + std::to_string(entry.begin) + " to " + std::to_string(entry.end) +
                       ") does not lie in the file, which has " + std::to_string(data_bytes) + "; is it truncated?");
  if (entry.end - entry.begin != wanted_bytes)
    return about.error("has " + std::to_string(entry.end - entry.begin) + " bytes of data, its shape and dtype need " +
                       std::to_string(wanted_bytes));
  return entry;
}

}  // namespace

Result<MappedFile> MappedFile::open(const std::filesystem::path& path) {
  const auto failed = [&](const char* what) {
    const int code = errno;
    return Status(code == ENOENT || code == ENOTDIR ? Code::kNotFound : Code::kIo,
                  path.string() + ": " + what + ": " + std::strerror(code));
  };
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return failed("cannot be opened");
  struct stat about {};
  if (::fstat(file, &about) != 0 || !S_ISREG(about.st_mode) || about.st_size == 0) {
    ::close(file);
    return Status(Code::kInvalid, path.string() + ": is empty or no regular file");
  }
  const auto size = static_cast<size_t>(about.st_size);
  void* const data = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file, 0);
  const int code = errno;
  ::close(file);
  errno = code;
  if (data == MAP_FAILED) return failed("cannot be mapped");
  return MappedFile(static_cast<const char*>(data), size);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_bytes_(std::exchange(other.size_bytes_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_bytes_, other.size_bytes_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<char*>(data_), size_bytes_);
}

Result<SafeTensors> SafeTensors::open(const std::filesystem::path& path) {
  MANTA_ASSIGN_OR_RETURN(MappedFile file, MappedFile::open(path));
  SafeTensors opened(std::move(file), path.string());
  MANTA_RETURN_IF_ERROR(opened.read_header());
  return opened;
}

Status SafeTensors::read_header() {
  const auto bad = [&](const std::string& what) { return Status(Code::kInvalid, path_ + ": " + what); };
  if (file_.size_bytes() < 8) return bad("is shorter than a safetensors header");
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, file_.data(), sizeof header_bytes);  // little-endian, as every machine we run on
  if (header_bytes > kMaxHeaderBytes)
    return bad("is no safetensors file: its header would be " + std::to_string(header_bytes) + " bytes long");
  if (header_bytes > file_.size_bytes() - 8) return bad("is truncated: the header is not all there");
  const char* const data = file_.data() + 8 + header_bytes;
  const uint64_t data_bytes = file_.size_bytes() - 8 - header_bytes;

  MANTA_ASSIGN_OR_RETURN(const json parsed, parse_json({file_.data() + 8, header_bytes}, path_ + ": header"));
  MANTA_ASSIGN_OR_RETURN(const JsonObject header, JsonObject::make(parsed, path_ + ": header"));
  std::vector<Entry> entries;
  for (const auto& [name, value] : header.json().items()) {
    if (name == "__metadata__") continue;
    MANTA_ASSIGN_OR_RETURN(Entry entry, read_entry(name, value, data_bytes, path_));
    entries.push_back(std::move(entry));
  }
  std::ranges::sort(entries,
                    [](const Entry& a, const Entry& b) { return std::tie(a.begin, a.end) < std::tie(b.begin, b.end); });
  uint64_t expected = 0;
  for (Entry& entry : entries) {
    if (entry.begin != expected)
      return bad("tensor " + in_quotes(entry.name) +
                 (entry.begin < expected ? " overlaps another" : " leaves a gap before it"));
    expected = entry.end;
    entry.view.data = data + entry.begin;
    tensors_.emplace(std::move(entry.name), std::move(entry.view));
  }
  if (expected != data_bytes) return bad("has " + std::to_string(data_bytes - expected) + " bytes that belong to no tensor");
  return {};
}

const TensorView* SafeTensors::find(std::string_view name) const {
  const auto found = tensors_.find(name);
  return found == tensors_.end() ? nullptr : &found->second;
}

}  // namespace manta::models

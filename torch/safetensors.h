// A .safetensors file: named tensors, mapped and never copied.
//
// The file is eight bytes of header size, a JSON header (name -> dtype, shape, offsets) and the numbers. The header is taken
// as hostile: sizes are checked against the file before anything is read, offsets have to be in order, without gaps or
// overlaps and to the end of the file, and to fit the shape and the dtype. Every error names the file, and the tensor where
// there is one.
//
// Constant after opening; any number of threads may read. A file that somebody shortens while it is mapped faults on access.
#pragma once

#include <manta/status.h>
#include <manta/torch.h>

#include <filesystem>
#include <map>
#include <string>
#include <string_view>

namespace manta::models {

/// A file mapped read-only. Move-only; unmapped at the end.
class MappedFile {
 public:
  static Result<MappedFile> open(const std::filesystem::path& path);
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  [[nodiscard]] const char* data() const { return data_; }
  [[nodiscard]] size_t size_bytes() const { return size_bytes_; }

 private:
  MappedFile(const char* data, size_t size_bytes) : data_(data), size_bytes_(size_bytes) {}
  const char* data_ = nullptr;
  size_t size_bytes_ = 0;
};

class SafeTensors {
 public:
  static constexpr size_t kMaxHeaderBytes = 100'000'000;  ///< The format's own limit.
  static constexpr size_t kMaxRank = 8;

  static Result<SafeTensors> open(const std::filesystem::path& path);

  /// The tensor of that name, or null. Views stay good as long as this object lives.
  [[nodiscard]] const TensorView* find(std::string_view name) const;
  [[nodiscard]] const std::map<std::string, TensorView, std::less<>>& tensors() const { return tensors_; }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  SafeTensors(MappedFile file, std::string path) : file_(std::move(file)), path_(std::move(path)) {}
  Status read_header();

  MappedFile file_;
  std::string path_;
  std::map<std::string, TensorView, std::less<>> tensors_;
};

}  // namespace manta::models

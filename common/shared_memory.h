// Anonymous shared memory files: made and sealed by one process, passed to others as descriptors, mapped.
//
// A sealed file cannot change its size, so a mapping of it never gives SIGBUS because a peer shortened it. Whoever gets a
// descriptor from another process calls `check_sealed` before mapping.
// Thread safety: values; a Mapping is used by one thread at a time.
#pragma once

#include "common/fd.h"

#include <manta/status.h>

#include <cstddef>
#include <cstdint>
#include <memory>

namespace manta {

/// A new file of `size_bytes` zeros, close-on-exec, sealed against any change of size. Pages are taken when first written.
[[nodiscard]] Result<Fd> create_shared_memory(const char* name, size_t size_bytes);

/// kInvalid unless the descriptor is a memory file of this size, sealed like create_shared_memory's.
[[nodiscard]] Status check_sealed(const Fd& fd, size_t size_bytes);

/// The same file opened again, read-only: the kernel refuses to map that descriptor writable.
[[nodiscard]] Result<Fd> reopen_read_only(const Fd& fd);

[[nodiscard]] Result<Fd> duplicate(const Fd& fd);

/// A mapping of a whole file, unmapped at the end of its life.
class Mapping {
 public:
  enum class Access : uint8_t { kReadOnly, kReadWrite };

  Mapping();
  Mapping(Mapping&& other) noexcept;
  Mapping& operator=(Mapping&& other) noexcept;
  ~Mapping();

  [[nodiscard]] static Result<Mapping> map(const Fd& fd, size_t size_bytes, Access access);

  [[nodiscard]] std::byte* data() const { return data_; }
  [[nodiscard]] size_t size_bytes() const { return size_bytes_; }
  explicit operator bool() const { return data_ != nullptr; }

 private:
  struct Region;  // Boost.Interprocess's
  std::unique_ptr<Region> region_;
  std::byte* data_ = nullptr;
  size_t size_bytes_ = 0;
};

}  // namespace manta

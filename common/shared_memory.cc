#include "common/shared_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <boost/interprocess/mapped_region.hpp>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>
#include <utility>

namespace manta {
namespace {

constexpr int kSeals = F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL;

Status system_error(const char* what) { return Status(Code::kIo, std::string(what) + ": " + std::strerror(errno)); }

/// A descriptor as Boost.Interprocess wants to see it.
struct Mappable {
  int fd;
  [[nodiscard]] boost::interprocess::mapping_handle_t get_mapping_handle() const { return {fd, false}; }
};

}  // namespace

Result<Fd> create_shared_memory(const char* name, size_t size_bytes) {
  Fd fd(::memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd) return system_error("memfd_create");
  if (::ftruncate(fd.get(), static_cast<off_t>(size_bytes)) != 0) return system_error("sizing shared memory");
  if (::fcntl(fd.get(), F_ADD_SEALS, kSeals) != 0) return system_error("sealing shared memory");
  return fd;
}

Status check_sealed(const Fd& fd, size_t size_bytes) {
  int seals = ::fcntl(fd.get(), F_GET_SEALS);
  if (seals < 0 || (seals & kSeals) != kSeals) return Status(Code::kInvalid, "the descriptor is no sealed shared memory");
  struct stat info {};
  if (::fstat(fd.get(), &info) != 0) return system_error("fstat");
  if (static_cast<size_t>(info.st_size) != size_bytes) {
    return Status(Code::kInvalid, "shared memory of " + std::to_string(info.st_size) + " bytes where " +
                                      std::to_string(size_bytes) + " were expected");
  }
  return {};
}

Result<Fd> reopen_read_only(const Fd& fd) {
  char path[32];
  std::snprintf(path, sizeof path, "/proc/self/fd/%d", fd.get());
  Fd reopened(::open(path, O_RDONLY | O_CLOEXEC));
  if (!reopened) return system_error("reopening shared memory read-only");
  return reopened;
}

Result<Fd> duplicate(const Fd& fd) {
  Fd copy(::fcntl(fd.get(), F_DUPFD_CLOEXEC, 0));
  if (!copy) return system_error("duplicating a descriptor");
  return copy;
}

struct Mapping::Region {
  boost::interprocess::mapped_region mapped;
};

Mapping::Mapping() = default;
Mapping::~Mapping() = default;
Mapping::Mapping(Mapping&& other) noexcept
    : region_(std::move(other.region_)),
      data_(std::exchange(other.data_, nullptr)),
      size_bytes_(std::exchange(other.size_bytes_, 0)) {}
Mapping& Mapping::operator=(Mapping&& other) noexcept {
  std::swap(region_, other.region_);
  std::swap(data_, other.data_);
  std::swap(size_bytes_, other.size_bytes_);
  return *this;
}

Result<Mapping> Mapping::map(const Fd& fd, size_t size_bytes, Access access) {
  namespace ipc = boost::interprocess;
  try {
    ipc::mode_t mode = access == Access::kReadWrite ? ipc::read_write : ipc::read_only;
    Mapping mapping;
    mapping.region_ = std::make_unique<Region>(Region{ipc::mapped_region(Mappable{fd.get()}, mode, 0, size_bytes)});
    mapping.data_ = static_cast<std::byte*>(mapping.region_->mapped.get_address());
    mapping.size_bytes_ = size_bytes;
    return mapping;
  } catch (const ipc::interprocess_exception& error) {
    return Status(Code::kIo, std::string("mapping shared memory: ") + std::strerror(error.get_native_error()));
  }
}

}  // namespace manta

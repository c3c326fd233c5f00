#include "common/shared_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>

namespace manta {
namespace {

constexpr int kSeals = F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL;

Status system_error(const char* what) { return Status(Code::kIo, std::string(what) + ": " + std::strerror(errno)); }

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
  struct stat info{};
  if (::fstat(fd.get(), &info) != 0) return system_error("fstat");
  if (static_cast<size_t>(info.st_size) != size_bytes) {
    return Status(Code::kInvalid, "shared memory of " + std::to_string(info.st_size) + " bytes where " + std::to_string(size_bytes) +
                                      " were expected");
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

Mapping::~Mapping() {
  if (data_ != nullptr) ::munmap(data_, size_bytes_);
}

Result<Mapping> Mapping::map(const Fd& fd, size_t size_bytes, Access access) {
  int protection = access == Access::kReadWrite ? PROT_READ | PROT_WRITE : PROT_READ;
  void* data = ::mmap(nullptr, size_bytes, protection, MAP_SHARED, fd.get(), 0);
  if (data == MAP_FAILED) return system_error("mapping shared memory");
  return Mapping(static_cast<std::byte*>(data), size_bytes);
}

}  // namespace manta

#include "object_store/spill_place.h"

#include <linux/magic.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

namespace manta::object_store {
namespace {

namespace fs = std::filesystem;

bool lies_in_memory(const std::string& folder) {
  struct statfs info {};
  return ::statfs(folder.c_str(), &info) == 0 && (info.f_type == TMPFS_MAGIC || info.f_type == RAMFS_MAGIC);
}

uint64_t free_bytes(const std::string& folder) {
  struct statfs info {};
  if (::statfs(folder.c_str(), &info) != 0) return 0;
  return static_cast<uint64_t>(info.f_bavail) * static_cast<uint64_t>(info.f_bsize);
}

}  // namespace

Result<SpillPlace> find_spill_place(const std::string& session_dir, const std::string& given_dir,
                                    std::optional<uint64_t> capacity_bytes) {
  std::string base = given_dir;
  if (base.empty() && lies_in_memory(session_dir)) base = "/var/tmp";
  SpillPlace place{session_dir + "/spill", 0};
  std::error_code error;
  if (base.empty()) {
    base = session_dir;
  } else {
    fs::create_directories(base, error);
    base = fs::absolute(base, error).string();
    if (error || ::access(base.c_str(), W_OK | X_OK) != 0)
      return Status(Code::kIo, "the folder for spilled objects, " + base + ", cannot be used: " +
                                   (error ? error.message() : std::strerror(errno)) + " (MANTA_SPILL_DIR sets it)");
    const std::string link = place.folder;
    place.folder = base + "/manta-" + fs::path(session_dir).filename().string();
    fs::create_directory_symlink(place.folder, link, error);  // without it only a killed mantad's folder stays
  }
  place.capacity_bytes = capacity_bytes.value_or(free_bytes(base) / 10 * 9);
  return place;
}

}  // namespace manta::object_store

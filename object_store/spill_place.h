// Where a session's spilled objects go: a folder of its own that ends with the session.
//
//   no folder given, the session's disk is a real one    <session>/spill
//   no folder given, the session lies in memory (tmpfs)  /var/tmp/manta-<session's name>
//   a folder given                                       <folder>/manta-<session's name>
//
// In the latter two cases <session>/spill is a link to it, so that whoever removes the session's folder finds it.
#pragma once

#include <manta/status.h>

#include <cstdint>
#include <optional>
#include <string>

namespace manta::object_store {

struct SpillPlace {
  std::string folder;
  uint64_t capacity_bytes = 0;
};

/// Makes the folder's parents and the link, not the folder. Without `capacity_bytes`: what the disk has free now, less a
/// tenth. kIo when a folder that was given cannot be used.
[[nodiscard]] Result<SpillPlace> find_spill_place(const std::string& session_dir, const std::string& given_dir,
                                                  std::optional<uint64_t> capacity_bytes);

}  // namespace manta::object_store

// What a program consists of when it travels: its own file and the shared libraries that go along (`--package`). Each part
// is known by its content's hash, so what several programs have in common is sent and kept once.
//
// A library is laid where the dynamic loader finds it under `name`, the name that is asked for; a name is a plain one, so no
// part can be written outside of its folder.
#pragma once

#include <manta/status.h>

#include <cstdint>
#include <msgpack.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace manta::wire {

struct ProgramLibrary {
  std::string name;  ///< As the loader looks for it: libfoo.so.1
  std::string hash;  ///< SHA-256, hex.
  uint64_t size_bytes = 0;
  auto operator<=>(const ProgramLibrary&) const = default;
  MSGPACK_DEFINE(name, hash, size_bytes)
};

inline constexpr size_t kMaxLibraries = 256;
inline constexpr uint64_t kMaxPartBytes = uint64_t{4} << 30;
inline constexpr uint64_t kMaxProgramBytes = uint64_t{8} << 30;  ///< With its libraries.

/// A file's name and no path: no slash, no zero byte, neither "." nor "..", shorter than 200 bytes.
[[nodiscard]] bool is_plain_name(std::string_view name);

/// kInvalid says what is wrong with a program from elsewhere: its name, a hash, a size, too many libraries or two of one
/// name.
[[nodiscard]] Status check_parts(const std::string& name, const std::string& hash, uint64_t size_bytes,
                                 const std::vector<ProgramLibrary>& libraries);

/// Of a program with these libraries and names: one folder on a node holds what has one key.
[[nodiscard]] std::string program_key(const std::string& name, const std::string& hash,
                                      const std::vector<ProgramLibrary>& libraries);

}  // namespace manta::wire

// The shared libraries that a program needs and that do not belong to the system: what must go along when it is to run
// elsewhere. Which file a library is, is what the dynamic loader itself says.
#pragma once

#include <manta/status.h>

#include <string>
#include <string_view>
#include <vector>

namespace manta {

struct SharedLibrary {
  std::string name;  ///< Of its file, which is what the loader looks for.
  std::string path;
};

/// Whether it is in a folder of the system's libraries (/lib*, /usr/lib*), or one of those that must be the machine's own
/// wherever they are: the C and C++ libraries, the compiler's, the loader. `path` may be a link.
[[nodiscard]] bool is_system_library(const std::string& path);

/// Those that this process has loaded so far.
[[nodiscard]] std::vector<SharedLibrary> loaded_libraries();

/// Those that the program or shared library `path` needs, with what they need, as the loader resolves them here and now. The
/// program's own loader is run and asked (no code of the program is). kNotFound names each that is missing and what needs
/// it; kInvalid: no such program, or a library that is named by its path. Costs milliseconds; 30 s at most, then kTimeout.
[[nodiscard]] Result<std::vector<SharedLibrary>> needed_libraries(const std::string& path);

/// Those two, and what loads `also` (files, which go along themselves). kInvalid: two different ones have the same name.
[[nodiscard]] Result<std::vector<SharedLibrary>> with_needed(std::vector<SharedLibrary> libraries,
                                                             const std::vector<std::string>& also);

}  // namespace manta

#include "raylet/core_types.h"

#include <csignal>
#include <cstring>

namespace manta::raylet {

std::string describe(const ExitCause& cause) {
  if (cause.out_of_memory) return "killed by the kernel: out of memory";
  if (!cause.by_signal) return "exited with code " + std::to_string(cause.code);
  const char* name = sigabbrev_np(cause.code);
  return "killed by signal " + std::to_string(cause.code) + (name == nullptr ? "" : " (SIG" + std::string(name) + ")");
}

std::string missing_library_hint(const std::string& last_words) {
  if (last_words.find("error while loading shared libraries") == std::string::npos) return "";
  return "; a shared library that the program needs is not on this node: it goes along with manta submit --package, or with "
         "MANTA_PACKAGE=1 in the environment of a driver";
}

}  // namespace manta::raylet

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

}  // namespace manta::raylet

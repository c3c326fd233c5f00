// The processors of this machine.
#pragma once

#include <algorithm>
#include <thread>

namespace manta {

/// How many are online, at least 1. Read from a file by the first call: free afterwards, also inside loops.
inline unsigned processors() {
  static const unsigned count = std::max(1u, std::thread::hardware_concurrency());
  return count;
}

}  // namespace manta

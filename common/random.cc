#include "common/random.h"

#include <sys/random.h>

#include <unistd.h>
#include <chrono>

namespace manta {

uint64_t system_seed() {
  uint64_t seed = 0;
  if (::getrandom(&seed, sizeof seed, 0) == static_cast<ssize_t>(sizeof seed)) return seed;
  // Only a kernel that forbids the call comes here: time and process still differ between processes.
  auto ticks = static_cast<uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
  return Random(ticks ^ static_cast<uint64_t>(::getpid()) << 32)();
}

uint64_t random_id() {
  uint64_t id = 0;
  while (id == 0) id = system_seed();
  return id;
}

}  // namespace manta

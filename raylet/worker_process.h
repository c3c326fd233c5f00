// Starting a worker process and learning how it ended.
//
// posix_spawn, never fork: the raylet has threads. The child gets /dev/null, its two output pipes and its socket as
// descriptors 0 to 3 and nothing else, default signals, and a process group of its own, which is killed with it.
#pragma once

#include "common/fd.h"
#include "raylet/core_types.h"

#include <manta/status.h>

namespace manta::raylet {

struct WorkerProcess {
  int32_t pid = 0;
  Fd pidfd;   ///< Readable once the process has ended.
  Fd socket;  ///< Our end.
  Fd out;     ///< What it prints; non-blocking.
  Fd err;
};

/// Readable once the process has ended; none (errno says why) when there is no such process. The C library's own declaration
/// of pidfd_open cannot be used from C++ in Debian 12.
[[nodiscard]] Fd open_pidfd(int32_t pid);

/// kIo with the operating system's reason when the program cannot be run. Costs about half a millisecond.
Result<WorkerProcess> start_worker(const Spawn& spawn);

/// Kills the whole process group. No error when it has ended already.
void kill_group(const WorkerProcess& process);

/// How it ended, after its pidfd became readable; kills what is left of its group, then frees its pid.
ExitCause reap(WorkerProcess& process);

/// The kernel's counters of processes killed for want of memory: of this process's cgroup where there is one, else the
/// machine's.
class OomWatch {
 public:
  OomWatch();
  /// Whether any counter moved since the last call.
  bool has_moved();

 private:
  [[nodiscard]] int64_t count() const;
  std::string path_;
  std::string key_;
  int64_t last_ = 0;
};

}  // namespace manta::raylet

// Starting a worker process and learning how it ended.
//
// posix_spawn, never fork: the raylet has threads. The child gets /dev/null, its two output pipes and its socket as
// descriptors 0 to 3 and nothing else, default signals, and a process group of its own, which is killed with it.
#pragma once

#include "common/fd.h"
#include "raylet/core_types.h"
#include "raylet/job_user.h"

#include <manta/status.h>

#include <optional>
#include <utility>

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

/// When the kernel runs out of memory, it is to end this process rather than the driver or mantad. The children of a worker
/// inherit it.
void prefer_for_oom(int32_t pid);

/// What a worker gets: descriptors kWorkerFd, 1 and 2.
struct WorkerEnds {
  Fd socket;
  Fd out;
  Fd err;
};
/// Both ends of a worker's socket and pipes; there is no process yet.
Result<std::pair<WorkerProcess, WorkerEnds>> make_ends();

/// Makes `pid`, a child of this process, the one behind the ends. When that fails the child is killed and reaped.
Status adopt(WorkerProcess& process, int32_t pid);

/// kIo with the operating system's reason when the program cannot be run. Costs about half a millisecond. With a user it is
/// started like a driver, through `launch_driver`.
Result<WorkerProcess> start_worker(const Spawn& spawn, const std::optional<JobUser>& user = {});

/// The same, with a socket and no output: the program that makes workers by forking (see fork_server.h).
Result<WorkerProcess> start_silent(const Spawn& spawn);

/// A driver of a submitted job: both its streams go to `log`, its folder is the spawn's, and it ends with this process.
/// Through `launch_driver`, so what it is told about a program that cannot be run stands in the log; it then exits with 127.
Result<WorkerProcess> start_driver(const Spawn& spawn, const Fd& log, const std::optional<JobUser>& user = {});
/// In the process that start_driver made: mantad with these arguments becomes the program. Returns the exit code.
inline constexpr const char* kLaunchFlag = "--launch-driver";
int launch_driver(int argc, char** argv);

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

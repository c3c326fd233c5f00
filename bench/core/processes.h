// What the processes of a run use: time of cores, memory. Out of /proc.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace manta::bench {

/// All processes below this one: mantad and its workers, in a driver.
std::vector<pid_t> processes_below();

/// Seconds of a core that a process has used so far; 0 when it is gone.
double cpu_seconds_of(pid_t pid);
double cpu_seconds_of(const std::vector<pid_t>& pids);

/// Proportional set size of a process, in MB (1e6): its own pages and its part of shared ones.
double pss_mb(pid_t pid);
/// What the object store's memory files that these processes have open take, in MB: held, and in nobody's PSS while it is
/// not mapped.
double shared_mb(const std::vector<pid_t>& pids);
/// This process's resident memory now, and the most since the last reset_peak_memory().
double resident_mb();
double peak_memory_mb();
void reset_peak_memory();

/// Busy loops in processes of their own, ended with this object or with us.
class Hogs {
 public:
  explicit Hogs(unsigned count);
  Hogs(const Hogs&) = delete;
  Hogs& operator=(const Hogs&) = delete;
  ~Hogs();
  /// What the program does when it is started as one.
  [[noreturn]] static void burn();
  static constexpr const char* kFlag = "--hog";

 private:
  std::vector<pid_t> pids_;
};

/// Runs this program again with these arguments; what it printed, read as a number. Such a run ends itself after a time
/// (core_bench.cc). Ends us, saying so, when it fails.
double figure_of(const std::vector<std::string>& arguments);

/// The same without reading anything: how long it took from start to end, in ms.
double milliseconds_of(const std::vector<std::string>& arguments);

}  // namespace manta::bench

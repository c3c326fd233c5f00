// manta::run: the one line of main.
//
//   int main(int argc, char** argv) { return manta::run(argc, argv, program); }
//
// The same binary is driver and worker: started by a person it runs `program`; started by a raylet it serves. So nothing
// that must happen once may stand before `run` in main.
//
// Where the program runs is not in the code. Nothing set: a node of its own inside this machine, gone with the program.
// MANTA_ADDRESS=tcp://HEAD:PORT, or --manta-address: the cluster of that head; the program itself stays here, its tasks and
// actors run there. MANTA_MODE=inline: everything in this process and thread, for a debugger. Options of the local node:
// MANTA_CPUS, MANTA_GPUS (logical ones), MANTA_MEMORY_BYTES, MANTA_STORE_BYTES, MANTA_RESOURCES ("name=2,other=1"),
// MANTA_SESSION_DIR. Of each process: MANTA_LOG_DIR (a folder for logs that are kept; unset: the session's, which goes),
// MANTA_LOG_LEVEL, MANTA_LINEAGE_BYTES (256 MiB): what is remembered to make lost results again, and MANTA_MAX_QUEUED_BYTES
// (256 MiB): arguments of calls that are not over; a submission beyond waits, or throws when asked to.
#pragma once

#include <manta/async.h>

#include <functional>
#include <type_traits>

namespace manta {
namespace detail {
/// `daemon` is where the program was told to look for mantad when it was built; may be null.
int run_main(int argc, char** argv, const std::function<int(int, char**)>& program, const char* daemon);
}  // namespace detail

/// Runs `program`: int(), int(int, char**), Async<int>() or Async<int>(int, char**). Returns what it returned; an Error that
/// leaves it is printed and gives 1; Ctrl-C says what was stopped and gives 130.
template <typename Program>
int run(int argc, char** argv, Program program) {
#ifdef MANTA_DAEMON_PATH
  const char* daemon = MANTA_DAEMON_PATH;
#else
  const char* daemon = nullptr;
#endif
  const auto main = [&program](int count, char** words) -> int {
    const auto start = [&] {
      if constexpr (std::is_invocable_v<Program, int, char**>) {
        return program(count, words);
      } else {
        return program();
      }
    };
    if constexpr (std::is_same_v<decltype(start()), int>) {
      return start();
    } else {
      return start().run();
    }
  };
  return detail::run_main(argc, argv, main, daemon);
}

/// What there is to work with and what is in use, for programs that size themselves and for tests: CPUs and GPUs of all
/// nodes together, the rest of the node that the caller is on.
struct NodeInfo {
  double cpus = 0, free_cpus = 0;
  double gpus = 0, free_gpus = 0;
  int workers = 0, idle_workers = 0, actors = 0, leases = 0;
  uint64_t store_capacity_bytes = 0, store_used_bytes = 0, store_objects = 0;
};
[[nodiscard]] NodeInfo node_info();

/// The node that the caller is on.
[[nodiscard]] NodeNumber this_node();

/// The devices this task or actor was given, as indices of the node. Empty without GPUs.
[[nodiscard]] std::vector<int> my_devices();

/// A folder that is removed if this driver dies before `keep`: for staging output. Its last component must begin with
/// ".manta-".
class StagingFolder {
 public:
  explicit StagingFolder(std::string path);
  StagingFolder(const StagingFolder&) = delete;
  StagingFolder& operator=(const StagingFolder&) = delete;
  ~StagingFolder();  ///< Removes it unless kept.
  void keep();
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
  bool kept_ = false;
};

}  // namespace manta

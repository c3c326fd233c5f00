// The core's numbers on a local node, one table: each row beside its goal and beside what the machine itself does at that
// moment. The groups of rows (bench/core) run one after the other, each in a process and a node of its own.
//
// bench_core [ROW|GROUP...]: those only. MANTA_BENCH_QUICK=1, MANTA_BENCH_ROUNDS=n, MANTA_BENCH_TSV=1: see core/table.h.
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <span>

#include "bench/core/groups.h"
#include "bench/core/processes.h"

#include <manta/manta.h>

extern char** environ;

namespace manta::bench {
namespace {

constexpr unsigned kLongestRun_s = 600;
constexpr int kNothingToDo = 77;  // how the process of a group ends when none of its rows was asked for

struct Group {
  const char* name;
  void (*measure)(Table&);
  bool needs_node = true;
  const char* variable = nullptr;  ///< Set to `value` before the node starts.
  const char* value = nullptr;
};

const Group kGroups[] = {
    {"starts", starts, false},
    {"tasks", tasks},
    {"actors", actors},
    {"many_callers", many_callers},
    {"four_workers", four_workers, true, "MANTA_CPUS", "4"},
    {"latencies", latencies},
    {"hogged", hogged},
    {"small_objects", small_objects},
    {"first_puts", first_puts, false},
    {"big_objects", big_objects},
    {"many_refs", many_refs},
    {"queued_tasks", queued_tasks},
    {"actor_lives", actor_lives},
    {"shared_process_actors", shared_process_actors},
    {"idle", idle},
};

int measure_group(const Group& group, int argc, char** argv, std::vector<std::string> rows) {
  Table table(std::move(rows));
  const auto measure = [&] {
    group.measure(table);
    return table.has_printed() ? 0 : kNothingToDo;
  };
  if (!group.needs_node) return measure();
  if (group.variable != nullptr) ::setenv(group.variable, group.value, 1);
  return manta::run(argc, argv, measure);
}

/// In a process of its own, whose end, whatever it is, leaves the other groups their turn. Whether it had anything to do.
bool start_and_wait(const Group& group, std::span<char*> rows) {
  std::string self = "/proc/self/exe", flag = "--group", name = group.name;
  std::vector<char*> argv{self.data(), flag.data(), name.data()};
  argv.insert(argv.end(), rows.begin(), rows.end());
  argv.push_back(nullptr);
  pid_t pid = 0;
  int ended = 0;
  if (::posix_spawn(&pid, self.c_str(), nullptr, nullptr, argv.data(), environ) != 0) {
    std::printf("%s: cannot be started: %s\n", group.name, std::strerror(errno));
    return true;
  }
  while (::waitpid(pid, &ended, 0) < 0 && errno == EINTR) {
  }
  if (WIFEXITED(ended) && WEXITSTATUS(ended) == kNothingToDo) return false;
  if (WIFSIGNALED(ended) && WTERMSIG(ended) == SIGALRM)
    std::fprintf(stderr, "%s: took more than %u s\n", group.name, kLongestRun_s);
  else if (ended != 0)
    std::fprintf(stderr, "%s: failed (status %d)\n", group.name, ended);
  return true;
}

int main(int argc, char** argv) {
  if (std::getenv("MANTA_WORKER_FD") != nullptr) return manta::run(argc, argv, [] { return 0; });
  const std::vector<std::string> words(argv + 1, argv + argc);
  const std::string mode = words.empty() ? "" : words[0];
  if (mode == Hogs::kFlag) Hogs::burn();
  if (mode.starts_with("--")) ::alarm(kLongestRun_s);
  if (mode == "--one-task") return manta::run(argc, argv, one_task);
  if (mode == "--first-put" && words.size() > 1)
    return manta::run(argc, argv, [&] { return first_put(std::atoi(words[1].c_str())); });
  if (mode == "--group" && words.size() > 1) {
    for (const Group& group : kGroups)
      if (words[1] == group.name) return measure_group(group, argc, argv, {words.begin() + 2, words.end()});
    return 2;
  }
  if (std::getenv("MANTA_BENCH_TSV") == nullptr) Table::print_heading();
  bool any = false;
  for (const Group& group : kGroups) {
    const bool whole = std::ranges::find(words, group.name) != words.end();
    any |= start_and_wait(group, std::span(argv, whole ? 1 : static_cast<size_t>(argc)).subspan(1));
  }
  if (!any) std::fprintf(stderr, "no such row: bench/README.md lists them\n");
  return 0;
}

}  // namespace
}  // namespace manta::bench

int main(int argc, char** argv) { return manta::bench::main(argc, argv); }

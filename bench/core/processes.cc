#include "bench/core/processes.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <sstream>

#include "bench/stats.h"

extern char** environ;

namespace manta::bench {
namespace {

namespace fs = std::filesystem;

/// "Key:   123 kB" of one of /proc's files, in MB.
double megabytes_in(const std::string& path, const std::string& key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);)
    if (line.starts_with(key)) return std::strtod(line.c_str() + key.size(), nullptr) * 1024 / 1e6;
  return 0;
}

/// Starts this program with these arguments and its output in `out` (-1: nowhere). A clean signal mask, since a driver
/// blocks some.
pid_t start_self(const std::vector<std::string>& arguments, int out) {
  std::vector<std::string> words{"/proc/self/exe"};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  if (out >= 0) posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t none;
  sigemptyset(&none);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
  pid_t pid = 0;
  const int error = ::posix_spawn(&pid, argv[0], &actions, &attributes, argv.data(), environ);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  return error == 0 ? pid : -1;
}

[[noreturn]] void die(const std::vector<std::string>& arguments, const char* why) {
  std::fprintf(stderr, "bench_core %s: %s\n", arguments.empty() ? "" : arguments.front().c_str(), why);
  std::exit(1);
}

}  // namespace

std::vector<pid_t> processes_below() {
  std::multimap<pid_t, pid_t> children;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator("/proc", error)) {
    const std::string name = entry.path().filename().string();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    std::ifstream file(entry.path() / "stat");
    std::string text((std::istreambuf_iterator<char>(file)), {});
    const size_t end = text.rfind(')');
    if (end == std::string::npos) continue;
    std::istringstream rest(text.substr(end + 1));
    char state = 0;
    pid_t parent = 0;
    if (rest >> state >> parent && state != 'Z') children.emplace(parent, std::atoi(name.c_str()));
  }
  std::vector<pid_t> found, frontier{::getpid()};
  while (!frontier.empty()) {
    const auto [first, last] = children.equal_range(frontier.back());
    frontier.pop_back();
    for (auto it = first; it != last; ++it) {
      found.push_back(it->second);
      frontier.push_back(it->second);
    }
  }
  return found;
}

double cpu_seconds_of(pid_t pid) {
  clockid_t clock = 0;
  timespec used{};
  if (::clock_getcpuclockid(pid, &clock) != 0 || ::clock_gettime(clock, &used) != 0) return 0;
  return static_cast<double>(used.tv_sec) + static_cast<double>(used.tv_nsec) * 1e-9;
}

double cpu_seconds_of(const std::vector<pid_t>& pids) {
  double sum = 0;
  for (const pid_t pid : pids) sum += cpu_seconds_of(pid);
  return sum;
}

double pss_mb(pid_t pid) { return megabytes_in("/proc/" + std::to_string(pid) + "/smaps_rollup", "Pss:"); }
double shared_mb(const std::vector<pid_t>& pids) {
  double bytes = 0;
  std::set<ino_t> seen;
  for (const pid_t pid : pids) {
    std::error_code error;
    for (const fs::directory_entry& entry : fs::directory_iterator("/proc/" + std::to_string(pid) + "/fd", error)) {
      std::error_code gone;
      struct stat info {};
      if (fs::read_symlink(entry.path(), gone).string().find("memfd:manta-segment") == std::string::npos) continue;
      if (::stat(entry.path().c_str(), &info) == 0 && seen.insert(info.st_ino).second)
        bytes += static_cast<double>(info.st_blocks) * 512;
    }
  }
  return bytes / 1e6;
}
double resident_mb() { return megabytes_in("/proc/self/status", "VmRSS:"); }
double peak_memory_mb() { return megabytes_in("/proc/self/status", "VmHWM:"); }
void reset_peak_memory() { std::ofstream("/proc/self/clear_refs") << "5"; }

Hogs::Hogs(unsigned count) {
  for (unsigned i = 0; i < count; ++i)
    if (const pid_t pid = start_self({kFlag}, -1); pid > 0) pids_.push_back(pid);
}

Hogs::~Hogs() {
  for (const pid_t pid : pids_) ::kill(pid, SIGKILL);
  for (const pid_t pid : pids_) ::waitpid(pid, nullptr, 0);
}

void Hogs::burn() {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  ::alarm(600);  // whatever happens
  volatile uint64_t turns = 0;
  while (true) turns = turns + 1;
}

double milliseconds_of(const std::vector<std::string>& arguments) {
  int ended = 0;
  const double seconds = ::bench::seconds_of([&] {
    const pid_t pid = start_self(arguments, -1);
    if (pid < 0 || ::waitpid(pid, &ended, 0) != pid) ended = 1;
  });
  if (ended != 0) die(arguments, "failed");
  return seconds * 1e3;
}

double figure_of(const std::vector<std::string>& arguments) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) die(arguments, "no pipe");
  const pid_t pid = start_self(arguments, ends[1]);
  ::close(ends[1]);
  std::string said;
  char bytes[256];
  for (ssize_t count = 0; pid > 0 && (count = ::read(ends[0], bytes, sizeof bytes)) > 0;)
    said.append(bytes, static_cast<size_t>(count));
  ::close(ends[0]);
  int ended = 1;
  if (pid > 0) ::waitpid(pid, &ended, 0);
  if (ended != 0 || said.empty()) die(arguments, "failed");
  return std::strtod(said.c_str(), nullptr);
}

}  // namespace manta::bench

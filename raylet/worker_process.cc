#include "raylet/worker_process.h"

#include "common/check.h"
#include "wire/connection.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

extern char** environ;

namespace manta::raylet {
namespace {

constexpr const char* kSameUser = "-";
constexpr int kFirstSourceFd = 16;  // above every descriptor number the child gets, so that none hides another on its way

Status os_error(const std::string& what, int error) { return Status(Code::kIo, what + ": " + std::strerror(error)); }

Result<Fd> moved_up(const Fd& fd) {
  Fd moved(fcntl(fd.get(), F_DUPFD_CLOEXEC, kFirstSourceFd));
  if (!moved) return os_error("duplicating a descriptor", errno);
  return moved;
}

struct Pipe {
  Fd read;
  Fd write;
};

Result<Pipe> make_pipe() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return os_error("pipe", errno);
  Pipe pipe{Fd(ends[0]), Fd(ends[1])};
  fcntl(pipe.read.get(), F_SETFL, O_NONBLOCK);
  MANTA_ASSIGN_OR_RETURN(pipe.write, moved_up(pipe.write));
  return pipe;
}

/// The arguments of posix_spawn, freed again.
class SpawnPlan {
 public:
  SpawnPlan() {
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
  }
  ~SpawnPlan() {
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
  }
  SpawnPlan(const SpawnPlan&) = delete;
  SpawnPlan& operator=(const SpawnPlan&) = delete;

  void set_up(const Spawn& spawn, const WorkerEnds& ends) {
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    set_output(1, ends.out);
    set_output(2, ends.err);
    if (ends.socket) posix_spawn_file_actions_adddup2(&actions, ends.socket.get(), kWorkerFd);
    if (!spawn.working_directory.empty()) posix_spawn_file_actions_addchdir_np(&actions, spawn.working_directory.c_str());
    sigset_t none;
    sigset_t all;
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &all);
    posix_spawnattr_setpgroup(&attributes, 0);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  }

  void set_output(int number, const Fd& pipe) {
    if (pipe) {
      posix_spawn_file_actions_adddup2(&actions, pipe.get(), number);
    } else {
      posix_spawn_file_actions_addopen(&actions, number, "/dev/null", O_WRONLY, 0);
    }
  }

  posix_spawn_file_actions_t actions{};
  posix_spawnattr_t attributes{};
};

std::vector<std::string> merged_environment(const std::map<std::string, std::string>& over) {
  std::vector<std::string> merged;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text(*entry);
    if (!over.contains(std::string(text.substr(0, text.find('='))))) merged.emplace_back(text);
  }
  for (const auto& [name, value] : over) merged.push_back(name + "=" + value);
  return merged;
}

std::vector<char*> pointers(std::vector<std::string>& texts) {
  std::vector<char*> out;
  for (std::string& text : texts) out.push_back(text.data());
  out.push_back(nullptr);
  return out;
}

}  // namespace

void prefer_for_oom(int32_t pid) {
  const std::string path = "/proc/" + std::to_string(pid) + "/oom_score_adj";
  const Fd file(open(path.c_str(), O_WRONLY | O_CLOEXEC));
  [[maybe_unused]] const ssize_t written = write(file.get(), "500", 3);
}

Fd open_pidfd(int32_t pid) { return Fd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0))); }

Result<std::pair<WorkerProcess, WorkerEnds>> make_ends() {
  MANTA_ASSIGN_OR_RETURN(auto sockets, wire::Connection::make_pair());
  MANTA_ASSIGN_OR_RETURN(Fd child_socket, moved_up(sockets.second));
  MANTA_ASSIGN_OR_RETURN(Pipe out, make_pipe());
  MANTA_ASSIGN_OR_RETURN(Pipe err, make_pipe());
  return std::pair(
      WorkerProcess{
          .pid = 0, .pidfd = {}, .socket = std::move(sockets.first), .out = std::move(out.read), .err = std::move(err.read)},
      WorkerEnds{std::move(child_socket), std::move(out.write), std::move(err.write)});
}

Status adopt(WorkerProcess& process, int32_t pid) {
  process.pid = pid;
  process.pidfd = open_pidfd(pid);
  if (process.pidfd) return {};
  const int open_error = errno;
  if (::kill(-pid, SIGKILL) != 0) ::kill(pid, SIGKILL);
  waitpid(pid, nullptr, 0);
  process.pid = 0;
  return os_error("pidfd_open", open_error);
}

namespace {

Status launch(const Spawn& spawn, WorkerProcess& process, const WorkerEnds& ends) {
  SpawnPlan plan;
  plan.set_up(spawn, ends);
  std::vector<std::string> argument_texts{spawn.program};
  argument_texts.insert(argument_texts.end(), spawn.arguments.begin(), spawn.arguments.end());
  std::vector<std::string> environment_texts = merged_environment(spawn.env);
  pid_t pid = 0;
  const int error = posix_spawn(&pid, spawn.program.c_str(), &plan.actions, &plan.attributes,
                                pointers(argument_texts).data(), pointers(environment_texts).data());
  if (error != 0) return os_error("starting " + spawn.program, error);
  return adopt(process, pid);
}

/// The same by way of a process of mantad, which makes itself what the program shall find itself in.
Spawn through_launcher(const Spawn& spawn, const std::optional<JobUser>& user) {
  Spawn launcher = spawn;
  launcher.program = "/proc/self/exe";
  launcher.arguments.insert(launcher.arguments.begin(),
                            {kLaunchFlag, std::to_string(::getpid()), user ? to_word(*user) : kSameUser, spawn.program});
  if (user) set_user(launcher.env, *user);
  return launcher;
}

}  // namespace

Result<WorkerProcess> start_worker(const Spawn& spawn, const std::optional<JobUser>& user) {
  MANTA_ASSIGN_OR_RETURN(auto both, make_ends());
  MANTA_RETURN_IF_ERROR(launch(user ? through_launcher(spawn, user) : spawn, both.first, both.second));
  prefer_for_oom(both.first.pid);
  return std::move(both.first);
}

Result<WorkerProcess> start_silent(const Spawn& spawn) {
  MANTA_ASSIGN_OR_RETURN(auto sockets, wire::Connection::make_pair());
  WorkerProcess process;
  process.socket = std::move(sockets.first);
  WorkerEnds ends;
  MANTA_ASSIGN_OR_RETURN(ends.socket, moved_up(sockets.second));
  MANTA_RETURN_IF_ERROR(launch(spawn, process, ends));
  prefer_for_oom(process.pid);
  return process;
}

Result<WorkerProcess> start_driver(const Spawn& spawn, const Fd& log, const std::optional<JobUser>& user) {
  WorkerProcess process;
  WorkerEnds ends;
  MANTA_ASSIGN_OR_RETURN(ends.out, moved_up(log));
  MANTA_ASSIGN_OR_RETURN(ends.err, moved_up(log));
  MANTA_RETURN_IF_ERROR(launch(through_launcher(spawn, user), process, ends));
  return process;
}

int launch_driver(int argc, char** argv) {
  if (argc < 5) return 2;
  const auto fail = [](const std::string& why) {
    const std::string text = "mantad: " + why + "\n";
    [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, text.data(), text.size());
    return 127;
  };
  // First: it takes back what follows.
  if (argv[3] != std::string_view(kSameUser))
    if (const Status status = become_job_user(argv[3]); !status.ok()) return fail(status.message());
  // Whatever becomes of mantad, its driver does not go on without it. The first call is only good for a parent that lives.
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (std::to_string(::getppid()) != argv[2]) return 1;
  ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  ::execv(argv[4], argv + 4);
  return fail(std::string("cannot run ") + argv[4] + ": " + std::strerror(errno));
}

void kill_group(const WorkerProcess& process) {
  if (process.pid <= 0) return;  // reaped: the number may be another's now
  if (::kill(-process.pid, SIGKILL) != 0) ::kill(process.pid, SIGKILL);
}

ExitCause reap(WorkerProcess& process) {
  // Before its pid is free for others: until then the group's number is surely still ours.
  ::kill(-process.pid, SIGKILL);
  siginfo_t info{};
  while (waitid(P_PID, static_cast<id_t>(process.pid), &info, WEXITED) != 0)
    if (errno != EINTR) break;
  process.pid = 0;
  return {.by_signal = info.si_code != CLD_EXITED, .code = info.si_status, .out_of_memory = false};
}

OomWatch::OomWatch() {
  std::ifstream groups("/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    const size_t path_at = line.rfind(':') + 1;
    const std::string path = line.substr(path_at);
    const bool is_v2 = line.starts_with("0::");
    const std::string file =
        is_v2 ? "/sys/fs/cgroup" + path + "/memory.events" : "/sys/fs/cgroup/memory" + path + "/memory.oom_control";
    if ((is_v2 || line.find(":memory:") != std::string::npos) && std::filesystem::exists(file)) path_ = file;
  }
  key_ = "oom_kill";
  if (path_.empty()) path_ = "/proc/vmstat";
  last_ = count();
}

int64_t OomWatch::count() const {
  std::ifstream file(path_);
  for (std::string key, value; file >> key >> value;)
    if (key == key_) return std::stoll(value);
  return 0;
}

bool OomWatch::has_moved() {
  const int64_t now = count();
  return now != std::exchange(last_, now);
}

}  // namespace manta::raylet

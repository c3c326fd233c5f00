// The mantads of this machine: started in the background, and ended.
#include "cli/commands.h"
#include "cli/find.h"
#include "common/fd.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

extern char** environ;

namespace manta::cli {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

constexpr milliseconds kLook(50);
constexpr auto kStartPatience = std::chrono::seconds(40);  // a node tries to join for 30 s

struct StartSettings {
  bool is_head = false;
  std::string address;
  std::string keys;
  std::string join_token;
  std::string log;
  std::vector<std::string> rest;
};
struct StopSettings {
  double deadline_s = 150;
  bool force = false;
  uint64_t job = 0;
};

std::string find_mantad() {
  if (const char* named = std::getenv("MANTA_MANTAD"); named != nullptr && *named != '\0') return named;
  std::error_code error;
  const fs::path beside = fs::read_symlink("/proc/self/exe", error).parent_path() / "mantad";
  return !error && fs::exists(beside, error) ? beside.string() : "mantad";
}

std::string text_of(const std::string& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

/// A process of its own session: neither the terminal's end nor its Ctrl-C reaches it.
pid_t spawn_detached(std::vector<std::string> words, const std::string& log) {
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 1, log.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  posix_spawn_file_actions_adddup2(&actions, 1, 2);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID);
  pid_t pid = 0;
  const int error = ::posix_spawnp(&pid, words.front().c_str(), &actions, &attributes, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  if (error != 0) throw Failed("cannot start " + words.front() + ": " + std::strerror(error));
  return pid;
}

/// The line with which mantad says that it serves.
std::string wait_until_it_serves(pid_t pid, const std::string& log) {
  const auto deadline = Clock::now() + kStartPatience;
  while (Clock::now() < deadline) {
    std::stringstream said(text_of(log));
    for (std::string line; std::getline(said, line);)
      if (line.starts_with("mantad: the head listens on ") || line.starts_with("mantad: joined ")) return line;
    int status = 0;
    if (::waitpid(pid, &status, WNOHANG) == pid) throw Failed("mantad ended at once: " + text_of(log));
    ::poll(nullptr, 0, static_cast<int>(kLook.count()));
  }
  throw Failed("mantad (process " + std::to_string(pid) + ") does not say that it serves; what it said is in " + log);
}

void start(const StartSettings& settings) {
  if (!settings.is_head && settings.address.empty())
    throw Failed("say what to start: --head, or --address tcp://HEAD:PORT of the head to join");
  std::vector<std::string> words{find_mantad()};
  if (settings.is_head) {
    words.emplace_back("--head");
  } else {
    words.insert(words.end(), {"--address", settings.address});
  }
  if (!settings.keys.empty()) words.insert(words.end(), {"--keys", settings.keys});
  if (!settings.is_head && !settings.join_token.empty()) words.insert(words.end(), {"--join-token", settings.join_token});
  words.insert(words.end(), settings.rest.begin(), settings.rest.end());
  std::string log = settings.log;
  if (log.empty()) {
    std::error_code error;
    fs::create_directories(sessions_folder(), error);
    fs::permissions(sessions_folder(), fs::perms::owner_all, error);
    log = sessions_folder() + "/mantad-" + std::to_string(::getpid()) + ".said";
  }
  const pid_t pid = spawn_detached(std::move(words), log);
  const std::string line = wait_until_it_serves(pid, log);
  std::printf("%s\nprocess %d; it says more in %s\nstop it with: manta stop\n", line.c_str(), pid, log.c_str());
}

/// The mantad behind a session's socket; 0: none.
pid_t pid_of(const std::string& session) {
  const std::string path = session + "/mantad.sock";
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return 0;
  std::memcpy(address.sun_path, path.data(), path.size());
  const Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket || ::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) return 0;
  ucred peer{};
  socklen_t size = sizeof peer;
  return ::getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.uid == ::getuid() ? peer.pid : 0;
}

// The session of a driver's own mantad ends with the driver.
bool is_of_a_driver(const std::string& session) { return fs::path(session).filename().string().starts_with("session-"); }

void stop(const Where& where, const StopSettings& settings) {
  std::vector<std::string> sessions = where.session.empty() ? local_sessions() : std::vector{where.session};
  if (where.session.empty()) std::erase_if(sessions, is_of_a_driver);
  const auto deadline = Clock::now() + std::chrono::ceil<milliseconds>(std::chrono::duration<double>(settings.deadline_s));
  std::vector<std::pair<pid_t, Fd>> ending;
  for (const std::string& session : sessions) {
    const pid_t pid = pid_of(session);
    if (pid == 0) continue;
    Fd handle(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
    if (!handle) continue;
    ::kill(pid, settings.force ? SIGKILL : SIGTERM);
    ending.emplace_back(pid, std::move(handle));
  }
  if (ending.empty()) throw Failed("no mantad of this user runs here that manta could stop");
  for (const auto& [pid, handle] : ending) {
    pollfd ended{handle.get(), POLLIN, 0};
    const auto left = std::chrono::duration_cast<milliseconds>(deadline - Clock::now());
    if (::poll(&ended, 1, static_cast<int>(std::max<int64_t>(0, left.count()))) != 1)
      throw Failed("mantad (process " + std::to_string(pid) +
                   ") has not ended yet: it finishes what runs; --force ends it now");
    std::printf("stopped mantad (process %d)\n", pid);
  }
}

}  // namespace

void add_start_commands(CLI::App& app, const std::shared_ptr<const Where>& where) {
  auto start_settings = std::make_shared<StartSettings>();
  CLI::App* const start_command = app.add_subcommand("start", "start a mantad of this machine in the background");
  start_command->add_flag("--head", start_settings->is_head, "the first node of a cluster, with its head");
  start_command->add_option("--address", start_settings->address, "the head of the cluster to join: tcp://HOST:PORT")
      ->envname("MANTA_ADDRESS");
  start_command->add_option("--keys", start_settings->keys, "the node's keys folder")->envname("MANTA_KEYS");
  start_command->add_option("--join-token", start_settings->join_token, "the file with a token, for the first time")
      ->envname("MANTA_JOIN_TOKEN");
  start_command->add_option("--log", start_settings->log, "the file for what it says");
  start_command->allow_extras();
  start_command->fallthrough(false);  // what is not its own is mantad's
  start_command->footer("Other flags go to mantad as they are: --listen, --cpus, --gpus, --labels, --state-dir, ...");
  start_command->callback([=] {
    start_settings->rest = start_command->remaining();
    start(*start_settings);
  });
  auto stop_settings = std::make_shared<StopSettings>();
  CLI::App* const stop_command =
      app.add_subcommand("stop", "end the mantads of this machine that you started, in order; or a job");
  CLI::Option* const job = stop_command->add_option("job", stop_settings->job, "the number of a job: only that is stopped");
  stop_command->add_option("--deadline", stop_settings->deadline_s, "seconds to wait for their end")
      ->capture_default_str()
      ->excludes(job);
  stop_command->add_flag("--force", stop_settings->force, "kill them, with what runs on them")->excludes(job);
  stop_command->callback([=] { job->empty() ? stop(*where, *stop_settings) : stop_job(*where, stop_settings->job); });
}

}  // namespace manta::cli

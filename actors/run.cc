#include "actors/fork_server.h"
#include "actors/inline_runtime.h"
#include "actors/local_node.h"
#include "actors/log_printer.h"
#include "actors/node_runtime.h"
#include "actors/travel.h"
#include "actors/worker.h"
#include "common/log.h"

#include <manta/error.h>
#include <manta/run.h>

#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string_view>

namespace manta::detail {
namespace {

constexpr auto kStartTimeout = std::chrono::seconds(15);

// Arguments and results of a hundred kilobytes come and go by the thousand: given back to the kernel after each burst, their
// pages would be taken, zeroed, one fault at a time, in the next.
void keep_memory_warm() {
  constexpr int kKeptBytes = 32 << 20;
  ::mallopt(M_MMAP_THRESHOLD, kKeptBytes / 4);
  ::mallopt(M_TRIM_THRESHOLD, kKeptBytes);
}

int run_program(int argc, char** argv, const std::function<int(int, char**)>& program) {
  try {
    return program(argc, argv);
  } catch (const Error& error) {
    std::fflush(stdout);
    std::fprintf(stderr, "manta: %s\n", error.what());
  } catch (const std::exception& error) {
    std::fflush(stdout);
    std::fprintf(stderr, "manta: the program ended with %s: %s\n", type_name(typeid(error).name()).c_str(), error.what());
  }
  return 1;
}

int run_inline(int argc, char** argv, const std::function<int(int, char**)>& program) {
  InlineRuntime runtime;
  Runtime::install(&runtime);
  const int code = run_program(argc, argv, program);
  Runtime::install(nullptr);
  return code;
}

// ---------------------------------------------------------------------------------------------------- worker

int run_worker(const char* descriptor) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  const char* const token = std::getenv("MANTA_SPAWN_TOKEN");
  wire::Hello hello;
  hello.build_id = build_id();
  hello.pid = ::getpid();
  hello.role = static_cast<uint8_t>(wire::Role::kWorker);
  hello.spawn_token = token != nullptr ? std::strtoull(token, nullptr, 10) : 0;
  Fd socket(std::atoi(descriptor));
  // What the user's code starts is no worker and inherits nothing of ours.
  ::fcntl(socket.get(), F_SETFD, FD_CLOEXEC);
  ::unsetenv("MANTA_WORKER_FD");
  ::unsetenv("MANTA_SPAWN_TOKEN");
  Worker worker;
  return worker.serve(std::move(socket), std::move(hello));
}

// ---------------------------------------------------------------------------------------------------- driver

/// Turns Ctrl-C and SIGTERM into an orderly end, from a thread of its own: the program may be anywhere.
class SignalWatch {
 public:
  explicit SignalWatch(NodeRuntime& runtime, const LocalNode& node) : runtime_(runtime), node_(node) {
    sigemptyset(&signals_);
    sigaddset(&signals_, SIGINT);
    sigaddset(&signals_, SIGTERM);
    sigaddset(&signals_, SIGRTMIN);  // ends the watch itself
    // Blocked before the thread starts, so that threads made later do not take them either.
    ::pthread_sigmask(SIG_BLOCK, &signals_, &before_);
    thread_ = std::thread([this] { watch(); });
  }
  ~SignalWatch() {
    done_ = true;
    ::pthread_kill(thread_.native_handle(), SIGRTMIN);
    thread_.join();
    ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }

 private:
  void watch() {
    while (!done_) {
      int signal = 0;
      ::sigwait(&signals_, &signal);
      if (signal != SIGINT && signal != SIGTERM) continue;
      std::fprintf(stderr, "\nmanta: %s: stopped %s; ending the local node\n",
                   signal == SIGINT ? "interrupted" : "terminated", runtime_.describe_running().c_str());
      std::fflush(nullptr);
      runtime_.say_goodbye(128 + signal);
      wait_for_end(node_);
      runtime_.finish_reading();
      ::_exit(128 + signal);
    }
  }

  NodeRuntime& runtime_;
  const LocalNode& node_;
  sigset_t signals_{};
  sigset_t before_{};
  std::atomic<bool> done_{false};
  std::thread thread_;
};

wire::Hello driver_hello(int argc, char** argv, std::vector<std::string> libraries) {
  wire::Hello hello;
  hello.libraries = std::move(libraries);
  hello.build_id = build_id();
  hello.pid = ::getpid();
  hello.role = static_cast<uint8_t>(wire::Role::kDriver);
  hello.program = program_path();
  for (int i = 1; i < argc; ++i) hello.arguments.emplace_back(argv[i]);
  std::error_code error;
  hello.working_directory = std::filesystem::current_path(error).string();
  hello.job_name = std::filesystem::path(hello.program).filename().string();
  return hello;
}

/// The driver's log stands beside mantad's.
void begin_log(const log::Settings& settings, const LocalNode& node) {
  const std::string& folder = settings.folder.empty() ? node.session_dir : settings.folder;
  log::init_at_first_line({.path = folder + "/driver-" + std::to_string(::getpid()) + ".log", .level = settings.level});
}

int run_driver(int argc, char** argv, const std::function<int(int, char**)>& program, const char* daemon) {
  const Result<log::Settings> log_settings = log::settings_from_environment();
  if (!log_settings.ok()) {
    std::fprintf(stderr, "manta: %s\n", log_settings.status().message().c_str());
    return 2;
  }
  Result<std::vector<std::string>> libraries = libraries_to_bring();
  if (!libraries.ok()) {
    std::fprintf(stderr, "manta: %s\n", libraries.status().message().c_str());
    return 2;
  }
  Result<LocalNode> node = start_local_node(daemon);
  if (!node.ok()) {
    std::fprintf(stderr, "manta: cannot start a local node: %s\n", node.status().to_string().c_str());
    return 1;
  }
  begin_log(*log_settings, *node);
  LogPrinter printer;
  NodeRuntimeOptions options;
  options.socket = std::move(node->socket);
  options.hello = driver_hello(argc, argv, std::move(*libraries));
  options.on_log = [&printer](const wire::LogLines& message) { printer.print(message, std::chrono::steady_clock::now()); };
  options.on_disconnected = [](const Status& cause) { std::fprintf(stderr, "manta: %s\n", cause.to_string().c_str()); };
  Result<std::unique_ptr<NodeRuntime>> runtime = NodeRuntime::connect(std::move(options), kStartTimeout);
  if (!runtime.ok()) {
    std::fprintf(stderr, "manta: cannot start a local node: %s\n", runtime.status().to_string().c_str());
    wait_for_end(*node);
    return 1;
  }
  MANTA_LOG(kInfo, "driver", "connected", {"node", (*runtime)->welcome().raylet_name}, {"session", node->session_dir});
  int code = 1;
  {
    const SignalWatch signals(**runtime, *node);
    Runtime::install(runtime->get());
    (*runtime)->start();
    code = run_program(argc, argv, program);
    std::fflush(nullptr);
    MANTA_LOG(kInfo, "driver", "the program ended", {"code", code});
    log::stop();  // its folder may be gone any moment now
    (*runtime)->say_goodbye(code);
    wait_for_end(*node);
    // What its workers printed last has arrived by now.
    (*runtime)->finish_reading();
    (*runtime)->abandon_calls();
    Runtime::install(nullptr);
  }
  runtime->reset();
  printer.flush();
  return code;
}

/// `--manta-package` or `--manta-package=FILE:FILE` is for us, too.
void take_package_flag(int& argc, char** argv) {
  constexpr std::string_view kFlag = "--manta-package";
  int kept = 1;
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    if (word == kFlag) {
      ::setenv("MANTA_PACKAGE", "1", 1);
    } else if (word.starts_with(kFlag) && word.substr(kFlag.size()).starts_with('=')) {
      ::setenv("MANTA_PACKAGE", argv[i] + kFlag.size() + 1, 1);
    } else {
      argv[kept++] = argv[i];
    }
  }
  argc = std::min(argc, kept);
  argv[argc] = nullptr;
}

/// `--manta-address X` or `--manta-address=X` is for us, not for the program: it stands for MANTA_ADDRESS.
void take_flag(std::string_view flag, const char* variable, int& argc, char** argv) {
  int kept = 1;
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    if (word == flag && i + 1 < argc) {
      ::setenv(variable, argv[++i], 1);
    } else if (word.starts_with(flag) && word.substr(flag.size()).starts_with('=')) {
      ::setenv(variable, argv[i] + flag.size() + 1, 1);
    } else {
      argv[kept++] = argv[i];
    }
  }
  argc = std::min(argc, kept);
  argv[argc] = nullptr;
}

}  // namespace

int run_main(int argc, char** argv, const std::function<int(int, char**)>& program, const char* daemon) {
  if (const char* descriptor = std::getenv("MANTA_FORK_SERVER_FD"))
    if (!serve_forks(Fd(std::atoi(descriptor)))) ::_exit(0);  // what follows manta::run is not for it
  keep_memory_warm();
  if (const Status came = check_libraries_came_first(); !came.ok()) {
    std::fprintf(stderr, "manta: %s\n", came.message().c_str());
    return 2;
  }
  if (const char* descriptor = std::getenv("MANTA_WORKER_FD")) return run_worker(descriptor);
  const char* const mode = std::getenv("MANTA_MODE");
  if (mode != nullptr && std::string_view(mode) == "inline") return run_inline(argc, argv, program);
  if (mode != nullptr && *mode != '\0' && std::string_view(mode) != "local") {
    std::fprintf(stderr, "manta: MANTA_MODE is \"%s\"; it may be \"inline\", \"local\" or unset\n", mode);
    return 2;
  }
  take_flag("--manta-address", "MANTA_ADDRESS", argc, argv);
  take_flag("--manta-quota", "MANTA_QUOTA", argc, argv);
  take_package_flag(argc, argv);
  return run_driver(argc, argv, program, daemon);
}

}  // namespace manta::detail

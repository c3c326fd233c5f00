// A program for tests of submitted jobs. What it does is its first word:
//
//   lines N PAUSE_MS CODE     prints N numbered lines, and exits with CODE
//   note FILE PAUSE_MS        adds a line to the file
//   sum                       one task on the cluster
//   die FILE                  kills itself the first time: the file says whether it is
//   look                      what it finds around itself
//   spy PATH...               as whom it runs here and in a task, and which of these it can open
//   leave NAME / meet NAME    a detached actor that counts
#include <manta/manta.h>

#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

int sum(int a, int b) { return a + b; }

struct Counter {
  int count = 0;
  int add(int by) { return count += by; }
};

/// "uid 1 groups 2 can 0 of 3"
std::string spy(std::vector<std::string> paths) {
  int opened = 0;
  for (const std::string& path : paths) {
    std::error_code error;
    const bool is_listed = std::filesystem::directory_iterator(path, error) != std::filesystem::directory_iterator();
    if (is_listed || std::ifstream(path).get() != EOF) ++opened;
  }
  return "uid " + std::to_string(::getuid()) + " of " + std::to_string(::geteuid()) + " groups " +
         std::to_string(::getgroups(0, nullptr)) + " opened " + std::to_string(opened) + " of " +
         std::to_string(paths.size()) + " root " + std::to_string(::setuid(0));
}

namespace {

void pause(const char* ms) { std::this_thread::sleep_for(std::chrono::milliseconds(std::atoi(ms))); }

int look() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with("NoNewPrivs")) std::printf("%s\n", line.c_str());
  const char* const color = std::getenv("COLOR");
  std::printf("color %s\nfolder %s\nfiles %d\n", color != nullptr ? color : "none", std::filesystem::current_path().c_str(),
              static_cast<int>(std::distance(std::filesystem::directory_iterator("."), {})));
  return 0;
}

}  // namespace

int program(int argc, char** argv) {
  const std::string what = argc > 1 ? argv[1] : "";
  if (what == "lines" && argc > 4) {
    for (int i = 0; i < std::atoi(argv[2]); ++i) {
      std::printf("line %07d\n", i);
      if (std::atoi(argv[3]) > 0) std::fflush(stdout), pause(argv[3]);
    }
    return std::atoi(argv[4]);
  }
  if (what == "note" && argc > 3) {
    std::ofstream(argv[2], std::ios::app) << "ran\n";
    pause(argv[3]);
    return 0;
  }
  if (what == "sum") {
    std::printf("the sum is %d\n", manta::remote<&sum>(40, 2).get());
    return 0;
  }
  if (what == "die" && argc > 2) {
    std::printf("here as %d\n", ::getpid());
    std::fflush(stdout);
    if (std::filesystem::exists(argv[2])) return 0;
    std::ofstream(argv[2]) << "died\n";
    ::raise(SIGKILL);
  }
  if (what == "look") return look();
  if (what == "spy") {
    const std::vector<std::string> paths(argv + 2, argv + argc);
    std::printf("driver: %s\n", spy(paths).c_str());
    std::vector<manta::Ref<std::string>> tasks;
    for (int i = 0; i < 6; ++i) tasks.push_back(manta::remote<&spy>(paths));
    for (auto& task : tasks) std::printf("task: %s\n", task.get().c_str());
    std::ofstream("mine") << "a file of its own";
    std::printf("wrote %d\n", static_cast<int>(std::filesystem::file_size("mine")));
    std::filesystem::remove("mine");
    return 0;
  }
  if ((what == "leave" || what == "meet") && argc > 2) {
    const manta::Actor<Counter> counter = what == "leave" ? manta::spawn<Counter>.with({.name = argv[2], .detached = true})()
                                                          : manta::get_actor<Counter>(argv[2]);
    std::printf("the count is %d\n", counter.call<&Counter::add>(1).get());
    return 0;
  }
  std::fprintf(stderr, "it does not know '%s'\n", what.c_str());
  return 2;
}

int main(int argc, char** argv) { return manta::run(argc, argv, program); }

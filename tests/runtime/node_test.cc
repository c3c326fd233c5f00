// What a node does for its processes, on a real one: logs, workers that start by forking, the memory monitor.
#include "tests/runtime/program.h"

#include <gtest/gtest.h>
#include <spawn.h>
#include <sys/wait.h>

#include <filesystem>
#include <set>
#include <sstream>

namespace program {
namespace {

using namespace std::chrono_literals;

std::filesystem::path log_folder() { return std::getenv("MANTA_LOG_DIR"); }

/// All that the files with this beginning and ending hold.
std::string logs(const std::string& beginning, const std::string& ending = ".log") {
  std::ostringstream text;
  for (const auto& entry : std::filesystem::directory_iterator(log_folder())) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with(beginning) && name.ends_with(ending)) text << std::ifstream(entry.path()).rdbuf();
  }
  return text.str();
}
bool comes_into(const std::string& beginning, const std::string& words, const std::string& ending = ".log") {
  for (int i = 0; i < 500; ++i) {
    if (logs(beginning, ending).find(words) != std::string::npos) return true;
    std::this_thread::sleep_for(10ms);
  }
  ADD_FAILURE() << "'" << words << "' is not in: " << logs(beginning, ending);
  return false;
}

/// This program once more, with a variable set: its exit code.
int run_again(const char* variable, const char* value, const std::string& test) {
  const char* const before = std::getenv(variable);
  const std::string kept = before == nullptr ? "" : before;
  ::setenv(variable, value, 1);
  std::string program = std::filesystem::read_symlink("/proc/self/exe");
  std::string also = "--gtest_also_run_disabled_tests";
  std::string filter = "--gtest_filter=" + test;
  char* const words[] = {program.data(), also.data(), filter.data(), nullptr};
  pid_t pid = 0;
  EXPECT_EQ(::posix_spawn(&pid, program.c_str(), nullptr, nullptr, words, environ), 0);
  if (before == nullptr) {
    ::unsetenv(variable);
  } else {
    ::setenv(variable, kept.c_str(), 1);
  }
  int status = -1;
  EXPECT_EQ(::waitpid(pid, &status, 0), pid);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(Logs, ALevelOfNoNameIsRefusedAtTheStart) { EXPECT_EQ(run_again("MANTA_LOG_LEVEL", "loud", "Logs.None"), 2); }

TEST(Logs, SayWhatHappened) {
  const auto counter = manta::spawn<Counter>();
  const std::string pid = std::to_string(counter.call<&Counter::pid>().get());
  EXPECT_FALSE(counter.call<&Counter::fail>("on purpose").result().ok());
  EXPECT_TRUE(comes_into("driver-", "driver: connected node=\"mantad "));
  EXPECT_TRUE(comes_into("mantad-", "raylet: node started cpus="));
  EXPECT_TRUE(comes_into("mantad-", "raylet: driver joined pid=" + std::to_string(::getpid())));
  EXPECT_TRUE(comes_into("mantad-", " pid=" + pid));
  EXPECT_TRUE(comes_into("mantad-", "raylet: actor is alive actor=" + counter.id().to_string()));
  EXPECT_TRUE(comes_into("worker-" + pid, "worker: became an actor class="));
  EXPECT_TRUE(comes_into("worker-" + pid, "worker: call failed what="));
  EXPECT_FALSE(counter.call<&Counter::crash>().result().ok());
  EXPECT_TRUE(comes_into("mantad-", "raylet: worker ended token="));
  EXPECT_TRUE(comes_into("mantad-", "raylet: actor died actor=" + counter.id().to_string()));
  EXPECT_TRUE(comes_into("driver-", "owner: actor died actor=" + counter.id().to_string()));
}

TEST(Logs, SayThatACallIsRetried) {
  const std::string path = log_folder() / "attempts";
  EXPECT_EQ(manta::remote<&dies_until>.with({.retries = 1})(path, 2, SIGKILL).get(), 2);
  EXPECT_TRUE(comes_into("driver-", "owner: call retried"));
  EXPECT_TRUE(comes_into("mantad-", "killed by signal 9 (SIGKILL)"));
}

void say(const std::string& words) { std::puts(words.c_str()); }

TEST(Logs, KeepWhatWorkersPrint) {
  manta::remote<&say>("printed for the file").get();
  EXPECT_TRUE(comes_into("worker-", "printed for the file", ".out"));
}

struct Family {
  std::vector<int> ids() const { return {::getpid(), ::getppid(), ::getpgrp()}; }
  void die() { ::raise(SIGKILL); }
  std::string environment(const std::string& name) { return program::environment(name); }
};

TEST(Workers, BeyondTheFirstStartByForking) {
  constexpr int kMany = 100;
  std::vector<manta::Actor<Family>> actors;
  for (int i = 0; i < kMany; ++i) actors.push_back(manta::spawn<Family>.with({.cpus = 0.0})());
  std::vector<manta::Ref<std::vector<int>>> answers;
  for (const auto& actor : actors) answers.push_back(actor.call<&Family::ids>());
  std::set<int> pids, parents;
  for (const auto& answer : answers) {
    const std::vector<int> ids = answer.get();
    pids.insert(ids[0]);
    parents.insert(ids[1]);
    EXPECT_EQ(ids[0], ids[2]) << "each leads a process group of its own";
  }
  EXPECT_EQ(pids.size(), size_t{kMany});
  EXPECT_EQ(parents.size(), 1u) << "all are children of mantad, which waits for them";
  EXPECT_TRUE(comes_into("mantad-", "raylet: fork server started"));
  EXPECT_EQ(logs("mantad-").find("no fork server"), std::string::npos);
  // What a forked worker ends by is told as exactly as for any other.
  const manta::Status died = actors[kMany - 1].call<&Family::die>().result();
  EXPECT_EQ(died.code(), manta::Code::kDied);
  EXPECT_NE(died.message().find("killed by signal 9 (SIGKILL)"), std::string::npos) << died.message();
  // The marks by which a worker knows itself are gone, as in a spawned one.
  EXPECT_EQ(actors[kMany - 2].call<&Family::environment>("MANTA_FORK_SERVER_FD").get(), "");
  EXPECT_EQ(actors[kMany - 2].call<&Family::environment>("MANTA_WORKER_FD").get(), "");
}

std::vector<manta::Actor<Family>> more_actors(int count) {
  std::vector<manta::Actor<Family>> actors;
  for (int i = 0; i < count; ++i) actors.push_back(manta::spawn<Family>.with({.cpus = 0.0})());
  for (const auto& actor : actors) EXPECT_FALSE(actor.call<&Family::ids>().get().empty());
  return actors;
}

TEST(Workers, StartAlsoWhenTheForkServerIsGone) {
  const auto before = more_actors(10);
  const std::string log = logs("mantad-");
  const std::string words = "fork server started pid=";
  const int server = std::stoi(log.substr(log.rfind(words) + words.size()));
  ASSERT_EQ(::kill(server, SIGKILL), 0);
  const auto after = more_actors(30);
  EXPECT_TRUE(comes_into("mantad-", "raylet: no fork server"));
  EXPECT_FALSE(before[9].call<&Family::ids>().get().empty()) << "what it made lives on";
}

/// Run by the next test, in a program that has a thread before manta::run.
TEST(Workers, DISABLED_OfAProgramWithAThread) { more_actors(20); }

TEST(Workers, OfAProgramWithThreadsAreSpawned) {
  EXPECT_EQ(run_again("MANTA_TEST_THREAD", "1", "Workers.DISABLED_OfAProgramWithAThread"), 0);
  EXPECT_TRUE(comes_into("mantad-", " threads before manta::run"));
}

TEST(Workers, OfAnEnvironmentOfTheirOwnAreStartedWithIt) {
  const auto actor = manta::spawn<Family>.with({.cpus = 0.0, .env = {{"FLAVOUR", "salt"}}})();
  EXPECT_EQ(actor.call<&Family::environment>("FLAVOUR").get(), "salt");
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int64_t kMemoryBytes = int64_t{3} << 30;  // shadow memory counts as the workers'
#else
constexpr int64_t kMemoryBytes = int64_t{400} << 20;
#endif

/// Takes a little more all the time.
int take_memory(int mebibytes) {
  std::vector<std::string> taken;
  for (int i = 0; i < mebibytes; i += 20) {
    taken.emplace_back(20 << 20, 'x');
    std::this_thread::sleep_for(5ms);
  }
  std::this_thread::sleep_for(60s);
  return static_cast<int>(taken.size());
}

TEST(Memory, ATaskThatTakesTooMuchIsNamedInItsError) {
  const manta::Status status =
      manta::remote<&take_memory>.with({.retries = 0})(static_cast<int>((kMemoryBytes >> 20) * 3 / 2)).result().status();
  EXPECT_EQ(status.code(), manta::Code::kDied);
  EXPECT_NE(status.message().find("take_memory"), std::string::npos) << status.message();
  EXPECT_NE(status.message().find("killed by the memory monitor: peak"), std::string::npos) << status.message();
  EXPECT_EQ(manta::remote<&twice<int>>(2).get(), 4) << "the node goes on";
}

}  // namespace
}  // namespace program

// The driver chooses where the logs lie; in its workers the variable is set already.
int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  if (std::getenv("MANTA_TEST_THREAD") != nullptr) std::thread([] { ::pause(); }).detach();
  std::string folder;
  if (std::getenv("MANTA_LOG_DIR") == nullptr) {
    folder = (std::filesystem::temp_directory_path() / "manta-node-test-XXXXXX").string();
    if (::mkdtemp(folder.data()) == nullptr) return 1;
    ::setenv("MANTA_LOG_DIR", folder.c_str(), 1);
    ::setenv("MANTA_LOG_LEVEL", "debug", 1);
    ::setenv("MANTA_MEMORY_BYTES", std::to_string(program::kMemoryBytes).c_str(), 1);
  }
  const int code = manta::run(argc, argv, [] { return RUN_ALL_TESTS(); });
  if (!folder.empty()) std::filesystem::remove_all(folder);
  return code;
}

// What a node does for its processes, on a real one: logs.
#include "tests/runtime/program.h"

#include <gtest/gtest.h>

#include <filesystem>
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

}  // namespace
}  // namespace program

// The driver chooses where the logs lie; in its workers the variable is set already.
int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  std::string folder;
  if (std::getenv("MANTA_LOG_DIR") == nullptr) {
    folder = (std::filesystem::temp_directory_path() / "manta-node-test-XXXXXX").string();
    if (::mkdtemp(folder.data()) == nullptr) return 1;
    ::setenv("MANTA_LOG_DIR", folder.c_str(), 1);
    ::setenv("MANTA_LOG_LEVEL", "debug", 1);
  }
  const int code = manta::run(argc, argv, [] { return RUN_ALL_TESTS(); });
  if (!folder.empty()) std::filesystem::remove_all(folder);
  return code;
}

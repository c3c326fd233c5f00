#include "raylet/memory_watch.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace manta::raylet {
namespace {

/// /proc and /sys/fs/cgroup, invented.
class MemoryWatchTest : public ::testing::Test {
 protected:
  MemoryWatchTest() {
    root = (std::filesystem::temp_directory_path() / "manta-memory-XXXXXX").string();
    EXPECT_NE(mkdtemp(root.data()), nullptr);
    put("proc/self/cgroup", "0::/\n");
    put("proc/meminfo", "MemTotal:  1000 kB\nMemFree: 1 kB\nMemAvailable:  100 kB\n");
    put("proc/41/statm", "900 70 20 5 0 60 0\n");
    put("proc/41/status", "Name:\tx\nVmPeak:\t 99 kB\nVmHWM:\t    80 kB\n");
  }
  ~MemoryWatchTest() override { std::filesystem::remove_all(root); }
  void put(const std::string& path, const std::string& text) {
    std::filesystem::create_directories(std::filesystem::path(root + "/" + path).parent_path());
    std::ofstream(root + "/" + path) << text;
  }
  std::optional<MemorySampled> sample(int64_t limit_bytes = 0) {
    return MemoryWatch(limit_bytes, root + "/proc", root + "/cg").sample({{WorkerToken{1}, 41}, {WorkerToken{2}, 42}});
  }
  std::string root;
};

TEST_F(MemoryWatchTest, ReadsTheMachine) {
  const auto now = sample();
  ASSERT_TRUE(now);
  EXPECT_EQ(now->limit_bytes, 1000 * 1024);
  EXPECT_EQ(now->used_bytes, 900 * 1024);
  EXPECT_EQ(now->whose, "the machine");
  ASSERT_EQ(now->workers.size(), 2u);
  for (const WorkerMemory& worker : now->workers)
    EXPECT_EQ(worker.bytes, worker.token.value == 1 ? 50 * sysconf(_SC_PAGESIZE) : 0) << "42 has ended meanwhile";
}

TEST_F(MemoryWatchTest, LooksAtNoWorkerWhileThereIsPlenty) {
  put("proc/meminfo", "MemTotal:  1000 kB\nMemAvailable:  900 kB\n");
  EXPECT_TRUE(sample()->workers.empty());
}

TEST_F(MemoryWatchTest, AnOwnLimitCountsTheWorkers) {
  const int64_t used = 50 * sysconf(_SC_PAGESIZE);
  const auto now = sample(used);
  EXPECT_EQ(now->used_bytes, used);
  EXPECT_EQ(now->limit_bytes, used);
  for (const WorkerMemory& worker : now->workers)
    if (worker.token.value == 1) {
      EXPECT_EQ(worker.peak_bytes, 80 * 1024);
    }
}

TEST_F(MemoryWatchTest, AFullerCgroupCountsMoreThanTheMachine) {
  put("cg/memory.max", "500000\n");
  put("cg/memory.current", "499000\n");
  put("cg/memory.stat", "anon 1\ninactive_file 9000\n");
  auto now = sample();
  EXPECT_EQ(now->used_bytes, 490'000);
  EXPECT_EQ(now->whose, "the memory cgroup");
  put("cg/memory.max", "max\n");
  now = sample();
  EXPECT_EQ(now->whose, "the machine");
}

TEST_F(MemoryWatchTest, UnderstandsTheOldCgroups) {
  put("proc/self/cgroup", "4:memory:/box\n0::/\n");
  put("cg/memory/box/memory.limit_in_bytes", "500000\n");
  put("cg/memory/box/memory.usage_in_bytes", "499000\n");
  put("cg/memory/box/memory.stat", "cache 7\ntotal_inactive_file 0\n");
  EXPECT_EQ(sample()->used_bytes, 499'000);
}

TEST_F(MemoryWatchTest, NonsenseIsNoSample) {
  put("proc/meminfo", "nothing of use");
  EXPECT_FALSE(sample());
}

}  // namespace
}  // namespace manta::raylet

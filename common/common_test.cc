#include "common/check.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/metrics.h"
#include "common/random.h"
#include "common/shared_memory.h"

#include <manta/ids.h>

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <thread>

namespace manta {
namespace {

std::string read(const std::filesystem::path& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

class LogTest : public testing::Test {
 protected:
  LogTest() { std::filesystem::create_directories(folder_); }
  ~LogTest() override {
    log::set_level(log::Level::kOff);
    std::filesystem::remove_all(folder_);
  }
  std::filesystem::path folder_ = std::filesystem::temp_directory_path() / ("manta-log-" + std::to_string(random_id()));
};

TEST_F(LogTest, LinesCarryFieldsAndStayLines) {
  ASSERT_TRUE(log::init({.path = folder_ / "a.log"}).ok());
  MANTA_LOG(kInfo, "raylet", "worker started", {"pid", 12}, {"idle", true}, {"lease", LeaseId{7}},
            {"said", "two words\n\"x\""});
  int evaluated = 0;
  MANTA_LOG(kDebug, "raylet", "too fine", {"n", ++evaluated});
  std::string text = read(folder_ / "a.log");
  EXPECT_NE(text.find("raylet: worker started pid=12 idle=true lease=0000000000000007 said=\"two words\\n\\\"x\\\"\"\n"),
            std::string::npos)
      << text;
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1);
  EXPECT_EQ(evaluated, 0);
  log::set_level(log::Level::kDebug);
  MANTA_LOG(kDebug, "raylet", "fine");
  EXPECT_NE(read(folder_ / "a.log").find("raylet: fine"), std::string::npos);
}

TEST_F(LogTest, FilesRotateAtTheirBound) {
  ASSERT_TRUE(log::init({.path = folder_ / "a.log", .max_file_bytes = 4'000, .max_files = 2}).ok());
  for (int i = 0; i < 500; ++i) MANTA_LOG(kInfo, "test", std::string(100, 'x'));
  uint64_t bytes = 0, files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder_)) bytes += entry.file_size(), ++files;
  EXPECT_EQ(files, 3u);
  EXPECT_LE(bytes, 3u * 4'200);
}

TEST_F(LogTest, AFileThatCannotBeIsAStatus) {
  std::ofstream(folder_ / "file") << "x";
  EXPECT_EQ(log::init({.path = folder_ / "file" / "a.log"}).code(), Code::kIo);
}

TEST_F(LogTest, TheFirstLineOpensTheFile) {
  log::init_at_first_line({.path = folder_ / "a.log", .level = log::Level::kInfo});
  MANTA_LOG(kDebug, "test", "too fine");
  EXPECT_FALSE(std::filesystem::exists(folder_ / "a.log"));
  MANTA_LOG(kInfo, "test", "first");
  EXPECT_NE(read(folder_ / "a.log").find("test: first"), std::string::npos);
}

TEST_F(LogTest, ALogThatCannotBeWrittenIsSilent) {
  testing::internal::CaptureStderr();
  log::init_at_first_line({.path = folder_ / "gone" / "a.log"});
  MANTA_LOG(kError, "test", "nobody hears it");
  ASSERT_TRUE(log::init({.path = "/dev/full"}).ok());
  for (int i = 0; i < 10; ++i) MANTA_LOG(kError, "test", "the disk is full");
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
  EXPECT_FALSE(std::filesystem::exists(folder_ / "gone")) << "a session's folder that is gone stays gone";
}

TEST_F(LogTest, NothingIsWrittenAfterStop) {
  log::init_at_first_line({.path = folder_ / "a.log"});
  log::stop();
  MANTA_LOG(kError, "test", "late");
  log::set_level(log::Level::kInfo);
  MANTA_LOG(kError, "test", "later");
  EXPECT_FALSE(std::filesystem::exists(folder_ / "a.log"));
}

TEST_F(LogTest, TheEnvironmentSaysLevelAndFolder) {
  ::unsetenv("MANTA_LOG_DIR");
  ::unsetenv("MANTA_LOG_LEVEL");
  EXPECT_EQ(log::settings_from_environment()->level, log::Level::kInfo);
  EXPECT_EQ(log::settings_from_environment()->folder, "");
  ::setenv("MANTA_LOG_LEVEL", "debug", 1);
  ::setenv("MANTA_LOG_DIR", (folder_ / "x" / "y").c_str(), 1);
  EXPECT_EQ(log::settings_from_environment()->level, log::Level::kDebug);
  EXPECT_TRUE(std::filesystem::is_directory(folder_ / "x" / "y"));
  ::setenv("MANTA_LOG_LEVEL", "loud", 1);
  const Status bad = log::settings_from_environment().status();
  EXPECT_EQ(bad.code(), Code::kInvalid);
  EXPECT_NE(bad.message().find("MANTA_LOG_LEVEL: no log level 'loud'"), std::string::npos) << bad.message();
  ::unsetenv("MANTA_LOG_LEVEL");
  std::ofstream(folder_ / "file") << "x";
  ::setenv("MANTA_LOG_DIR", (folder_ / "file" / "y").c_str(), 1);
  EXPECT_EQ(log::settings_from_environment().status().code(), Code::kIo);
  ::unsetenv("MANTA_LOG_DIR");
}

TEST_F(LogTest, ManyThreadsWriteWholeLines) {
  ASSERT_TRUE(log::init({.path = folder_ / "a.log"}).ok());
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([] {
      for (int i = 0; i < 500; ++i) MANTA_LOG(kInfo, "test", "line", {"i", i});
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::string text = read(folder_ / "a.log");
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 2'000);
}

TEST(Log, LevelsHaveNames) {
  EXPECT_EQ(log::parse_level("warn").value(), log::Level::kWarn);
  EXPECT_EQ(log::parse_level("loud").status().code(), Code::kInvalid);
}

TEST(Metrics, CountAndPrint) {
  Metrics metrics;
  Counter& calls = metrics.counter("calls_total", "Calls made.");
  calls.add();
  metrics.counter("calls_total").add(2);
  metrics.gauge("queue_tasks").set(-3);
  metrics.gauge("queue_tasks").add(1);
  EXPECT_EQ(calls.value(), 3u);
  EXPECT_EQ(metrics.prometheus_text(),
            "# HELP calls_total Calls made.\n# TYPE calls_total counter\ncalls_total 3\n# TYPE queue_tasks "
            "gauge\nqueue_tasks -2\n");
  ASSERT_EQ(metrics.samples().size(), 2u);
  EXPECT_EQ(metrics.samples()[1].value, -2);
}

TEST(Random, SeedsReplayAndIdsDiffer) {
  Random a(5), b(5), c(6);
  bool differs = false;
  for (int i = 0; i < 100; ++i) {
    uint64_t drawn = a();
    EXPECT_EQ(drawn, b());
    differs = differs || drawn != c();
    EXPECT_LT(a.below(7), 7u);
    (void)b.below(7);
    double fraction = a.fraction();
    EXPECT_GE(fraction, 0);
    EXPECT_LT(fraction, 1);
    (void)b.fraction();
  }
  EXPECT_TRUE(differs);
  std::set<uint64_t> ids;
  for (int i = 0; i < 1'000; ++i) ids.insert(random_id());
  EXPECT_EQ(ids.size(), 1'000u);
}

TEST(Clock, AFakeOneMovesByHand) {
  FakeClock clock;
  Time start = clock.now();
  EXPECT_EQ(clock.now(), start);
  clock.advance(std::chrono::milliseconds(5));
  EXPECT_EQ(clock.now() - start, std::chrono::milliseconds(5));
  Time real = Clock::real().now();
  EXPECT_LE(real, Clock::real().now());
}

TEST(SharedMemory, IsSealedAndMapped) {
  Fd file = create_shared_memory("test", 8192).value();
  EXPECT_TRUE(check_sealed(file, 8192).ok());
  EXPECT_EQ(check_sealed(file, 4096).code(), Code::kInvalid);
  EXPECT_EQ(check_sealed(Fd(::memfd_create("loose", MFD_CLOEXEC)), 0).code(), Code::kInvalid);
  EXPECT_EQ(check_sealed(Fd(::socket(AF_UNIX, SOCK_STREAM, 0)), 0).code(), Code::kInvalid);
  Mapping writer = Mapping::map(file, 8192, Mapping::Access::kReadWrite).value();
  std::memset(writer.data(), 5, 8192);
  Fd read_only = reopen_read_only(file).value();
  Mapping reader = Mapping::map(read_only, 8192, Mapping::Access::kReadOnly).value();
  EXPECT_EQ(reader.data()[8191], std::byte{5});
  EXPECT_EQ(Mapping::map(read_only, 8192, Mapping::Access::kReadWrite).status().code(), Code::kIo);
  Mapping moved = std::move(writer);
  EXPECT_FALSE(writer);  // NOLINT(bugprone-use-after-move): that it is empty is the point
  EXPECT_TRUE(moved);
}

TEST(Status, CarriesContextAndOrigin) {
  Status status = Status(Code::kLost, "gone").with_origin_type("E").with_context("object 7");
  EXPECT_EQ(status.to_string(), "lost: object 7: gone");
  EXPECT_EQ(status.origin_type(), "E");
  EXPECT_TRUE(Status().with_context("x").ok());
  Result<int> from_ok = Status();
  EXPECT_EQ(from_ok.status().code(), Code::kInternal);
}

TEST(Ids, PrintAndHash) {
  EXPECT_EQ((ObjectId{0xab, 5}).to_string(), "00000000000000ab-5");
  EXPECT_FALSE(ProcessId{});
  EXPECT_EQ(owner_of(ObjectId{9, 1}), ProcessId{9});
}

}  // namespace
}  // namespace manta

// Pipelines on a real local node: rows through shared memory between processes, kills of actors and of the driver, small
// stores.
//
// The same program is driver, worker, and (with --job NAME FOLDER) a driver of its own that a test can kill or squeeze.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <manta/data.h>
#include <manta/manta.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <atomic>
#include <csignal>
#include <cstdio>
#include <fstream>
#include <random>
#include <set>
#include <thread>

#include "data/test_files.h"

namespace program {
namespace {

using manta::Batch;
using manta::Code;
using manta::data::must;
using manta::data::TestFolder;
using testing::HasSubstr;
using namespace std::chrono_literals;

const manta::ExecutionOptions kQuiet{.progress = false};
std::string g_program;

// ---- What runs remotely.

Batch with_shifted_ids(const Batch& batch, int64_t by) {
  const auto& ids = static_cast<const arrow::Int64Array&>(*batch->column(0));
  arrow::Int64Builder out;
  for (int64_t i = 0; i < ids.length(); ++i) must(out.Append(ids.Value(i) + by));
  return must(batch->SetColumn(0, batch->schema()->field(0), must(out.Finish())));
}

/// Leaves its process id in a folder, takes its time, and shifts the ids.
class Shift {
 public:
  Shift(std::string pids, int64_t by, int nap_ms) : by_(by), nap_ms_(nap_ms) {
    std::ofstream(pids + "/" + std::to_string(::getpid())) << "x";
  }
  Batch operator()(const Batch& batch) {
    std::this_thread::sleep_for(std::chrono::milliseconds(nap_ms_));
    return with_shifted_ids(batch, by_);
  }

 private:
  int64_t by_;
  int nap_ms_;
};

/// Refuses a batch whose columns are not views of memory mapped from a file or memfd.
struct WantsSharedMemory {
  Batch operator()(const Batch& batch) {
    const auto address = reinterpret_cast<uintptr_t>(batch->column_data(0)->buffers[1]->data());
    std::ifstream maps("/proc/self/maps");
    for (std::string line; std::getline(maps, line);) {
      uintptr_t from = 0, to = 0;
      if (std::sscanf(line.c_str(), "%lx-%lx", &from, &to) != 2 || address < from || address >= to) continue;
      if (line.find("memfd:") != std::string::npos && line.find(" r--s ") != std::string::npos) return batch;
      throw std::runtime_error("the column is in " + line);
    }
    throw std::runtime_error("the column is nowhere");
  }
};

bool is_third(const arrow::RecordBatch& batch, int64_t row) {
  return static_cast<const arrow::Int64Array&>(*batch.column(0)).Value(row) % 3 == 0;
}

/// Rows of a kilobyte.
Batch fatten(const Batch& batch) {
  arrow::StringBuilder builder;
  const std::string text(1000, 'x');
  for (int64_t i = 0; i < batch->num_rows(); ++i) must(builder.Append(text));
  return must(batch->AddColumn(1, "fat", must(builder.Finish())));
}

// ---- Helpers.

std::string corpus(const TestFolder& folder, int64_t rows, int files) {
  for (int i = 0; i < files; ++i) {
    const int64_t first = rows * i / files, end = rows * (i + 1) / files;
    manta::data::write_file(folder / ("in/" + std::to_string(i) + ".parquet"),
                            manta::data::table_of({manta::data::varied_batch(first, end - first)}), 1000);
  }
  return folder / "in/*.parquet";
}

std::shared_ptr<arrow::Table> expected_rows(int64_t rows, int64_t shift) {
  return manta::data::table_of({with_shifted_ids(manta::data::varied_batch(0, rows), shift)});
}

std::set<int> pids_in(const std::string& folder) {
  std::set<int> pids;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    pids.insert(std::stoi(entry.path().filename().string()));
  return pids;
}
bool is_alive(int pid) { return ::kill(pid, 0) == 0; }

template <typename F>
manta::Status status_of(F&& f) {
  try {
    f();
  } catch (const manta::Error& error) {
    return error.status();
  }
  ADD_FAILURE() << "no error";
  return {};
}

/// This program as a driver of its own.
int start_job(const std::string& name, const std::string& folder, const std::vector<std::string>& environment,
              const std::string& errors) {
  const int pid = ::fork();
  if (pid != 0) return pid;
  for (const std::string& entry : environment) ::putenv(const_cast<char*>(entry.c_str()));
  if (std::freopen(errors.c_str(), "w", stderr) == nullptr) ::_exit(99);
  ::execl(g_program.c_str(), g_program.c_str(), "--job", name.c_str(), folder.c_str(), nullptr);
  ::_exit(98);
}
std::string text_of(const std::string& path) {
  std::ifstream in(path);
  return {std::istreambuf_iterator<char>(in), {}};
}
int64_t peak_memory_kib() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) return std::stoll(line.substr(6));
  }
  return -1;
}

// ---- The jobs that a test runs as a driver of their own.

int run_job(const std::string& name, const std::string& folder) {
  const auto input = manta::read_parquet(folder + "/in/*.parquet").with(kQuiet);
  if (name == "slow") {
    std::filesystem::create_directory(folder + "/pids");
    input.map_batches<Shift>({.batch_size = 100, .pool = {.min = 2, .max = 2}}, folder + "/pids", 1, 20)
        .write_parquet(folder + "/out")
        .run();
  } else if (name == "big block") {
    (void)input.map_batches<&fatten>({.batch_size = 100'000}).write_parquet(folder + "/out").run();
  } else if (name == "big input") {
    const auto result = manta::range(1'000'000)
                            .map_batches<&fatten>({.batch_size = 2'000})
                            .filter<&is_third>()
                            .with(kQuiet)
                            .write_parquet(folder + "/out", {.file_bytes = 8 << 20})
                            .run();
    std::ofstream(folder + "/peak") << result.rows << " " << peak_memory_kib();
  } else if (name == "small batches") {
    const auto result =
        manta::range(400'000).map_batches<&fatten>({.batch_size = 50}).with(kQuiet).write_parquet(folder + "/out").run();
    std::ofstream(folder + "/peak") << result.rows << " " << peak_memory_kib();
  }
  return 0;
}

// ---- The tests.

TEST(Data, RowsGoThroughThePoolInOrderAndOnce) {
  const TestFolder folder;
  const std::string in = corpus(folder, 20'000, 3);
  std::filesystem::create_directory(folder / "pids");
  const auto result =
      manta::read_parquet(in, {.block_bytes = 100'000})
          .map_batches<Shift>({.batch_size = 333, .cpus = 0, .pool = {.min = 1, .max = 3}}, folder / "pids", 5, 5)
          .with(kQuiet)
          .write_parquet(folder / "out", {.file_bytes = 400'000})
          .run();
  EXPECT_EQ(result.rows, 20'000);
  EXPECT_GT(result.files, 1);
  EXPECT_EQ(pids_in(folder / "pids").size(), 3u) << "the pool grows with the queue";
  EXPECT_TRUE(manta::data::same_rows(*manta::data::read_folder(folder / "out"), *expected_rows(20'000, 5)));
  EXPECT_EQ(folder.list(), (std::vector<std::string>{"in", "out", "pids"}));
}

TEST(Data, BlocksAreReadInPlace) {
  const auto count =
      manta::range(1'000'000).map_batches<WantsSharedMemory>({.cpus = 0, .pool = {.max = 1}}).with(kQuiet).count().run();
  EXPECT_EQ(count, 1'000'000);
}

TEST(Data, ActionsAreAwaitable) {
  const auto both = []() -> manta::Async<int64_t> {
    const int64_t thirds = co_await manta::range(300'000).filter<&is_third>().with(kQuiet).count();
    const auto rows = co_await manta::range(100).with(kQuiet).take(7);
    co_return thirds + rows->num_rows();
  };
  EXPECT_EQ(both().run(), 100'007);
}

TEST(Data, PoolsShareAMachineTooSmallForAll) {
  const TestFolder folder;
  std::filesystem::create_directory(folder / "pids");
  const double cpus = manta::node_info().cpus;
  const auto table = manta::range(5'000)
                         .map_batches<Shift>({.batch_size = 500, .cpus = cpus}, folder / "pids", 1, 1)
                         .map_batches<Shift>({.batch_size = 300, .cpus = cpus}, folder / "pids", 1, 1)
                         .map_batches<&fatten>({.batch_size = 200, .cpus = cpus})
                         .with(kQuiet)
                         .take(5'000)
                         .run();
  EXPECT_EQ(table->num_rows(), 5'000);
}

TEST(Data, AFailureInAnActorNamesItAndLeavesNothing) {
  const TestFolder folder;
  const auto status = status_of([&] {
    manta::range(1'000)
        .map_batches<[](const Batch& batch) -> Batch {
          if (batch->num_rows() == 300) throw std::invalid_argument("three hundred");
          return batch;
        }>({.batch_size = 300})
        .with(kQuiet)
        .write_parquet(folder / "out")
        .run();
  });
  EXPECT_EQ(status.code(), Code::kTaskFailed);
  EXPECT_THAT(status.message(), HasSubstr("three hundred"));
  EXPECT_THAT(status.message(), HasSubstr("map_batches"));
  EXPECT_TRUE(folder.list().empty());
}

/// Any process that has ever been an actor of the pool is killed at random; ten times.
TEST(Data, KilledActorsCostNoRowAndDoubleNone) {
  const TestFolder folder;
  constexpr int64_t kRows = 30'000;
  const std::string in = corpus(folder, kRows, 2);
  std::filesystem::create_directory(folder / "pids");
  std::atomic<bool> done = false;
  int kills = 0;
  std::thread killer([&] {
    std::mt19937 random(7);
    while (!done && kills < 10) {
      std::this_thread::sleep_for(std::chrono::milliseconds(50 + random() % 100));
      std::vector<int> living;
      for (const int pid : pids_in(folder / "pids")) {
        if (is_alive(pid)) living.push_back(pid);
      }
      if (!living.empty() && ::kill(living[random() % living.size()], SIGKILL) == 0) ++kills;
    }
  });
  const auto run = [&] {
    return manta::read_parquet(in, {.block_bytes = 200'000})
        .map_batches<Shift>({.batch_size = 100, .cpus = 0.5, .pool = {.min = 2, .max = 2}}, folder / "pids", 9, 10)
        .with(kQuiet)
        .write_parquet(folder / "out")
        .run();
  };
  manta::WriteResult result;
  try {
    result = run();
  } catch (const manta::Error& error) {
    ADD_FAILURE() << error.what();
  }
  done = true;
  killer.join();
  EXPECT_EQ(kills, 10);
  EXPECT_EQ(result.rows, kRows);
  EXPECT_TRUE(manta::data::same_rows(*manta::data::read_folder(folder / "out"), *expected_rows(kRows, 9)));
}

/// The processes of this program besides this one: workers that read, filter, write, or wait for work.
/// Those that have begun, which a second thread tells: one that is killed as it starts is a start that failed, and the third
/// of those in a row is an error.
std::vector<int> workers_of_this_program() {
  std::vector<int> pids;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", ignored)) {
    const int pid = std::atoi(entry.path().filename().c_str());
    if (pid <= 0 || pid == ::getpid()) continue;
    if (std::filesystem::read_symlink(entry.path() / "exe", ignored) != g_program) continue;
    int threads = 0;
    for (std::filesystem::directory_iterator at(entry.path() / "task", ignored), end; !ignored && at != end;
         at.increment(ignored))
      ++threads;
    if (threads >= 2) pids.push_back(pid);
  }
  return pids;
}

TEST(Data, KilledReadersTasksAndWritersCostNoRowEither) {
  const TestFolder folder;
  constexpr int64_t kRows = 30'000;
  const std::string in = corpus(folder, kRows, 3);
  std::filesystem::create_directory(folder / "pids");
  std::atomic<bool> done = false;
  int kills = 0;
  std::thread killer([&] {
    std::mt19937 random(11);
    while (!done && kills < 15) {
      std::this_thread::sleep_for(std::chrono::milliseconds(20 + random() % 80));
      const auto living = workers_of_this_program();
      if (!living.empty() && ::kill(living[random() % living.size()], SIGKILL) == 0) ++kills;
    }
  });
  manta::WriteResult result;
  try {
    result = manta::read_parquet(in, {.block_bytes = 100'000})
                 .map_batches<[](const Batch& batch) {
                   std::this_thread::sleep_for(5ms);
                   return batch;
                 }>({.batch_size = 250})
                 .map_batches<Shift>({.batch_size = 100, .cpus = 0.5, .pool = {.min = 1, .max = 2}}, folder / "pids", 4, 5)
                 .with(kQuiet)
                 .write_parquet(folder / "out", {.file_bytes = 300'000})
                 .run();
  } catch (const manta::Error& error) {
    ADD_FAILURE() << error.what();
  }
  done = true;
  killer.join();
  EXPECT_GE(kills, 5);
  EXPECT_EQ(result.rows, kRows);
  EXPECT_EQ(folder.list("out").back().substr(0, 5), "part-");
  EXPECT_TRUE(manta::data::same_rows(*manta::data::read_folder(folder / "out"), *expected_rows(kRows, 4)));
}

TEST(Data, AKilledDriverLeavesNothing) {
  const TestFolder folder;
  (void)corpus(folder, 20'000, 2);
  const int job = start_job("slow", folder.path(), {}, folder / "errors");
  const auto is_going = [&] {
    std::error_code ignored;
    return std::filesystem::exists(folder / "pids", ignored) && pids_in(folder / "pids").size() == 2;
  };
  for (int i = 0; i < 500 && !is_going(); ++i) std::this_thread::sleep_for(20ms);
  ASSERT_TRUE(is_going()) << text_of(folder / "errors");
  const auto pids = pids_in(folder / "pids");
  std::this_thread::sleep_for(200ms);
  ::kill(job, SIGKILL);
  int status = 0;
  ::waitpid(job, &status, 0);
  ASSERT_TRUE(WIFSIGNALED(status)) << text_of(folder / "errors");
  const auto is_clean = [&] {
    if (folder.list() != std::vector<std::string>{"errors", "in", "pids"}) return false;
    return std::none_of(pids.begin(), pids.end(), is_alive);
  };
  for (int i = 0; i < 250 && !is_clean(); ++i) std::this_thread::sleep_for(20ms);
  EXPECT_TRUE(is_clean()) << testing::PrintToString(folder.list());
}

TEST(Data, ABlockThatTheStoreCannotHoldIsSaidAndLeavesNothing) {
  const TestFolder folder;
  (void)corpus(folder, 100'000, 1);
  const int job =
      start_job("big block", folder.path(), {"MANTA_STORE_BYTES=" + std::to_string(10 << 20)}, folder / "errors");
  int status = 0;
  ASSERT_EQ(::waitpid(job, &status, 0), job);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 1) << status;
  const std::string errors = text_of(folder / "errors");
  EXPECT_THAT(errors, HasSubstr("full"));
  EXPECT_THAT(errors, HasSubstr("MANTA_STORE_BYTES"));
  EXPECT_THAT(errors, testing::AnyOf(HasSubstr("10.0 MiB"), HasSubstr("10485760 bytes")));  // by who found it first
  EXPECT_LT(std::count(errors.begin(), errors.end(), '\n'), 30) << errors;
  EXPECT_EQ(folder.list(), (std::vector<std::string>{"errors", "in"}));
}

/// Rows that came out, and the most memory in KiB that their driver had.
std::pair<int64_t, int64_t> rows_and_peak_of(const std::string& name, const std::string& store_bytes) {
  const TestFolder folder;
  const int job = start_job(name, folder.path(), {"MANTA_STORE_BYTES=" + store_bytes}, folder / "errors");
  int status = 0;
  EXPECT_EQ(::waitpid(job, &status, 0), job);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << text_of(folder / "errors");
  std::istringstream peak(text_of(folder / "peak"));
  std::pair<int64_t, int64_t> out;
  peak >> out.first >> out.second;
  std::printf("%s: peak of the driver %lld MiB\n", name.c_str(), static_cast<long long>(out.second >> 10));
  return out;
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int64_t kMostKib = 700 << 10;  // with the sanitizer's shadow, and what it keeps of freed memory
#else
constexpr int64_t kMostKib = 150 << 10;
#endif

/// A gigabyte through a store of 64 MiB.
TEST(Data, MemoryIsBoundedByConfigurationNotByTheInput) {
  const auto [rows, kib] = rows_and_peak_of("big input", std::to_string(64 << 20));
  EXPECT_EQ(rows, 333'334);
  EXPECT_LT(kib, kMostKib);
}

/// Results too small for the store wait in the driver.
TEST(Data, SmallBatchesDoNotFillTheDriver) {
  const auto [rows, kib] = rows_and_peak_of("small batches", std::to_string(int64_t{4} << 30));
  EXPECT_EQ(rows, 400'000);
  EXPECT_LT(kib, kMostKib);
}

}  // namespace
}  // namespace program

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  program::g_program = std::filesystem::read_symlink("/proc/self/exe").string();
  if (argc == 4 && std::string(argv[1]) == "--job") {
    return manta::run(argc, argv, [](int, char** words) { return program::run_job(words[2], words[3]); });
  }
  return manta::run(argc, argv, [] { return RUN_ALL_TESTS(); });
}

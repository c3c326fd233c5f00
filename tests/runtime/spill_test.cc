// A store smaller than what the program holds: values go to disk and come back, through the public API.
#include "tests/runtime/program.h"

#include <gtest/gtest.h>
#include <spawn.h>
#include <sys/wait.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace program {
namespace {

using manta::Code;
using namespace std::chrono_literals;
namespace fs = std::filesystem;
constexpr size_t kDoubles = (size_t{4} << 20) / sizeof(double);
using Values = manta::Array<double>;

Values numbered(int i) {
  std::vector<double> values(kDoubles);
  std::iota(values.begin(), values.end(), i * 1e6);
  return Values(values);
}
bool is_numbered(const Values& values, int i) {
  if (values.size() != kDoubles) return false;
  for (size_t k = 0; k < kDoubles; ++k) {
    if (values[k] != i * 1e6 + static_cast<double>(k)) return false;
  }
  return true;
}

fs::path spill_base() { return std::getenv("MANTA_SPILL_DIR"); }
/// This session's: mantad makes it with the first object that it spills.
std::vector<fs::path> spill_files() {
  std::vector<fs::path> files;
  if (!fs::exists(spill_base())) return files;
  for (const auto& entry : fs::recursive_directory_iterator(spill_base())) {
    if (entry.path().extension() == ".spill") files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}
template <typename F>
bool eventually(F&& f) {
  for (int i = 0; i < 1'000 && !f(); ++i) std::this_thread::sleep_for(10ms);
  return f();
}

TEST(Spilling, ValuesOfFiveTimesTheStoreComeBackWhole) {
  std::vector<manta::Ref<Values>> refs;
  for (int i = 0; i < 40; ++i) refs.push_back(manta::put(numbered(i)));
  EXPECT_FALSE(spill_files().empty());
  for (int i = 0; i < 40; ++i) EXPECT_TRUE(is_numbered(refs[static_cast<size_t>(i)].get(), i)) << i;
  // As arguments in other processes, and back.
  for (int i = 0; i < 40; i += 7) {
    const double first = i * 1e6, last = first + kDoubles - 1;
    EXPECT_DOUBLE_EQ(manta::remote<&sum_array>(refs[static_cast<size_t>(i)]).get(), (first + last) / 2 * kDoubles);
  }
  refs.clear();
  EXPECT_TRUE(eventually([] { return spill_files().empty(); }));
}

TEST(Spilling, ADamagedFileIsAnErrorThatNamesItAndOthersAreRead) {
  std::vector<manta::Ref<Values>> refs;
  for (int i = 0; i < 30; ++i) refs.push_back(manta::put(numbered(i)));
  ASSERT_TRUE(eventually([] { return spill_files().size() >= 2; }));
  const fs::path damaged = spill_files()[0];
  std::fstream file(damaged, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(1'000'000);
  file.put('?');
  file.close();
  int lost = 0;
  for (int i = 0; i < 30; ++i) {
    const manta::Result<Values> value = refs[static_cast<size_t>(i)].result();
    if (value.ok()) {
      EXPECT_TRUE(is_numbered(*value, i)) << i;
      continue;
    }
    ++lost;
    EXPECT_EQ(value.status().code(), Code::kLost) << value.status().to_string();
    EXPECT_NE(value.status().message().find(damaged.filename().string()), std::string::npos) << value.status().message();
    // A task that needs it fails with the same.
    EXPECT_EQ(manta::remote<&sum_array>(refs[static_cast<size_t>(i)]).result().status().code(), Code::kLost);
  }
  EXPECT_EQ(lost, 1);
  EXPECT_EQ(manta::remote<&pid>().result().ok(), true);
}

// A program of its own, whose mantad is killed: see main.
TEST(Spilling, AKilledNodeLeavesNoFiles) {
  const std::string base = (spill_base() / "killed").string();
  std::vector<std::string> words = {"MANTA_SPILL_DIR=" + base, "MANTA_SESSION_DIR=" + base + "-sessions",
                                    "SPILL_AND_KILL=1"};
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view word = *entry;
    if (!word.starts_with("MANTA_SPILL_DIR=") && !word.starts_with("MANTA_SESSION_DIR=")) words.emplace_back(word);
  }
  std::vector<char*> environment;
  for (std::string& word : words) environment.push_back(word.data());
  environment.push_back(nullptr);
  std::string program = fs::read_symlink("/proc/self/exe").string();
  char* const arguments[] = {program.data(), nullptr};
  pid_t child = 0;
  int status = 0;
  ASSERT_EQ(::posix_spawn(&child, program.c_str(), nullptr, nullptr, arguments, environment.data()), 0);
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(WEXITSTATUS(status), 7);
  EXPECT_TRUE(fs::is_empty(base));
  EXPECT_TRUE(fs::is_empty(base + "-sessions"));
}

/// The child of this process that is called so.
int mantad_pid() {
  for (const auto& entry : fs::directory_iterator("/proc")) {
    std::ifstream stat(entry.path() / "stat");
    int child = 0, parent = 0;
    std::string name, state;
    if (stat >> child >> name >> state >> parent && name == "(mantad)" && parent == ::getpid()) return child;
  }
  return 0;
}

int spill_and_kill() {
  std::vector<manta::Ref<Values>> refs;
  for (int i = 0; i < 20; ++i) refs.push_back(manta::put(numbered(i)));
  if (spill_files().empty()) return 3;
  const int mantad = mantad_pid();
  if (mantad == 0 || ::kill(mantad, SIGKILL) != 0) return 4;
  // Some value lies on disk only, and nobody is left to read it.
  for (const auto& ref : refs) {
    if (!ref.result().ok()) return 7;
  }
  return 5;
}

}  // namespace
}  // namespace program

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  const std::string base =
      (program::fs::temp_directory_path() / ("manta-spill-test-" + std::to_string(::getpid()))).string();
  ::setenv("MANTA_SPILL_DIR", base.c_str(), 0);
  ::setenv("MANTA_STORE_BYTES", "33554432", 1);
  if (std::getenv("SPILL_AND_KILL") != nullptr) return manta::run(argc, argv, [] { return program::spill_and_kill(); });
  const int code = manta::run(argc, argv, [] { return RUN_ALL_TESTS(); });
  if (std::getenv("MANTA_WORKER_FD") != nullptr) return code;
  // Nothing of the session is left, in a folder that it was given.
  int left = 0;
  for (const auto& entry : program::fs::directory_iterator(base)) {
    if (!entry.path().filename().string().starts_with("killed")) ++left;
  }
  if (left > 0) std::fprintf(stderr, "%d entries are left in %s\n", left, base.c_str());
  program::fs::remove_all(base);
  return left > 0 ? 1 : code;
}

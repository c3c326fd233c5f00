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

/// Whatever lies on disk of this session, and stays there, is damaged now.
void damage_all() {
  for (const fs::path& path : spill_files()) {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    const auto size = static_cast<std::streamoff>(fs::file_size(path));
    for (std::streamoff at = 4'096; at < size; at += 1'000'000) {
      file.seekp(at);
      file.put('?');
    }
  }
}
/// A file that says how often something ran.
struct RunCounter {
  std::string path;
  explicit RunCounter(const std::string& name)
      : path((fs::temp_directory_path() / ("manta-lost-" + name + "-" + std::to_string(::getpid()))).string()) {}
  ~RunCounter() { fs::remove(path); }
  [[nodiscard]] int read() const {
    std::ifstream in(path);
    return static_cast<int>(std::count(std::istreambuf_iterator<char>(in), {}, '\n'));
  }
};

}  // namespace

Values counted(const std::string& path, int i) {
  count_in(path);
  return numbered(i);
}
Values plus_one(const std::string& path, const Values& values) {
  count_in(path);
  std::vector<double> out(values.begin(), values.end());
  for (double& each : out) each += 1;
  return Values(out);
}
struct Source {
  Values make(int i) { return numbered(i); }
};
struct Holder {
  manta::Ref<Values> held;
  void hold(std::vector<manta::Ref<Values>> refs) { held = refs[0]; }
  double first_after(int rounds) const {
    double sum = 0;
    for (int i = 0; i < rounds; ++i) sum += held.get()[0];
    return sum;
  }
};

namespace {

/// Fills the store with others, so that what was there before goes to disk.
std::vector<manta::Ref<Values>> push_out() {
  std::vector<manta::Ref<Values>> others;
  for (int i = 0; i < 12; ++i) others.push_back(manta::put(numbered(i)));
  return others;
}

TEST(Lost, ATasksResultIsMadeAgain) {
  const RunCounter runs("made-again");
  std::vector<manta::Ref<Values>> refs;
  for (int i = 0; i < 20; ++i) refs.push_back(manta::remote<&counted>(runs.path, i));
  for (const auto& ref : refs) ASSERT_TRUE(ref.wait(60s));
  ASSERT_TRUE(eventually([] { return spill_files().size() >= 2; }));
  damage_all();
  for (int i = 0; i < 20; ++i) EXPECT_TRUE(is_numbered(refs[static_cast<size_t>(i)].get(), i)) << i;
  EXPECT_GT(runs.read(), 20);
  EXPECT_LE(runs.read(), 80);  // what came back may be pushed out again by the next, but not for ever
}

TEST(Lost, WhatItWasMadeFromIsMadeAgainThoughNobodyHasIt) {
  const RunCounter made("first"), derived("derived");
  manta::Ref<Values> last = manta::remote<&counted>(made.path, 5);
  for (int i = 0; i < 3; ++i) last = manta::remote<&plus_one>(derived.path, last);
  ASSERT_TRUE(last.wait(60s));
  const auto others = push_out();
  ASSERT_TRUE(eventually([] { return spill_files().size() >= 2; }));
  damage_all();
  const Values values = last.get();
  for (size_t k = 0; k < kDoubles; k += 999) ASSERT_EQ(values[k], 5e6 + static_cast<double>(k) + 3);
  EXPECT_EQ(made.read(), 2);
  EXPECT_EQ(derived.read(), 6);
}

TEST(Lost, TasksAndActorsThatNeedItGetItsNewPlace) {
  const RunCounter runs("needed");
  manta::Ref<Values> ref = manta::remote<&counted>(runs.path, 1);
  ASSERT_TRUE(ref.wait(60s));
  manta::Actor<Holder> holder = manta::spawn<Holder>();
  holder.call<&Holder::hold>(std::vector<manta::Ref<Values>>{ref}).get();
  EXPECT_EQ(holder.call<&Holder::first_after>(1).get(), 1e6);
  auto others = push_out();
  ASSERT_TRUE(eventually([] { return spill_files().size() >= 2; }));
  damage_all();
  others.clear();
  const double sum = (1e6 + 1e6 + kDoubles - 1) / 2 * kDoubles;
  std::vector<manta::Ref<double>> sums;
  for (int i = 0; i < 4; ++i) sums.push_back(manta::remote<&sum_array>(ref));
  for (const auto& each : sums) EXPECT_DOUBLE_EQ(each.get(), sum);
  EXPECT_EQ(holder.call<&Holder::first_after>(2).get(), 2e6);  // it finds its old place empty, and asks
  EXPECT_EQ(runs.read(), 2);
}

TEST(Lost, ATaskFindsItsArgumentsOwner) {
  const RunCounter runs("argument");
  const manta::Ref<Values> ref = manta::remote<&counted>(runs.path, 2);
  ASSERT_TRUE(ref.wait(60s));
  auto others = push_out();
  ASSERT_TRUE(eventually([] { return spill_files().size() >= 2; }));
  damage_all();
  others.clear();
  EXPECT_DOUBLE_EQ(manta::remote<&sum_array>(ref).get(), (2e6 + 2e6 + kDoubles - 1) / 2 * kDoubles);
  EXPECT_EQ(runs.read(), 2);
}

TEST(Lost, WhatCannotBeMadeAgainSaysWhy) {
  const RunCounter runs("once");
  manta::Actor<Source> source = manta::spawn<Source>();
  manta::Ref<Values> method = source.call<&Source::make>(1);
  manta::Ref<Values> once = manta::remote<&counted>.with({.retries = 0})(runs.path, 2);
  manta::Ref<Values> put = manta::put(numbered(3));
  ASSERT_TRUE(method.wait(60s) && once.wait(60s));
  const auto others = push_out();
  ASSERT_TRUE(eventually([] { return spill_files().size() >= 2; }));
  damage_all();
  const auto why = [](const manta::Ref<Values>& ref) {
    const manta::Result<Values> value = ref.result();
    EXPECT_EQ(value.status().code(), Code::kLost) << value.status().to_string();
    return value.status().message();
  };
  EXPECT_NE(why(method).find("an actor's method returned it"), std::string::npos) << why(method);
  EXPECT_NE(why(once).find("its retries are 0"), std::string::npos) << why(once);
  EXPECT_NE(why(put).find("it was put"), std::string::npos) << why(put);
  EXPECT_EQ(runs.read(), 1);
}

TEST(Lost, RetriesBoundHowOftenItIsMadeAgain) {
  const RunCounter runs("bounded");
  manta::Ref<Values> ref = manta::remote<&counted>.with({.retries = 2})(runs.path, 1);
  ASSERT_TRUE(ref.wait(60s));
  manta::Status last;
  for (int round = 0; round < 10 && last.ok(); ++round) {
    auto others = push_out();
    damage_all();
    others.clear();
    last = ref.result().status();
  }
  EXPECT_EQ(last.code(), Code::kLost);
  EXPECT_NE(last.message().find("used up"), std::string::npos) << last.message();
  EXPECT_EQ(runs.read(), 3);
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

// Actors that share processes.
#include "tests/runtime/errors.h"
#include "tests/runtime/program.h"

#include <gtest/gtest.h>

#include <filesystem>

namespace program {
namespace {

using manta::Actor;
using manta::Code;
using namespace std::chrono_literals;

struct Cell {
  int n = 0;
  int add(int by) { return n += by; }
  int pid() { return ::getpid(); }
  int slow_add(int by, int ms) {
    std::this_thread::sleep_for(std::chrono::milliseconds(ms));
    return n += by;
  }
  /// Asks the others in turn, each of which asks the rest.
  int sum(std::vector<Actor<Cell>> others) {
    if (others.empty()) return n;
    const Actor<Cell> next = others.back();
    others.pop_back();
    return n + next.call<&Cell::sum>(others).get();
  }
  int crash() { return ::raise(SIGKILL); }
};

struct Witness {
  std::string path;
  explicit Witness(std::string p) : path(std::move(p)) {}
  ~Witness() { (void)count_in(path); }
  int lines() {
    std::ifstream in(path);
    return static_cast<int>(std::count(std::istreambuf_iterator<char>(in), {}, '\n'));
  }
};

struct Refuses {
  explicit Refuses(const std::string& why) { throw MyError(why); }
  int never() { return 1; }
};

Actor<Cell> cell() { return manta::spawn<Cell>.with({.shared_process = true})(); }

TEST(Shared, ManyKeepTheirStateApart) {
  std::vector<Actor<Cell>> cells;
  for (int i = 0; i < 5'000; ++i) cells.push_back(cell());
  std::vector<manta::Ref<int>> refs;
  for (int round = 0; round < 2; ++round)
    for (int i = 0; i < 5'000; ++i) refs.push_back(cells[static_cast<size_t>(i)].call<&Cell::add>(i));
  for (int i = 0; i < 5'000; ++i) ASSERT_EQ(refs[static_cast<size_t>(5'000 + i)].get(), 2 * i);
  std::set<int> processes;
  for (int i = 0; i < 100; ++i) processes.insert(cells[static_cast<size_t>(i)].call<&Cell::pid>().get());
  EXPECT_LE(processes.size(), static_cast<size_t>(manta::node_info().cpus));
  EXPECT_FALSE(processes.contains(::getpid()));
}

TEST(Shared, MayWaitForEachOtherInOneProcess) {
  std::vector<Actor<Cell>> others;
  for (int i = 0; i < 40; ++i) {
    others.push_back(cell());
    others.back().call<&Cell::add>(1).get();
  }
  const Actor<Cell> first = cell();
  EXPECT_EQ(first.call<&Cell::sum>(others).get(), 40);
}

TEST(Shared, RunOneCallAtATimeInOrderAlsoAfterOneThatWaited) {
  const Actor<Cell> one = cell();
  const Actor<Cell> other = cell();
  const auto waits = one.call<&Cell::sum>(std::vector{other});
  std::vector<manta::Ref<int>> refs;
  for (int i = 1; i <= 1'000; ++i) refs.push_back(one.call<&Cell::add>(1));
  EXPECT_EQ(waits.get(), 0);
  for (int i = 1; i <= 1'000; ++i) ASSERT_EQ(refs[static_cast<size_t>(i - 1)].get(), i);
}

TEST(Shared, HandlesTravel) {
  const Actor<Cell> one = cell();
  const auto bump = [](Actor<Cell> c) { return c.call<&Cell::add>(10).get(); };
  EXPECT_EQ(manta::closure(bump)(one).get(), 10);
  // A task may call it before its constructor has what it waits for.
  const auto late = manta::remote<&nap>(200);
  const auto waiting = manta::spawn<Cell>.with({.shared_process = true})(late);
  EXPECT_EQ(manta::closure(bump)(waiting).get(), 210);
}

TEST(Shared, AreDestroyedWhenTheLastHandleIsGone) {
  const std::string path = (std::filesystem::temp_directory_path() / ("witness" + std::to_string(::getpid()))).string();
  const Actor<Cell> keeps_the_process = cell();
  {
    std::vector<Actor<Witness>> witnesses;
    for (int i = 0; i < 50; ++i) witnesses.push_back(manta::spawn<Witness>.with({.shared_process = true})(path));
    EXPECT_EQ(witnesses[0].call<&Witness::lines>().get(), 0);
  }
  Witness here(path);
  for (int i = 0; i < 500 && here.lines() < 50; ++i) std::this_thread::sleep_for(10ms);
  EXPECT_EQ(here.lines(), 50);
  std::filesystem::remove(path);
}

TEST(Shared, EndTheirProcessesWithTheLastOne) {
  for (int i = 0; i < 500 && manta::node_info().actors > 0; ++i) std::this_thread::sleep_for(10ms);
  EXPECT_EQ(manta::node_info().actors, 0);
}

TEST(Shared, ConstructorsFailAlone) {
  const auto bad = manta::spawn<Refuses>.with({.shared_process = true})("not today");
  const manta::Error refused = error_of([&] { bad.wait_ready(); });
  EXPECT_EQ(refused.code(), Code::kTaskFailed);
  EXPECT_NE(std::string(refused.what()).find("not today"), std::string::npos) << refused.what();
  EXPECT_EQ(error_of([&] { (void)bad.call<&Refuses::never>().get(); }).code(), Code::kTaskFailed);
  const auto unborn = manta::spawn<Cell>.with({.shared_process = true})(manta::remote<&throws_until>("/nowhere/x", 9));
  const manta::Error failed = error_of([&] { (void)unborn.call<&Cell::add>(1).get(); });
  EXPECT_NE(std::string(failed.what()).find("argument"), std::string::npos) << failed.what();
  EXPECT_EQ(cell().call<&Cell::add>(1).get(), 1);
}

TEST(Shared, AreKilledAlone) {
  const Actor<Cell> one = cell();
  const Actor<Cell> other = cell();
  EXPECT_EQ(one.call<&Cell::add>(1).get(), 1);
  one.kill();
  EXPECT_EQ(error_of([&] { (void)one.call<&Cell::add>(1).get(); }).code(), Code::kDied);
  EXPECT_EQ(other.call<&Cell::add>(1).get(), 1);
}

TEST(Shared, DieWithTheirProcessAndNewOnesStart) {
  std::vector<Actor<Cell>> cells;
  for (int i = 0; i < 8; ++i) cells.push_back(cell());
  const int pid = cells[0].call<&Cell::pid>().get();
  const manta::Error died = error_of([&] { (void)cells[0].call<&Cell::crash>().get(); });
  EXPECT_EQ(died.code(), Code::kDied);
  EXPECT_NE(std::string(died.what()).find("SIGKILL"), std::string::npos) << died.what();
  for (const Actor<Cell>& each : cells) {
    const auto answer = each.call<&Cell::pid>().result();
    EXPECT_TRUE(answer.ok() ? *answer != pid : answer.status().code() == Code::kDied);
  }
  cells.clear();
  for (int i = 0; i < 8; ++i) EXPECT_EQ(cell().call<&Cell::add>(i).get(), i);
}

TEST(Shared, RefuseWhatAProcessOfTheirOwnWouldNeed) {
  const manta::Error error = error_of([] { (void)manta::spawn<Cell>.with({.cpus = 1, .shared_process = true})(); });
  EXPECT_EQ(error.code(), Code::kInvalid);
  EXPECT_NE(std::string(error.what()).find("cpus"), std::string::npos) << error.what();
}

}  // namespace
}  // namespace program

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  return manta::run(argc, argv, [] { return RUN_ALL_TESTS(); });
}

// Actors on a real local node.
#include "tests/runtime/errors.h"
#include "tests/runtime/program.h"

#include <gtest/gtest.h>

#include <filesystem>

namespace program {
namespace {

using manta::Code;
using namespace std::chrono_literals;

/// Says whether what it is sent is whole, and in what order it came.
struct Reader {
  std::vector<int> seeds;
  bool read(const std::vector<uint64_t>& values, int seed, const std::string& text, int nap_ms) {
    seeds.push_back(seed);
    if (nap_ms > 0) nap(nap_ms);
    for (size_t i = 0; i < values.size(); ++i) {
      if (values[i] != i + static_cast<uint64_t>(seed)) return false;
    }
    return text == std::string(text.size(), static_cast<char>('a' + seed % 26));
  }
  void block(const std::string& path) { count_in(path), nap(600'000); }
  std::vector<int> all() const { return seeds; }
};
std::vector<uint64_t> numbers_from(int seed, size_t size_bytes = 96'000) {
  std::vector<uint64_t> out(size_bytes / sizeof(uint64_t));
  std::iota(out.begin(), out.end(), static_cast<uint64_t>(seed));
  return out;
}
std::string letters_of(int seed, size_t size_bytes) { return std::string(size_bytes, static_cast<char>('a' + seed % 26)); }
std::vector<int> counted(int from, int to) {
  std::vector<int> out(static_cast<size_t>(to - from));
  std::iota(out.begin(), out.end(), from);
  return out;
}

bool is_alive(int pid) { return ::kill(pid, 0) == 0; }
bool ends(int pid) {
  for (int i = 0; i < 500 && is_alive(pid); ++i) std::this_thread::sleep_for(10ms);
  return !is_alive(pid);
}

TEST(Actors, KeepStateAndOrder) {
  const manta::Actor<Counter> counter = manta::spawn<Counter>();
  std::vector<manta::Ref<int>> refs;
  for (int i = 1; i <= 1'000; ++i) refs.push_back(counter.call<&Counter::add>(1));
  for (int i = 1; i <= 1'000; ++i) ASSERT_EQ(refs[static_cast<size_t>(i - 1)].get(), i);
  EXPECT_EQ(counter.call<&Counter::get>().get(), 1'000);
  EXPECT_NE(counter.call<&Counter::pid>().get(), ::getpid());
}

TEST(Actors, GetBigArgumentsWholeAndInOrder) {
  constexpr int kCalls = 2'000;
  const auto reader = manta::spawn<Reader>();  // the first calls find it not there yet
  std::vector<manta::Ref<bool>> whole;
  for (int i = 0; i < kCalls; ++i) {
    const int nap_ms = i % 400 == 100 ? 20 : 0;  // now and then it takes nothing for a while
    const size_t size_bytes = i % 3 == 0 ? 96'000 : i % 3 == 1 ? 16'384 : 8;
    const std::string text = letters_of(i, i % 5 == 0 ? 60'000 : 10);
    whole.push_back(reader.call<&Reader::read>(numbers_from(i, size_bytes), i, text, nap_ms));
  }
  for (const auto& each : whole) ASSERT_TRUE(each.get());
  EXPECT_EQ(reader.call<&Reader::all>().get(), counted(0, kCalls));
}

TEST(Actors, GetBigArgumentsBesideRefsThatAreNotReady) {
  const auto reader = manta::spawn<Reader>();
  reader.wait_ready();
  const std::string four = letters_of(4, 20'000);
  const manta::Ref<int> late = manta::closure([](int ms) { return nap(ms), 3; })(100);
  const auto first = reader.call<&Reader::read>(numbers_from(3), late, letters_of(3, 20'000), 0);
  const auto second = reader.call<&Reader::read>(numbers_from(4), 4, four.c_str(), 0);  // converted on the way
  const auto third = reader.call<&Reader::read>(manta::put(numbers_from(5)), 5, letters_of(5, 90'000), 0);
  EXPECT_TRUE(first.get() && second.get() && third.get());
  EXPECT_EQ(reader.call<&Reader::all>().get(), counted(3, 6));
}

TEST(Actors, GetBigArgumentsThatAnotherProcessHadNotBegun) {
  const auto reader = manta::spawn<Reader>.with({.max_restarts = -1})();
  reader.wait_ready();
  const std::string path = testing::TempDir() + "begun-" + std::to_string(::getpid());
  const auto begun = reader.call<&Reader::block>(path);
  for (int i = 0; i < 1'000 && !std::filesystem::exists(path); ++i) std::this_thread::sleep_for(10ms);
  std::filesystem::remove(path);
  std::vector<manta::Ref<bool>> whole;
  for (int i = 1; i <= 20; ++i) whole.push_back(reader.call<&Reader::read>(numbers_from(i), i, letters_of(i, 100), 0));
  const auto cancelled = reader.call<&Reader::read>(numbers_from(21), 21, letters_of(21, 100), 0);
  ASSERT_TRUE(whole[1].cancel().ok());
  ASSERT_TRUE(cancelled.cancel().ok());
  reader.kill(true);
  EXPECT_EQ(error_of([&] { begun.get(); }).code(), Code::kDied);
  EXPECT_EQ(error_of([&] { (void)whole[1].get(); }).code(), Code::kCancelled);
  std::vector<int> expected = counted(1, 21);
  expected.erase(expected.begin() + 1);
  whole.erase(whole.begin() + 1);
  for (const auto& each : whole) EXPECT_TRUE(each.get());
  EXPECT_EQ(reader.call<&Reader::all>().get(), expected);
}

TEST(Actors, TakeConstructorArgumentsAlsoAsRefs) {
  const auto greeter = manta::spawn<Greeter>("hi", manta::put(2));
  EXPECT_EQ(greeter.call<&Greeter::greet>("bo").get(), "hi bo;hi bo;");
}

TEST(Actors, HandlesTravel) {
  const auto counter = manta::spawn<Counter>();
  const auto keeper = manta::spawn<Keeper>();
  keeper.call<&Keeper::keep_actor>(counter).get();
  EXPECT_EQ(keeper.call<&Keeper::call_other>(5).get(), 5);
  EXPECT_EQ(counter.call<&Counter::add>(1).get(), 6);
  const auto bump = [](manta::Actor<Counter> c) { return c.call<&Counter::add>(10).get(); };
  EXPECT_EQ(manta::closure(bump)(counter).get(), 16);
}

TEST(Actors, EndWhenTheLastHandleIsGone) {
  int pid = 0;
  {
    const auto counter = manta::spawn<Counter>();
    pid = counter.call<&Counter::pid>().get();
    EXPECT_TRUE(is_alive(pid));
  }
  EXPECT_TRUE(ends(pid));
}

TEST(Actors, LiveOnWhileAnotherProcessHoldsAHandle) {
  const auto keeper = manta::spawn<Keeper>();
  {
    const auto counter = manta::spawn<Counter>();
    counter.call<&Counter::add>(3).get();
    keeper.call<&Keeper::keep_actor>(counter).get();
  }
  std::this_thread::sleep_for(300ms);
  EXPECT_EQ(keeper.call<&Keeper::call_other>(1).get(), 4);
}

TEST(Actors, KeepRefsAndViewsPastTheCall) {
  const auto keeper = manta::spawn<Keeper>();
  {
    const Nested nested{"n", {}, manta::put(std::string("kept"))};
    keeper.call<&Keeper::keep>(nested).get();
    keeper.call<&Keeper::keep_array>(manta::put(manta::Array<double>(std::vector<double>(200'000, 1.5)))).get();
  }
  for (int i = 0; i < 20; ++i) (void)manta::put(manta::Array<double>(std::vector<double>(200'000, 9)));
  EXPECT_EQ(keeper.call<&Keeper::read>().get(), "kept");
  EXPECT_DOUBLE_EQ(keeper.call<&Keeper::sum>().get(), 300'000);
}

TEST(Actors, ErrorsOfCallsLeaveTheActorAlive) {
  const auto counter = manta::spawn<Counter>();
  const manta::Error error = error_of([&] { counter.call<&Counter::fail>("bad day").get(); });
  EXPECT_EQ(error.origin_type(), "program::MyError");
  EXPECT_NE(std::string(error.what()).find("Counter.fail"), std::string::npos) << error.what();
  EXPECT_EQ(counter.call<&Counter::add>(1).get(), 1);
}

TEST(Actors, AConstructorsErrorFailsEveryCall) {
  const auto faulty = manta::spawn<Faulty>(7);
  const manta::Error error = error_of([&] { (void)faulty.call<&Faulty::get>().get(); });
  EXPECT_NE(std::string(error.what()).find("constructor refuses 7"), std::string::npos) << error.what();
  EXPECT_EQ(error_of([&] { faulty.wait_ready(); }).origin_type(), "program::MyError");
}

TEST(Actors, DieWithTheirProcessUnlessTheyMayRestart) {
  const auto counter = manta::spawn<Counter>();
  counter.wait_ready();
  const manta::Error error = error_of([&] { counter.call<&Counter::crash>().get(); });
  EXPECT_EQ(error.code(), Code::kDied);
  EXPECT_NE(std::string(error.what()).find("SIGABRT"), std::string::npos) << error.what();
  EXPECT_EQ(error_of([&] { (void)counter.call<&Counter::get>().get(); }).code(), Code::kDied);
}

TEST(Actors, RestartFreshWithoutSaveAndRestore) {
  const auto counter = manta::spawn<Counter>.with({.max_restarts = 2})();
  EXPECT_EQ(counter.call<&Counter::add>(5).get(), 5);
  error_of([&] { counter.call<&Counter::crash>().get(); });
  EXPECT_EQ(counter.call<&Counter::add>(1).get(), 1) << "a fresh instance";
}

TEST(Actors, RestoreWhatTheySaved) {
  const auto journal = manta::spawn<Journal>.with({.max_restarts = -1, .max_task_retries = 0})();
  for (int i = 0; i < 5; ++i) journal.call<&Journal::add>(i).get();
  error_of([&] { journal.call<&Journal::crash>().get(); });
  EXPECT_EQ(journal.call<&Journal::add>(5).get(), 6);
  EXPECT_EQ(journal.call<&Journal::all>().get(), (std::vector<int>{0, 1, 2, 3, 4, 5}));
}

TEST(Actors, RetriedCallsKeepTheirOrderAcrossKills) {
  const auto journal = manta::spawn<Journal>.with({.max_restarts = -1, .max_task_retries = -1})();
  journal.wait_ready();
  std::vector<manta::Ref<int>> refs;
  for (int i = 0; i < 2'000; ++i) {
    refs.push_back(journal.call<&Journal::add>(i));
    if (i % 500 == 250) {
      const auto counter_pid = manta::closure([] { return 0; })();
      (void)counter_pid.get();
      journal.kill(true);
    }
  }
  for (const auto& ref : refs) (void)ref.get();
  const std::vector<int> all = journal.call<&Journal::all>().get();
  // A call that ran and whose reply was lost runs again: at least once, in order.
  int last = -1;
  std::vector<bool> seen(2'000);
  for (const int value : all) {
    EXPECT_LE(value, last + 1);
    last = std::max(last, value);
    seen[static_cast<size_t>(value)] = true;
  }
  EXPECT_EQ(std::count(seen.begin(), seen.end(), true), 2'000);
}

TEST(Actors, RunCallsConcurrentlyWhenAsked) {
  const auto gate = manta::spawn<Gate>.with({.max_concurrency = 4})();
  std::vector<manta::Ref<int>> refs;
  for (int i = 0; i < 8; ++i) refs.push_back(gate.call<&Gate::enter>(100));
  manta::get(refs);
  EXPECT_EQ(gate.call<&Gate::highest>().get(), 4);
}

TEST(Actors, GroupsDoNotWaitForEachOther) {
  const auto gate = manta::spawn<Gate>.with({.concurrency_groups = {{"quick", 1}}})();
  const auto slow = gate.call<&Gate::enter>(1'000);
  EXPECT_GE(gate.with({.group = "quick"}).call<&Gate::highest>().get(), 0);
  EXPECT_FALSE(slow.is_ready());
  EXPECT_EQ(error_of([&] { (void)gate.with({.group = "none"}).call<&Gate::highest>().get(); }).code(), Code::kInvalid);
}

TEST(Actors, AreFoundByName) {
  const auto made = manta::spawn<Counter>.with({.name = "tally"})();
  made.call<&Counter::add>(2).get();
  const auto found = manta::get_actor<Counter>("tally");
  EXPECT_EQ(found.call<&Counter::add>(1).get(), 3);
  EXPECT_EQ(error_of([] { (void)manta::get_actor<Counter>("nobody"); }).code(), Code::kNotFound);
  EXPECT_EQ(error_of([] { (void)manta::get_actor<Gate>("tally"); }).code(), Code::kInvalid);
  const auto again = manta::spawn<Counter>.with({.name = "tally", .get_if_exists = true})();
  EXPECT_EQ(again.call<&Counter::get>().get(), 3);
  const auto twin = manta::spawn<Counter>.with({.name = "tally"})();
  EXPECT_EQ(error_of([&] { (void)twin.call<&Counter::get>().get(); }).code(), Code::kExists);
}

TEST(Actors, DetachedOnesOutliveTheirHandles) {
  int pid = 0;
  {
    const auto made = manta::spawn<Counter>.with({.name = "ghost", .detached = true})();
    pid = made.call<&Counter::pid>().get();
  }
  std::this_thread::sleep_for(200ms);
  const auto found = manta::get_actor<Counter>("ghost");
  EXPECT_EQ(found.call<&Counter::pid>().get(), pid);
  found.kill();
  EXPECT_TRUE(ends(pid));
}

TEST(Actors, CallsTimeOut) {
  const auto counter = manta::spawn<Counter>();
  EXPECT_EQ(error_of([&] { (void)counter.with({.timeout = 50ms}).call<&Counter::nap>(400).get(); }).code(), Code::kTimeout);
  EXPECT_EQ(counter.call<&Counter::add>(1).get(), 1);
}

TEST(Actors, StreamAndReturnSeveral) {
  const auto counter = manta::spawn<Counter>();
  counter.call<&Counter::add>(10).get();
  int expected = 10;
  for (const auto& item : counter.call<&Counter::numbers>(50)) ASSERT_EQ(item.get(), expected++);
  auto [n, text] = counter.call_each<&Counter::both>();
  EXPECT_EQ(n.get(), 10);
  EXPECT_EQ(text.get(), "n");
}

TEST(Actors, WorkersWhoseObjectsAreNeededStay) {
  std::vector<Nested> kept;
  for (int i = 0; i < 6; ++i) kept.push_back(manta::remote<&make_nested>(3).get());
  std::vector<manta::Ref<int>> naps;
  for (int i = 0; i < 6; ++i) naps.push_back(manta::remote<&nap>.with({.cpus = 0.1})(100));
  manta::get(naps);
  // Idle workers above the node's CPUs are let go after a second; those that own what we hold are not.
  std::this_thread::sleep_for(1'500ms);
  for (const Nested& nested : kept) {
    EXPECT_EQ(nested.refs[2].get(), 2);
    EXPECT_EQ(nested.text->get(), "four");
  }
}

TEST(Actors, AreLeftBehindCleanly) {
  std::vector<manta::Actor<Counter>> many;
  for (int i = 0; i < 20; ++i) many.push_back(manta::spawn<Counter>());
  for (const auto& each : many) each.call<&Counter::add>(1).get();
  many.clear();
  for (int i = 0; i < 500 && manta::node_info().actors > 0; ++i) std::this_thread::sleep_for(10ms);
  EXPECT_EQ(manta::node_info().actors, 0);
}

}  // namespace
}  // namespace program

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  return manta::run(argc, argv, [] { return RUN_ALL_TESTS(); });
}

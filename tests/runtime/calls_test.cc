// Tasks on a real local node: mantad, worker processes, rings, shared memory.
#include "tests/runtime/errors.h"
#include "tests/runtime/program.h"

#include <gtest/gtest.h>

#include <filesystem>

namespace program {
namespace {

using manta::Code;
using namespace std::chrono_literals;
constexpr auto* kAddInts = static_cast<int (*)(int, int)>(&add);
constexpr auto* kAddDoubles = static_cast<double (*)(double, double)>(&add);

std::string fresh_path(const char* name) {
  const auto path = std::filesystem::temp_directory_path() / ("manta-test-" + std::to_string(::getpid()) + "-" + name);
  std::filesystem::remove(path);
  return path.string();
}

TEST(Tasks, RunInAnotherProcessOfTheSameProgram) {
  EXPECT_EQ(manta::remote<kAddInts>(1, 2).get(), 3);
  EXPECT_EQ(manta::remote<kAddDoubles>(0.5, 2).get(), 2.5);
  EXPECT_EQ(manta::remote<&twice<std::string>>("ab").get(), "abab");
  EXPECT_NE(manta::remote<&pid>().get(), ::getpid());
  manta::remote<&nothing>().get();
}

TEST(Tasks, TakeRefsWhereverAValueFits) {
  const manta::Ref<int> sum = manta::remote<kAddInts>(1, 2);
  EXPECT_EQ(manta::remote<kAddInts>(sum, manta::remote<kAddInts>(sum, 4)).get(), 10);
  EXPECT_EQ(manta::remote<kAddInts>(manta::put(20), 2).get(), 22);
  const Nested nested{"n", {sum, manta::put(4)}, manta::put(std::string("xyz"))};
  EXPECT_EQ(manta::remote<&sum_nested>(nested).get(), 10);
}

TEST(Tasks, ManyAtOnceComeBackRight) {
  std::vector<manta::Ref<int>> refs;
  for (int i = 0; i < 20'000; ++i) refs.push_back(manta::remote<kAddInts>(i, 1));
  for (int i = 0; i < 20'000; ++i) ASSERT_EQ(refs[static_cast<size_t>(i)].get(), i + 1);
}

TEST(Tasks, ClosuresTravelWithTheirCaptures) {
  const int k = 7;
  EXPECT_EQ(manta::closure([k](int x) { return k * x; })(6).get(), 42);
  EXPECT_EQ(manta::closure([](std::string s) { return s.size(); })(std::string("four")).get(), 4u);
}

TEST(Tasks, AreFoundByName) {
  EXPECT_EQ(manta::remote_by_name<int(int, int)>("program::add")(1, 2).get(), 3);
  EXPECT_EQ(error_of([] { (void)manta::remote_by_name<int(int)>("program::add"); }).code(), Code::kInvalid);
  const manta::Error unknown = error_of([] { (void)manta::remote_by_name<int()>("program::nope"); });
  EXPECT_EQ(unknown.code(), Code::kNotFound);
  EXPECT_NE(std::string(unknown.what()).find("program::fib"), std::string::npos) << unknown.what();
}

TEST(Tasks, NestToAnyDepth) {
  EXPECT_EQ(manta::remote<&depth>(12).get(), 12);
  EXPECT_EQ(manta::remote<&fib>(9).get(), 34);
  EXPECT_EQ(manta::remote<&fan_out>(500).get(), 500 * 499 / 2 + 500);
}

TEST(Tasks, ReturnSeveralObjects) {
  auto [number, text, values] = manta::remote<&three>.each()(5);
  EXPECT_EQ(number.get(), 5);
  EXPECT_EQ(text.get(), "text");
  EXPECT_EQ(values.get().size(), 20'000u);
}

TEST(Tasks, AwaitInCoroutinesEverywhere) {
  EXPECT_EQ(manta::remote<&async_sum>(10).get(), 45);
  const auto here = []() -> manta::Async<int> {
    auto a = manta::remote<kAddInts>(1, 1);
    auto b = manta::remote<&twice<std::string>>("x");
    auto [x, y] = co_await manta::all(a, b);
    std::vector<manta::Ref<int>> both{manta::remote<&nap>(300), manta::remote<&nap>(1)};
    const size_t first = co_await manta::any(both);
    co_return x + static_cast<int>(y.size()) + static_cast<int>(first) * 100;
  };
  EXPECT_EQ(here().run(), 104);
}

TEST(Tasks, BigValuesPassThroughSharedMemory) {
  const auto made = manta::remote<&make_vector>(1'000'000);
  EXPECT_DOUBLE_EQ(manta::remote<&sum_array>(manta::Array<double>(std::vector<double>(300'000, 0.5))).get(), 150'000);
  EXPECT_EQ(made.get()[999'999], 999'999.0);
  const manta::Ref<manta::Array<double>> array = manta::put(manta::Array<double>(std::vector<double>(1'000'000, 2)));
  EXPECT_DOUBLE_EQ(manta::remote<&sum_array>(array).get(), 2'000'000);
  EXPECT_EQ(array.get().data(), array.get().data()) << "two gets of one array are one memory";
  EXPECT_EQ(manta::remote<&long_text>(5 << 20).get().size(), size_t{5} << 20);
}

TEST(Tasks, TakeAndHoldTenThousandRefs) {
  std::vector<manta::Ref<int>> refs;
  for (int i = 0; i < 10'000; ++i) refs.push_back(manta::put(i));
  const auto sum = [](std::vector<manta::Ref<int>> many) {
    int64_t total = 0;
    for (const int each : manta::get(many)) total += each;
    return total;
  };
  EXPECT_EQ(manta::closure(sum)(refs).get(), 49'995'000);
  const auto holder = manta::put(refs);
  refs.clear();
  EXPECT_EQ(manta::closure(sum)(holder).get(), 49'995'000);
  EXPECT_EQ(holder.get()[9'999].get(), 9'999);
}

TEST(Tasks, ReturnThousandsOfRefs) {
  const auto make = [](int count) {
    std::vector<manta::Ref<int>> refs;
    for (int i = 0; i < count; ++i) refs.push_back(manta::put(i));
    return refs;
  };
  for (const int count : {3, 4'000, 20'000}) {
    const std::vector<manta::Ref<int>> refs = manta::closure(make)(count).get();
    ASSERT_EQ(refs.size(), static_cast<size_t>(count));
    const std::vector<int> values = manta::get(refs);
    for (int i = 0; i < count; ++i) ASSERT_EQ(values[static_cast<size_t>(i)], i);
  }
}

TEST(Tasks, AreWaitedForOneByOne) {
  std::vector<manta::Ref<int>> pending;
  for (int i = 0; i < 2'000; ++i) pending.push_back(manta::remote<kAddInts>(i, 0));
  size_t came = 0;
  while (!pending.empty()) {
    auto waited = manta::wait(pending, 1);
    ASSERT_FALSE(waited.ready.empty());
    came += waited.ready.size();
    pending = std::move(waited.pending);
  }
  EXPECT_EQ(came, 2'000u);
}

TEST(Tasks, WaitForRoomOrThrowWhenTooMuchIsQueued) {
  const std::string text(90'000, 'x');
  const auto slow = [](std::string s) {
    std::this_thread::sleep_for(100ms);
    return s.size();
  };
  std::vector<manta::Ref<size_t>> refs;
  const manta::Error full = error_of([&] {
    for (int i = 0; i < 10'000; ++i) refs.push_back(manta::closure(slow).with({.throw_when_full = true})(text));
  });
  EXPECT_EQ(full.code(), Code::kFull);
  EXPECT_NE(std::string(full.what()).find("bytes of arguments queued"), std::string::npos) << full.what();
  EXPECT_GT(refs.size(), 2'000u);
  std::thread makes_room([&] {
    std::this_thread::sleep_for(300ms);
    for (const auto& ref : refs) (void)ref.cancel();
  });
  const manta::Ref<size_t> last = manta::closure(slow)(text);  // waits for room instead
  makes_room.join();
  EXPECT_EQ(last.get(), 90'000u);
}

TEST(Tasks, ManyMiddlingArgumentsAreNotTooMuchForARing) {
  std::vector<manta::Ref<std::string>> parts;
  for (int i = 0; i < 3; ++i) parts.push_back(manta::put(std::string(90'000, static_cast<char>('a' + i))));
  const auto join = [](std::string a, std::string b, std::string c) { return a + b + c; };
  EXPECT_EQ(manta::closure(join)(parts[0], parts[1], parts[2]).get().size(), 270'000u);
}

TEST(Errors, OfTheUsersCodeKeepTypeMessageAndPlace) {
  const manta::Error error = error_of([] { (void)manta::remote<&throws>("boom").get(); });
  EXPECT_EQ(error.code(), Code::kTaskFailed);
  EXPECT_EQ(error.origin_type(), "std::runtime_error");
  const std::string text = error.what();
  EXPECT_NE(text.find("boom"), std::string::npos) << text;
  EXPECT_NE(text.find("program::throws"), std::string::npos) << text;
  EXPECT_NE(text.find("process "), std::string::npos) << text;
  EXPECT_EQ(error_of([] { (void)manta::remote<&throws_int>(3).get(); }).origin_type(), "int");
}

TEST(Errors, PassThroughDependentTasks) {
  const auto bad = manta::remote<&throws>("first cause");
  const manta::Error error = error_of([&] { (void)manta::remote<kAddInts>(bad, 1).get(); });
  EXPECT_EQ(error.code(), Code::kTaskFailed);
  EXPECT_NE(std::string(error.what()).find("first cause"), std::string::npos) << error.what();
  // Known to have failed when it is passed, while another is under way.
  const auto other = manta::remote<&nap>(100);
  EXPECT_EQ(error_of([&] { (void)manta::remote<kAddInts>(bad, 1).get(); }).code(), Code::kTaskFailed);
  (void)other.get();
}

TEST(Errors, ADeathSaysByWhat) {
  const manta::Error killed =
      error_of([] { (void)manta::remote<&dies_until>.with({.retries = 0})(fresh_path("never"), 99, SIGKILL).get(); });
  EXPECT_EQ(killed.code(), Code::kDied);
  EXPECT_NE(std::string(killed.what()).find("SIGKILL"), std::string::npos) << killed.what();
  const manta::Error ended = error_of([] { (void)manta::remote<&exits>.with({.retries = 0})(3).get(); });
  EXPECT_NE(std::string(ended.what()).find("code 3"), std::string::npos) << ended.what();
}

TEST(Retries, FollowADeath) {
  EXPECT_EQ(manta::remote<&dies_until>(fresh_path("deaths"), 3, SIGKILL).get(), 3);
  EXPECT_EQ(manta::remote<&dies_until>(fresh_path("abort"), 2, SIGABRT).get(), 2);
}

TEST(Retries, FollowListedErrorsOnly) {
  EXPECT_EQ(
      manta::remote<&throws_until>.with({.retries = 5, .retry_on = manta::errors<MyError>()})(fresh_path("listed"), 3).get(),
      3);
  EXPECT_EQ(manta::remote<&throws_until>.with({.retries = 5, .retry_on = {"*"}})(fresh_path("any"), 2).get(), 2);
  EXPECT_EQ(error_of([] { (void)manta::remote<&throws_until>(fresh_path("unlisted"), 2).get(); }).origin_type(),
            "program::MyError");
  const std::string path = fresh_path("bounded");
  error_of([&] { (void)manta::remote<&throws_until>.with({.retries = 2, .retry_on = {"*"}})(path, 99).get(); });
  EXPECT_EQ(count_in(path), 4) << "three attempts and this count";
}

TEST(Waiting, TimesOutAndGoesOn) {
  const auto slow = manta::remote<&nap>(400);
  EXPECT_EQ(slow.result(10ms).status().code(), Code::kTimeout);
  EXPECT_FALSE(slow.wait(1ms));
  EXPECT_EQ(slow.get(), 400);
}

TEST(Waiting, ForSomeOfManySplitsThem) {
  const std::vector<manta::Ref<int>> refs{manta::remote<&nap>(500), manta::remote<&nap>(1)};
  const auto waited = manta::wait(refs, 1);
  ASSERT_EQ(waited.ready.size(), 1u);
  EXPECT_EQ(waited.ready[0].get(), 1);
  ASSERT_EQ(waited.pending.size(), 1u);
  EXPECT_EQ(waited.pending[0].get(), 500);
}

TEST(Timeouts, EndTheAttempt) {
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(error_of([] { (void)manta::remote<&nap>.with({.timeout = 100ms})(60'000).get(); }).code(), Code::kTimeout);
  EXPECT_LT(std::chrono::steady_clock::now() - start, 20s);
  EXPECT_EQ(manta::remote<&nap>.with({.timeout = 10'000ms})(1).get(), 1);
}

TEST(Cancel, QueuedWorkNeverStarts) {
  const std::string path = fresh_path("cancel-queued");
  std::vector<manta::Ref<int>> busy;
  for (int i = 0; i < 8; ++i) busy.push_back(manta::remote<&nap>(100));
  const auto queued = manta::remote<&count_in>(path);
  ASSERT_TRUE(queued.cancel().ok());
  EXPECT_EQ(error_of([&] { (void)queued.get(); }).code(), Code::kCancelled);
  manta::get(busy);
  EXPECT_EQ(count_in(path), 1);
}

TEST(Cancel, RunningWorkSeesItOrIsKilled) {
  const std::string path = fresh_path("cancel-running");
  const auto polite = manta::remote<&wait_for_cancel>(path);
  std::this_thread::sleep_for(100ms);
  ASSERT_TRUE(polite.cancel().ok());
  EXPECT_EQ(error_of([&] { (void)polite.get(); }).code(), Code::kCancelled);
  for (int i = 0; i < 500 && !std::filesystem::exists(path); ++i) std::this_thread::sleep_for(10ms);
  EXPECT_TRUE(std::filesystem::exists(path)) << "the task saw manta::cancelled() and returned";

  const auto stubborn = manta::remote<&nap>(600'000);
  std::this_thread::sleep_for(50ms);
  ASSERT_TRUE(stubborn.cancel(true).ok());
  EXPECT_EQ(error_of([&] { (void)stubborn.get(); }).code(), Code::kCancelled);
}

TEST(Streams, GiveItemsInOrder) {
  int expected = 0;
  for (const manta::Ref<int>& item : manta::remote<&count_to>(1'000)) ASSERT_EQ(item.get(), expected++);
  EXPECT_EQ(expected, 1'000);
}

TEST(Streams, HoldTheProducerBack) {
  const std::string path = fresh_path("stream");
  manta::Stream<int> stream = manta::remote<&produce_into>.with({.stream_buffer = 4})(path, 100);
  EXPECT_EQ(stream.next()->get(), 0);
  std::this_thread::sleep_for(200ms);
  EXPECT_LE(count_in(path), 1 + 4 + 1 + 1) << "one read, four ahead, one at the gate, and this count";
  for (int i = 1; i < 100; ++i) ASSERT_EQ(stream.next()->get(), i);
  EXPECT_FALSE(stream.next());
}

TEST(Streams, EndWithTheProducersError) {
  manta::Stream<std::string> stream = manta::remote<&count_then_throw>(3);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(stream.next()->get(), std::to_string(i));
  EXPECT_NE(std::string(error_of([&] { (void)stream.next(); }).what()).find("the well is dry"), std::string::npos);
}

TEST(Streams, DroppedEarlyStopTheProducer) {
  {
    manta::Stream<int> stream = manta::remote<&count_to>(1'000'000'000);
    (void)stream.next();
  }
  EXPECT_EQ(manta::remote<kAddInts>(1, 2).get(), 3);
}

TEST(Options, ReachTheWorker) {
  EXPECT_EQ(manta::remote<&environment>.with({.env = {{"MANTA_TEST_WORD", "hello"}}})("MANTA_TEST_WORD").get(), "hello");
  const manta::Error infeasible = error_of([] { (void)manta::remote<&pid>.with({.cpus = 4'000})().get(); });
  EXPECT_EQ(infeasible.code(), Code::kInvalid);
  EXPECT_NE(std::string(infeasible.what()).find("4000"), std::string::npos) << infeasible.what();
  EXPECT_EQ(error_of([] { (void)manta::remote<&pid>.with({.gpus = 1.5})(); }).code(), Code::kInvalid);
}

TEST(Options, LogicalGpusAreGivenOut) {
  if (manta::node_info().gpus < 2) GTEST_SKIP() << "the node has no logical GPUs";
  EXPECT_EQ(manta::remote<&devices>.with({.gpus = 2})().get(), (std::vector<int>{0, 1}));
  EXPECT_EQ(manta::remote<&devices>.with({.gpus = 0.5})().get().size(), 1u);
}

TEST(Refs, InsideResultsStayAliveAndUsable) {
  const Nested nested = manta::remote<&make_nested>(5).get();
  EXPECT_EQ(nested.refs.size(), 5u);
  EXPECT_EQ(nested.refs[3].get(), 3);
  EXPECT_EQ(nested.text->get(), "four");
  EXPECT_EQ(manta::remote<&sum_nested>(nested).get(), 0 + 1 + 2 + 3 + 4 + 4);
  EXPECT_EQ(manta::remote<&returns_ref>(8).get().get(), 8);
}

TEST(Refs, FreedObjectsGiveTheirMemoryBack) {
  for (int i = 0; i < 40; ++i) {
    const auto big = manta::put(manta::Array<double>(std::vector<double>(1'000'000, i)));
    ASSERT_EQ(big.get()[5], i);
  }
  for (int i = 0; i < 200; ++i) {
    if (manta::node_info().store_objects == 0) break;
    std::this_thread::sleep_for(10ms);
  }
  EXPECT_EQ(manta::node_info().store_objects, 0u);
}

}  // namespace
}  // namespace program

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  return manta::run(argc, argv, [] { return RUN_ALL_TESTS(); });
}

// Placement groups and placement options through the public API, on one node.
#include "tests/runtime/errors.h"
#include "tests/runtime/program.h"

#include <gtest/gtest.h>

namespace program {
namespace {

using manta::Code;
using manta::PlacementGroup;
using manta::Status;
using manta::Strategy;
using namespace std::chrono_literals;

int doubled(int n) { return 2 * n; }
std::string visible() {
  const char* const devices = std::getenv("CUDA_VISIBLE_DEVICES");
  return devices == nullptr ? "" : devices;
}
void wait_for(const std::string& path) {
  while (!std::ifstream(path)) std::this_thread::sleep_for(1ms);
}
int in_it(const PlacementGroup& group, int n) {
  manta::throw_if_error(group.wait());
  return manta::remote<&doubled>.with({.group = group})(n).get();
}

struct Cell {
  int n = 0;
  int add(int by) { return n += by; }
  std::string devices() { return visible(); }
};

TEST(Groups, ServeTasksAndActors) {
  const PlacementGroup group = manta::placement_group({{.cpus = 1}, {.cpus = 1}});
  // Submitted before it is ready, perhaps.
  const manta::Ref<int> early = manta::remote<&doubled>.with({.group = group})(4);
  ASSERT_TRUE(group.wait(10s).ok()) << group.why();
  EXPECT_TRUE(group.is_ready());
  EXPECT_EQ(group.why(), "");
  EXPECT_EQ(group.nodes(), (std::vector<manta::NodeNumber>(2, manta::this_node())));
  EXPECT_EQ(early.get(), 8);
  const auto cell = manta::spawn<Cell>.with({.cpus = 1, .group = group, .bundle = 1})();
  EXPECT_EQ(cell.call<&Cell::add>(3).get(), 3);
  EXPECT_EQ(manta::remote<&doubled>.with({.group = group, .bundle = 0})(5).get(), 10);
  EXPECT_EQ(manta::remote<&in_it>.with({.cpus = 0})(group, 6).get(), 12);
  group.remove();
  manta::Result<int> last = cell.call<&Cell::add>(1).result(30s);  // calls may be faster than the end
  while (last.ok()) last = cell.call<&Cell::add>(1).result(30s);
  EXPECT_EQ(last.status().code(), Code::kDied);
  EXPECT_FALSE(manta::remote<&doubled>.with({.group = group})(1).result(30s).ok());
}

TEST(Groups, AreReadyAsARefAndInACoroutine) {
  const PlacementGroup group = manta::placement_group({{.cpus = 0.5}}, {.name = "half"});
  group.ready().get();
  const auto wait = [](PlacementGroup one) -> manta::Async<int> {
    co_await one.ready();
    co_return co_await manta::remote<&doubled>.with({.cpus = 0.5, .group = one})(2);
  };
  EXPECT_EQ(wait(group).run(), 4);
  group.remove();
}

TEST(Groups, WhatCannotBeIsRefusedAndWhatHasNoRoomSaysWhy) {
  const PlacementGroup never = manta::placement_group({{.cpus = 4'000}}, {.name = "huge"});
  const Status refused = never.wait(30s);
  EXPECT_NE(refused.code(), Code::kTimeout);
  EXPECT_NE(refused.message().find("4000 CPUs"), std::string::npos) << refused.message();
  const PlacementGroup spread =
      manta::placement_group({{.cpus = 0.1}, {.cpus = 0.1}}, {.strategy = Strategy::kStrictSpread});
  const Status waits = spread.wait(50ms);
  EXPECT_EQ(waits.code(), Code::kTimeout);
  EXPECT_NE(waits.message().find("STRICT_SPREAD"), std::string::npos) << waits.message();
  EXPECT_EQ(error_of([] { (void)manta::placement_group({{.gpus = 1.5}}); }).code(), Code::kInvalid);
  spread.remove();
  EXPECT_EQ(spread.ready().result(30s).code(), Code::kDied);
}

TEST(Groups, ASecondWaitsForTheRoomOfTheFirst) {
  const double all = manta::node_info().cpus;
  const PlacementGroup first = manta::placement_group({{.cpus = all}});
  ASSERT_TRUE(first.wait(30s).ok());
  const PlacementGroup second = manta::placement_group({{.cpus = all}});
  const Status waits = second.wait(100ms);
  EXPECT_NE(waits.message().find("CPUs"), std::string::npos) << waits.message();
  // Work outside of them waits as well, and says for what.
  const manta::Ref<int> outside = manta::remote<&doubled>(1);
  EXPECT_FALSE(outside.wait(50ms));
  EXPECT_NE(manta::explain(outside).find("needs 1 CPUs"), std::string::npos) << manta::explain(outside);
  first.remove();
  EXPECT_TRUE(second.wait(30s).ok());
  second.remove();
  EXPECT_EQ(outside.get(), 2);
}

TEST(Groups, SharesOfADeviceAreOfOneDevice) {
  const PlacementGroup group = manta::placement_group({{.gpus = 0.5}, {.gpus = 0.5}, {.gpus = 1}});
  ASSERT_TRUE(group.wait(10s).ok()) << group.why();
  std::vector<manta::Actor<Cell>> cells;
  for (int bundle = 0; bundle < 3; ++bundle)
    cells.push_back(manta::spawn<Cell>.with({.gpus = bundle == 2 ? 1 : 0.25, .group = group, .bundle = bundle})());
  const std::string first = cells[0].call<&Cell::devices>().get();
  EXPECT_EQ(cells[1].call<&Cell::devices>().get(), first);
  EXPECT_NE(cells[2].call<&Cell::devices>().get(), first);
  EXPECT_EQ(manta::remote<&visible>.with({.cpus = 0, .gpus = 0.25, .group = group, .bundle = 0})().get(), first);
  EXPECT_FALSE(manta::remote<&visible>.with({.cpus = 0, .gpus = 1, .group = group, .bundle = 0})().result(30s).ok());
  group.remove();
}

TEST(Groups, ManyComeAndGo) {
  for (int i = 0; i < 1'000; ++i) {
    const PlacementGroup group = manta::placement_group({{.cpus = 1}});
    ASSERT_TRUE(group.wait(30s).ok()) << i << ": " << group.why();
    group.remove();
  }
  EXPECT_EQ(manta::remote<&doubled>(1).get(), 2);
}

TEST(Explains, WhatACallWaitsFor) {
  const std::string gate = "/tmp/manta-groups-test-" + std::to_string(::getpid());
  const double all = manta::node_info().cpus;
  const manta::Ref<void> held = manta::remote<&wait_for>.with({.cpus = all})(gate);
  const manta::Ref<int> first = manta::remote<&doubled>.with({.cpus = all, .gpus = 0.5})(1);
  const manta::Ref<int> second = manta::remote<&doubled>(first);
  const std::string why = manta::explain(first);
  EXPECT_NE(why.find("tasks that wait for a worker"), std::string::npos) << why;
  EXPECT_EQ(manta::explain(second), "it waits for 1 of its arguments");
  (void)count_in(gate);
  EXPECT_EQ(second.get(), 4);
  EXPECT_EQ(manta::explain(second), "it is ready");
  held.get();
  ::unlink(gate.c_str());
}

TEST(Places, OneNodeIsTheOnlyOne) {
  EXPECT_EQ(manta::this_node(), manta::NodeNumber{1});
  EXPECT_EQ(manta::remote<&doubled>.with({.node = manta::this_node()})(1).get(), 2);
  EXPECT_EQ(manta::remote<&doubled>.with({.node = {9}, .node_is_soft = true})(1).get(), 2);
  EXPECT_FALSE(manta::remote<&doubled>.with({.node = {9}})(1).result(30s).ok());
  EXPECT_FALSE(manta::remote<&doubled>.with({.labels = {{"disk", "ssd"}}})(1).result(30s).ok());
  EXPECT_EQ(manta::remote<&doubled>.with({.spread = true, .priority = 3})(1).get(), 2);
}

}  // namespace
}  // namespace program

int main(int argc, char** argv) {
  setenv("MANTA_GPUS", "2", 0);
  testing::InitGoogleTest(&argc, argv);
  return manta::run(argc, argv, [] { return RUN_ALL_TESTS(); });
}

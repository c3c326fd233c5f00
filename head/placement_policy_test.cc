#include "head/placement_policy.h"

#include "head/testing/fake_cluster.h"

#include <gmock/gmock.h>

#include <map>

namespace manta::head {
namespace {

using ::testing::HasSubstr;
using wire::NodeNumber;

class PlacementPolicyTest : public ::testing::Test {
 protected:
  NodeNumber add(const wire::NodeResources& capacity, std::map<std::string, std::string> labels = {},
                 bool is_driver = false) {
    wire::NodeInfo info;
    info.number = ++last;
    info.name = std::to_string(last);
    info.capacity = capacity;
    info.labels = std::move(labels);
    info.is_driver = is_driver;
    policy.add(info, 0);
    return last;
  }
  /// Chooses and counts it, as the head does.
  NodeNumber place(const wire::SchedulingClass& what, NodeNumber owner = 0) {
    const NodeNumber node = policy.choose(what, owner).node;
    if (node == 0) return 0;
    policy.charge(node, {what.resources}, 0);
    policy.count_actor(node, 1);
    return node;
  }
  std::map<NodeNumber, int> place_many(int count, const wire::SchedulingClass& what, NodeNumber owner = 0) {
    std::map<NodeNumber, int> counts;
    for (int i = 0; i < count; ++i) ++counts[place(what, owner)];
    return counts;
  }

  PlacementPolicy policy;
  NodeNumber last = 0;
};

TEST_F(PlacementPolicyTest, TheOwnersNodeIsPreferredUntilItIsHalfFull) {
  const NodeNumber own = add(room(8));
  const NodeNumber other = add(room(8));
  EXPECT_EQ(place_many(4, needs(1), own)[own], 4);
  EXPECT_EQ(place(needs(1), own), other);
}

TEST_F(PlacementPolicyTest, ABurstSpreadsEvenlyBeforeAnyHeartbeat) {
  for (int i = 0; i < 10; ++i) add(room(4));
  for (double cpus : {0.0, 1.0}) {
    std::map<NodeNumber, int> counts = place_many(1'000, needs(cpus));
    for (NodeNumber node = 1; node <= 10; ++node) EXPECT_NEAR(counts[node], 100, 2) << cpus << " CPUs on " << node;
  }
}

TEST_F(PlacementPolicyTest, ADriversOwnActorsSpreadToo) {
  const NodeNumber driver = add(room(0), {}, true);
  for (int i = 0; i < 4; ++i) add(room(4));
  std::map<NodeNumber, int> counts = place_many(400, needs(0), driver);
  EXPECT_EQ(counts[driver], 0);
  for (NodeNumber node = 2; node <= 5; ++node) EXPECT_NEAR(counts[node], 100, 2);
}

TEST_F(PlacementPolicyTest, AChargeEndsWithTheReportThatHasIt) {
  const NodeNumber node = add(room(2));
  const uint64_t first = policy.charge(node, {needs(1).resources}, 0);
  const uint64_t second = policy.charge(node, {needs(1).resources}, 0);
  EXPECT_EQ(policy.find(node)->free.cpus, 0);
  policy.report(node, room(1), 0, first, 10);
  EXPECT_EQ(policy.find(node)->free.cpus, 0);
  policy.report(node, room(0), 0, second, 20);
  EXPECT_EQ(policy.find(node)->free.cpus, 0);
  policy.report(node, room(2), 0, second, 30);
  EXPECT_EQ(policy.find(node)->free.cpus, room(2).cpus);
}

TEST_F(PlacementPolicyTest, SharesOfDevicesAreNeverAddedUp) {
  const NodeNumber node = add(room(8, 2));
  wire::SchedulingClass most = needs(0, 0.6);
  EXPECT_EQ(place(most), node);
  EXPECT_EQ(place(most), node);
  // 0.8 of a device is free, but on no single device more than 0.4.
  EXPECT_FALSE(policy.find(node)->free.devices[0].share >= 6'000 || policy.find(node)->free.devices[1].share >= 6'000);
  const NodeNumber other = add(room(1, 1));
  EXPECT_EQ(place(most), other);
  EXPECT_EQ(policy.choose(needs(0, 3), 0).node, 0u);
  EXPECT_THAT(policy.choose(needs(0, 3), 0).why, HasSubstr("needs 3 GPU, has 2 GPU"));
}

TEST_F(PlacementPolicyTest, WorkWithoutGpusLeavesThoseNodesAlone) {
  add(room(8, 4));
  const NodeNumber plain = add(room(8));
  EXPECT_EQ(place_many(8, needs(1))[plain], 8);
  EXPECT_EQ(place(needs(1)), 1u);  // rather there than waiting
}

TEST_F(PlacementPolicyTest, SpreadGoesWhereTheFewestActorsAre) {
  const NodeNumber own = add(room(100));
  const NodeNumber small = add(room(2));
  wire::SchedulingClass what = needs(1);
  what.spread = true;
  EXPECT_EQ(place(what, own), own);
  EXPECT_EQ(place(what, own), small);
  EXPECT_EQ(place(what, own), own);
  EXPECT_EQ(place(what, own), small);
  EXPECT_EQ(place(what, own), own);
  EXPECT_EQ(place(what, own), own);  // the small one has no room now
}

TEST_F(PlacementPolicyTest, LabelsAreHard) {
  add(room(8), {{"zone", "a"}});
  const NodeNumber b = add(room(1), {{"zone", "b"}, {"disk", "fast"}});
  wire::SchedulingClass what = needs(1);
  what.labels = {{"zone", "b"}};
  EXPECT_EQ(place(what, 1), b);
  EXPECT_EQ(place(what, 1), b);  // it waits there
  what.labels = {{"zone", "c"}};
  EXPECT_EQ(policy.choose(what, 1).node, 0u);
  EXPECT_THAT(policy.choose(what, 1).why, HasSubstr("lacks a label"));
}

TEST_F(PlacementPolicyTest, AffinityIsKeptOrGivenUpAsAskedFor) {
  const NodeNumber one = add(room(1));
  const NodeNumber two = add(room(4));
  wire::SchedulingClass what = needs(2);
  what.node = two;
  EXPECT_EQ(place(what, one), two);
  what.node = one;
  EXPECT_TRUE(policy.choose(what, two).is_hopeless);
  EXPECT_THAT(policy.choose(what, two).why, HasSubstr("needs 2 CPUs, has 1"));
  what.is_soft = true;
  EXPECT_EQ(place(what, one), two);
  what = needs(1);
  what.node = two;
  policy.set_takes_work(two, false);
  EXPECT_EQ(policy.choose(what, one).node, 0u);
  EXPECT_FALSE(policy.choose(what, one).is_hopeless);
  policy.remove(two);
  EXPECT_TRUE(policy.choose(what, one).is_hopeless);
  what.is_soft = true;
  EXPECT_EQ(place(what, one), one);
}

TEST_F(PlacementPolicyTest, NothingNewGoesToANodeThatTakesNoWork) {
  const NodeNumber one = add(room(4));
  policy.set_takes_work(one, false);
  EXPECT_EQ(policy.choose(needs(1), one).node, 0u);
  EXPECT_THAT(policy.choose(needs(1), one).why, HasSubstr("takes no new work now"));
  policy.set_takes_work(one, true);
  EXPECT_EQ(place(needs(1), one), one);
}

TEST_F(PlacementPolicyTest, ThatNothingHoldsItIsRememberedUntilTheNodesChange) {
  const NodeNumber small = add(room(1));
  const auto large = needs(8);
  for (int i = 0; i < 2; ++i) EXPECT_THAT(policy.choose(large, small).why, HasSubstr("the nearest is node 1"));
  const NodeNumber big = add(room(8));
  EXPECT_EQ(policy.choose(large, small).node, big);
  policy.set_takes_work(big, false);
  for (int i = 0; i < 2; ++i) EXPECT_THAT(policy.choose(large, small).why, HasSubstr("takes no new work now"));
  policy.set_takes_work(big, true);
  EXPECT_EQ(policy.choose(large, small).node, big);
  policy.remove(big);
  for (int i = 0; i < 2; ++i) EXPECT_THAT(policy.choose(large, small).why, HasSubstr("the nearest is node 1"));
}

}  // namespace
}  // namespace manta::head

// Placement groups in a head with invented nodes that really set bundles aside, as raylets do.
#include "head/testing/fake_cluster.h"
#include "wire/node_resources.h"

#include <gmock/gmock.h>

#include <deque>
#include <random>

namespace manta::head {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using wire::ActorPhase;
using wire::kHeadNode;
using wire::NodeNumber;
using wire::PlacementGroupState;
using wire::PlacementStrategy;

class Groups : public ::testing::Test {
 protected:
  Groups() {
    EXPECT_EQ(cluster.join(room(4)), kHeadNode);
    a = cluster.join(room(4));
    b = cluster.join(room(4));
    driver = cluster.process(kHeadNode, wire::Role::kDriver);
  }

  void create(uint64_t request, std::vector<double> cpus, PlacementStrategy strategy, bool detached = false) {
    wire::CreatePlacementGroup create{
        .request = request, .bundles = {}, .strategy = static_cast<uint8_t>(strategy), .detached = detached, .name = {}};
    for (double one : cpus) create.bundles.push_back(needs(one).resources);
    cluster.ask(driver, create);
    group = 0;
    for (const auto& [to, notice] : cluster.said<wire::GroupNotice>())
      if (notice.update.request == request) group = notice.update.group;
    note();
  }
  /// Remembers what nodes have to answer.
  void note() {
    for (const auto& [to, prepare] : cluster.said<wire::PrepareBundles>()) asked.emplace_back(to, prepare);
    for (const auto& [to, release] : cluster.said<wire::ReleaseBundles>()) released.emplace_back(to, release);
  }
  void answer_one(const Status& status = {}) {
    const auto [node, prepare] = asked.front();
    asked.pop_front();
    cluster.say(node, wire::BundlesPrepared{prepare.group, prepare.attempt, wire::to_wire(status)});
    note();
  }
  void answer_all() {
    while (!asked.empty()) answer_one();
  }
  PlacementGroups::State state() const { return cluster.core.groups().find(group)->state; }
  std::string why() const { return cluster.core.groups().find(group)->why; }
  std::vector<NodeNumber> nodes() const { return cluster.core.groups().find(group)->row.nodes; }

  FakeCluster cluster;
  NodeNumber a = 0;
  NodeNumber b = 0;
  uint64_t driver = 0;
  uint64_t group = 0;
  std::deque<std::pair<NodeNumber, wire::PrepareBundles>> asked;
  std::vector<std::pair<NodeNumber, wire::ReleaseBundles>> released;
};

TEST_F(Groups, AGroupOnOneNodeIsReadyAfterOneMessageAndItsAnswer) {
  create(1, {1, 1}, PlacementStrategy::kStrictPack);
  ASSERT_THAT(asked, SizeIs(1));
  EXPECT_TRUE(asked[0].second.is_commit);
  EXPECT_THAT(asked[0].second.bundles, SizeIs(2));
  answer_one();
  EXPECT_THAT(cluster.said<wire::CommitBundles>(), IsEmpty());
  const auto notices = cluster.said<wire::GroupNotice>();
  ASSERT_THAT(notices, SizeIs(1));
  EXPECT_EQ(notices[0].second.to, driver);
  EXPECT_EQ(notices[0].second.update.state, static_cast<uint8_t>(PlacementGroupState::kReady));
  EXPECT_THAT(notices[0].second.update.nodes, SizeIs(2));
  cluster.expect_replay_is_equal();
}

TEST_F(Groups, BundlesOnSeveralNodesAreCommittedWhenAllHavePrepared) {
  create(1, {3, 3, 3}, PlacementStrategy::kStrictSpread);
  ASSERT_THAT(asked, SizeIs(3));
  answer_one();
  answer_one();
  EXPECT_THAT(cluster.said<wire::CommitBundles>(), IsEmpty());
  EXPECT_EQ(state(), PlacementGroups::State::kPreparing);
  cluster.expect_replay_is_equal();
  answer_one();
  EXPECT_THAT(cluster.said<wire::CommitBundles>(), SizeIs(3));
  EXPECT_EQ(state(), PlacementGroups::State::kReady);
  cluster.expect_replay_is_equal();
}

TEST_F(Groups, OneRefusalReleasesTheRestAndItTriesAgain) {
  create(1, {3, 3}, PlacementStrategy::kStrictSpread);
  answer_one();
  answer_one(Status(Code::kUnavailable, "needs 3 CPUs, 1 is free"));
  EXPECT_THAT(released, SizeIs(2));
  EXPECT_EQ(state(), PlacementGroups::State::kPending);
  EXPECT_THAT(why(), HasSubstr("refused: needs 3 CPUs, 1 is free"));
  EXPECT_THAT(asked, IsEmpty());
  cluster.wait(PlacementGroups::kMaxBackoffUs);
  note();
  ASSERT_THAT(asked, SizeIs(2));
  EXPECT_GT(asked[0].second.attempt, released[0].second.attempt);
  answer_all();
  EXPECT_EQ(state(), PlacementGroups::State::kReady);
  cluster.expect_replay_is_equal();
}

TEST_F(Groups, AnAnswerToAnOldAttemptHasNoEffect) {
  create(1, {1}, PlacementStrategy::kPack);
  const auto [node, first] = asked.front();
  answer_one(Status(Code::kUnavailable, "no"));
  cluster.wait(PlacementGroups::kMaxBackoffUs);
  note();
  cluster.say(node, wire::BundlesPrepared{first.group, first.attempt, {}});
  EXPECT_EQ(state(), PlacementGroups::State::kPreparing);
  answer_one();
  EXPECT_EQ(state(), PlacementGroups::State::kReady);
}

TEST_F(Groups, WhatFitsNowhereWaitsAndSaysWhy) {
  create(1, {8}, PlacementStrategy::kPack);
  EXPECT_EQ(state(), PlacementGroups::State::kPending);
  EXPECT_THAT(why(), HasSubstr("bundle 0: no node could hold it"));
  create(2, {1, 1, 1, 1}, PlacementStrategy::kStrictSpread);
  EXPECT_THAT(why(), HasSubstr("needs as many nodes, 3 take work"));
  cluster.join(room(16));
  for (const NodeNumber node : {a, b}) cluster.beat(node, room(4));
  cluster.wait(1);
  note();
  answer_all();
  for (const auto& [number, one] : cluster.core.groups().groups()) EXPECT_EQ(one.state, PlacementGroups::State::kReady);
}

// ---------------------------------------------------------------------------------------------------- what becomes free

TEST_F(Groups, WhatRefusedIsTriedAgainOnceItReportsThoughItReportsWhatTheHeadBelieved) {
  for (const NodeNumber node : {kHeadNode, b}) cluster.beat(node, room(0));
  create(1, {4}, PlacementStrategy::kPack);
  answer_one(Status(Code::kUnavailable, "needs 4 CPUs, 3 are free"));  // a task that the head had not heard of
  cluster.wait(PlacementGroups::kFirstBackoffUs);
  cluster.beat(a, room(4));  // it has ended
  cluster.wait(PlacementGroups::kLookPauseUs);
  note();
  ASSERT_THAT(asked, SizeIs(1));
  answer_one();
  EXPECT_EQ(state(), PlacementGroups::State::kReady);
}

TEST_F(Groups, WhateverBecomesFreeIsSeenAlsoWhenTheNodeIsAsLoadedAsBefore) {
  wire::NodeResources left = room(0);
  left.memory_bytes = 0;
  for (const NodeNumber node : {kHeadNode, a, b}) cluster.beat(node, left);
  create(1, {1}, PlacementStrategy::kPack);
  for (int i = 0; i < 20; ++i) {  // its own pace is slow by then
    cluster.wait(500'000);
    for (const NodeNumber node : {a, b}) cluster.beat(node, left);
  }
  left.cpus = wire::kWhole;
  cluster.beat(a, left);
  cluster.wait(1);
  note();
  EXPECT_THAT(asked, SizeIs(1));
}

TEST_F(Groups, WhatAnotherAttemptGivesBackIsSeen) {
  create(1, {4, 4, 4}, PlacementStrategy::kStrictSpread);
  const auto answers = asked;
  asked.clear();
  create(2, {4, 4}, PlacementStrategy::kStrictSpread);
  EXPECT_THAT(asked, IsEmpty());
  cluster.say(a, wire::BundlesPrepared{answers[0].second.group, answers[0].second.attempt,
                                       wire::to_wire(Status(Code::kUnavailable, "no"))});
  cluster.wait(1);
  note();
  ASSERT_THAT(asked, SizeIs(2));  // not on the node that refused
  for (const auto& [node, prepare] : asked) {
    EXPECT_EQ(prepare.group, group);
    EXPECT_NE(node, a);
  }
}

TEST_F(Groups, WhatTasksHaveIsAskedBackNowAndThen) {
  const auto beat = [this](NodeNumber node, int64_t free, int64_t leased) {
    wire::Heartbeat report{.has_resources = true, .available = room(free), .placed_up_to = ~uint64_t{0}};
    report.leased.cpus = leased * wire::kWhole;
    cluster.say(node, report);
  };
  beat(kHeadNode, 0, 0);  // an actor's
  beat(a, 1, 3);
  beat(b, 0, 4);
  create(1, {4, 4, 4}, PlacementStrategy::kStrictSpread);
  create(2, {4, 4}, PlacementStrategy::kStrictSpread);
  EXPECT_THAT(asked, IsEmpty());  // what tasks are done with comes by itself
  for (int i = 0; i < 4 && asked.empty(); ++i) {
    cluster.wait(5 * PlacementGroups::kFirstBackoffUs);
    note();
  }
  ASSERT_THAT(asked, SizeIs(2));
  for (int i = 0; i < 2; ++i) answer_one(Status(Code::kUnavailable, "asked back"));
  // Something became free, but not enough: its nodes are not asked at once again.
  beat(a, 2, 2);
  cluster.wait(1);
  note();
  EXPECT_THAT(asked, IsEmpty());
  for (int i = 0; i < 4 && asked.empty(); ++i) {
    cluster.wait(PlacementGroups::kMaxBackoffUs / 2);
    note();
    beat(a, 2, 2);
    beat(b, 0, 4);
  }
  ASSERT_THAT(asked, SizeIs(2));
  for (int i = 0; i < 2; ++i) answer_one(Status(Code::kUnavailable, "asked back"));
  beat(a, 4, 0);
  beat(b, 4, 0);
  cluster.wait(PlacementGroups::kLookPauseUs);
  note();
  answer_all();
  EXPECT_EQ(state(), PlacementGroups::State::kReady);
}

TEST_F(Groups, WhoKeepsRoomForItHearsThatItIsElsewhere) {
  create(1, {4}, PlacementStrategy::kPack);
  const NodeNumber first = asked.front().first;
  answer_one(Status(Code::kUnavailable, "no"));
  cluster.wait(PlacementGroups::kMaxBackoffUs);
  note();
  ASSERT_THAT(asked, SizeIs(1));
  ASSERT_NE(asked.front().first, first);
  released.clear();
  answer_one();
  ASSERT_EQ(state(), PlacementGroups::State::kReady);
  ASSERT_THAT(released, SizeIs(1));
  EXPECT_EQ(released[0].first, first);
  EXPECT_EQ(released[0].second.attempt, ~uint64_t{0});
}

TEST_F(Groups, EveryOneOfManyIsLookedAtWhenSomethingBecameFree) {
  constexpr uint64_t kMany = 5 * PlacementGroups::kLooksAtOnce;
  for (uint64_t i = 1; i < kMany; ++i) create(i, {5}, PlacementStrategy::kPack);
  for (const NodeNumber node : {kHeadNode, a, b}) cluster.beat(node, room(0));
  create(kMany, {1}, PlacementStrategy::kPack);
  cluster.wait(1);
  cluster.beat(a, room(1));
  for (size_t i = 0; i < 2 * kMany / PlacementGroups::kLooksAtOnce && asked.empty(); ++i) {
    cluster.wait(PlacementGroups::kLookPauseUs);
    note();
  }
  ASSERT_THAT(asked, SizeIs(1));
  EXPECT_EQ(asked[0].second.group, group);
}

TEST_F(Groups, ALostNodeTakesTheWholeGroupAlongAndItIsMadeAnew) {
  create(1, {3, 3}, PlacementStrategy::kStrictSpread);
  answer_all();
  const NodeNumber lost = nodes()[0] == kHeadNode ? nodes()[1] : nodes()[0];
  cluster.say(kHeadNode, wire::HeadNodeLost{lost, "refused"});
  note();
  EXPECT_THAT(released, SizeIs(1));  // the dead one hears nothing
  EXPECT_EQ(state(), PlacementGroups::State::kPending);
  EXPECT_EQ(cluster.said<wire::GroupNotice>().at(0).second.update.state,
            static_cast<uint8_t>(PlacementGroupState::kPending));
  cluster.expect_replay_is_equal();
  const NodeNumber left = lost == a ? b : a;
  cluster.beat(left, room(4));
  cluster.beat(kHeadNode, room(4));
  cluster.wait(1);
  note();
  answer_all();
  EXPECT_EQ(state(), PlacementGroups::State::kReady);
  for (NodeNumber node : nodes()) EXPECT_NE(node, lost);
}

TEST_F(Groups, AGroupGoesWithItsJobUnlessItIsDetached) {
  create(1, {1}, PlacementStrategy::kPack);
  answer_all();
  const uint64_t first = group;
  create(2, {1}, PlacementStrategy::kPack, true);
  answer_all();
  cluster.say(kHeadNode, wire::HeadClientGone{driver, {}});
  EXPECT_EQ(cluster.core.groups().find(first), nullptr);
  EXPECT_NE(cluster.core.groups().find(group), nullptr);
  EXPECT_THAT(cluster.said<wire::ReleaseBundles>(), SizeIs(1));
  cluster.expect_replay_is_equal();
}

TEST_F(Groups, ActorsOfAGroupWaitForItAndGoToItsBundles) {
  create(1, {3, 3}, PlacementStrategy::kStrictSpread);
  wire::SchedulingClass what = needs(1);
  what.group = group;
  const wire::ActorKey any1 = cluster.create(driver, what);
  const wire::ActorKey any2 = cluster.create(driver, what);
  what.bundle = 1;
  const wire::ActorKey second = cluster.create(driver, what);
  EXPECT_EQ(cluster.where(any1), 0u);
  EXPECT_THAT(cluster.cause(any1), HasSubstr("waits for its placement group"));
  answer_all();
  EXPECT_EQ(cluster.where(second), nodes()[1]);
  EXPECT_NE(cluster.where(any1), cluster.where(any2));  // each where the fewest are
  for (const auto& [to, place] : cluster.said<wire::PlaceActor>())
    EXPECT_EQ(to, nodes().at(static_cast<size_t>(place.scheduling_class.bundle)));
  what.resources = needs(4).resources;
  const wire::ActorKey large = cluster.create(driver, what);
  EXPECT_EQ(cluster.phase(large), ActorPhase::kDead);
  EXPECT_THAT(cluster.cause(large), HasSubstr("no bundle of its placement group is large enough"));
  cluster.ask(driver, wire::RemovePlacementGroup{group});
  EXPECT_EQ(cluster.phase(any1), ActorPhase::kDead);
  EXPECT_EQ(cluster.cause(second), "its placement group was removed");
  cluster.expect_replay_is_equal();
}

TEST_F(Groups, ARestartedHeadKeepsWhatItsNodesStillHold) {
  create(1, {3, 3, 3}, PlacementStrategy::kStrictSpread, true);
  answer_all();
  const uint64_t kept = group;
  const uint64_t attempt = cluster.core.groups().find(kept)->row.attempt;
  cluster.restart_head(room(4));
  // The head's own node is another now, so the group is made anew; what the others held is released when they say so.
  EXPECT_EQ(cluster.core.groups().find(kept)->state, PlacementGroups::State::kPending);
  cluster.say(a, wire::HeadNodeReturns{.info = cluster.core.members().find(a)->info, .bundles = {{kept, attempt}}});
  EXPECT_THAT(cluster.said<wire::ReleaseBundles>(), SizeIs(1));
  cluster.say(b, wire::HeadNodeReturns{.info = cluster.core.members().find(b)->info, .bundles = {{kept, attempt}}});
  cluster.wait(PlacementGroups::kMaxBackoffUs);
  note();
  ASSERT_THAT(asked, SizeIs(3));
  EXPECT_GT(asked[0].second.attempt, attempt);
  answer_all();
  EXPECT_EQ(cluster.core.groups().find(kept)->state, PlacementGroups::State::kReady);
  cluster.expect_replay_is_equal();
}

TEST_F(Groups, AReadyGroupOnNodesThatReturnIsLeftAlone) {
  cluster.beat(kHeadNode, room(0));
  create(1, {3, 3}, PlacementStrategy::kStrictSpread, true);
  answer_all();
  ASSERT_THAT(nodes(), ::testing::UnorderedElementsAre(a, b));
  const uint64_t attempt = cluster.core.groups().find(group)->row.attempt;
  cluster.restart_head(room(4));
  for (const NodeNumber node : {a, b}) {
    cluster.say(node, wire::HeadNodeReturns{.info = cluster.core.members().find(node)->info, .bundles = {{group, attempt}}});
    EXPECT_THAT(cluster.said<wire::ReleaseBundles>(), IsEmpty());
    EXPECT_THAT(cluster.said<wire::CommitBundles>(), SizeIs(1));
  }
  EXPECT_EQ(state(), PlacementGroups::State::kReady);
}

TEST_F(Groups, NonsenseIsRefused) {
  create(1, {}, PlacementStrategy::kPack);
  EXPECT_EQ(group, 0u);
  create(2, {-1}, PlacementStrategy::kPack);
  EXPECT_EQ(group, 0u);
  create(3, {1}, static_cast<PlacementStrategy>(9));
  EXPECT_EQ(group, 0u);
}

TEST(GroupsAlone, ALocalSessionLeavesItToItsRaylet) {
  HeadCore core;
  (void)core.step(kHeadNode, FakeCluster::client(5, wire::Role::kDriver), 0);
  wire::CreatePlacementGroup create{.request = 1, .bundles = {needs(100).resources}, .name = {}};
  HeadEffects effects = core.step(kHeadNode, wire::HeadRequest{5, create}, 0);
  ASSERT_THAT(effects.messages, SizeIs(2));
  const auto prepare = std::get<wire::PrepareBundles>(effects.messages[1].message);
  EXPECT_EQ(effects.messages[1].to, kHeadNode);
  const Status never(Code::kInvalid, "needs 100 CPUs, this node has 4");
  effects = core.step(kHeadNode, wire::BundlesPrepared{prepare.group, prepare.attempt, wire::to_wire(never)}, 0);
  EXPECT_THAT(core.groups().groups(), IsEmpty());
}

/// Nodes that set bundles aside as raylets do, with messages that take their time.
class Competition {
 public:
  explicit Competition(uint32_t seed) : random_(seed) {
    for (int i = 0; i < 4; ++i) frees_[cluster.join(room(6))] = room(6);
    driver_ = cluster.process(kHeadNode, wire::Role::kDriver);
  }
  uint32_t pick(size_t below) { return static_cast<uint32_t>(random_() % below); }

  void create() {
    wire::CreatePlacementGroup create{
        .request = ++last_request_, .bundles = {}, .strategy = static_cast<uint8_t>(pick(4)), .name = {}};
    // Never more than one node has: each would fit alone.
    for (uint32_t i = 1 + pick(3); i > 0; --i) create.bundles.push_back(needs(1 + pick(3) / 2).resources);
    cluster.ask(driver_, create);
    for (const auto& [to, notice] : cluster.said<wire::GroupNotice>())
      if (notice.update.request == create.request && notice.update.group != 0) groups.push_back(notice.update.group);
    send();
  }
  void remove(size_t which) {
    cluster.ask(driver_, wire::RemovePlacementGroup{groups[which]});
    groups.erase(groups.begin() + static_cast<std::ptrdiff_t>(which));
    send();
  }
  void wait(int64_t us) {
    cluster.wait(us);
    send();
  }
  void beat(NodeNumber node, uint64_t placed_up_to) {
    cluster.beat(node, frees_[node], placed_up_to);
    send();
  }
  void deliver_one() {
    if (on_the_way_.empty()) return;
    const wire::ToNode one = on_the_way_.front();
    on_the_way_.pop_front();
    if (const auto* release = std::get_if<wire::ReleaseBundles>(&one.message)) give_back(one.to, release->group);
    if (const auto* prepare = std::get_if<wire::PrepareBundles>(&one.message)) reserve(one.to, *prepare);
  }
  /// Until nothing happens any more.
  void settle() {
    for (int round = 0; round < 200; ++round) {
      while (!on_the_way_.empty()) deliver_one();
      for (NodeNumber node = 1; node <= 4; ++node) beat(node, ~uint64_t{0});
      wait(100'000);
    }
    while (!on_the_way_.empty()) deliver_one();
  }

  FakeCluster cluster;
  std::vector<uint64_t> groups;
  std::map<std::pair<NodeNumber, uint64_t>, wire::PrepareBundles> held;

 private:
  void send() { on_the_way_.insert(on_the_way_.end(), cluster.last.begin(), cluster.last.end()); }
  void give_back(NodeNumber node, uint64_t group) {
    const auto it = held.find({node, group});
    if (it == held.end()) return;
    for (const wire::Bundle& one : it->second.bundles) frees_[node].cpus += one.resources.cpus;
    held.erase(it);
  }
  void reserve(NodeNumber node, const wire::PrepareBundles& prepare) {
    give_back(node, prepare.group);
    wire::NodeResources left = frees_[node];
    bool does_fit = true;
    for (const wire::Bundle& bundle : prepare.bundles) {
      does_fit = does_fit && fits(room(6), left, bundle.resources);
      take(room(6), left, bundle.resources);
    }
    if (does_fit) {
      frees_[node] = left;
      held[{node, prepare.group}] = prepare;
    }
    const Status status = does_fit ? Status() : Status(Code::kUnavailable, "no room");
    cluster.say(node, wire::BundlesPrepared{prepare.group, prepare.attempt, wire::to_wire(status)});
    send();
  }

  std::mt19937 random_;
  std::map<NodeNumber, wire::NodeResources> frees_;
  std::deque<wire::ToNode> on_the_way_;
  uint64_t driver_ = 0;
  uint64_t last_request_ = 0;
};

// What the head knows of nodes is old all the time. In the end nobody holds what a group does not have, and every group for
// which there is room is ready.
TEST(GroupsRandom, CompetingGroupsAllComeToBe) {
  for (uint32_t seed = 0; seed < 30; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    Competition world(seed);
    for (int step = 0; step < 400; ++step) {
      switch (world.pick(8)) {
        case 0:
          if (world.groups.size() < 12) world.create();
          break;
        case 1:
          if (world.groups.size() > 6) world.remove(world.pick(world.groups.size()));
          break;
        case 2: world.wait(world.pick(300'000)); break;
        case 3: world.beat(1 + world.pick(4), 0); break;  // what was sent and not seen stays counted
        default: world.deliver_one(); break;
      }
    }
    while (world.groups.size() > 1) world.remove(0);  // several may keep each other from one node
    world.settle();
    for (uint64_t group : world.groups)
      EXPECT_EQ(world.cluster.core.groups().find(group)->state, PlacementGroups::State::kReady)
          << world.cluster.core.groups().find(group)->why;
    for (const auto& [key, prepare] : world.held) {
      const PlacementGroups::Group* group = world.cluster.core.groups().find(key.second);
      ASSERT_NE(group, nullptr) << "a node holds what nobody knows";
      EXPECT_EQ(group->row.attempt, prepare.attempt);
    }
    world.cluster.expect_replay_is_equal();
  }
}

}  // namespace
}  // namespace manta::head

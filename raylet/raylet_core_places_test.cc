// Where work may run, and why it waits, on one raylet, the head and other nodes invented.
#include "raylet/testing/group_session.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace manta::raylet {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

using Session = GroupSession;

TEST(Places, LabelsDecideWhere) {
  Session world(4, 0, kSelf);
  world.join(kOther, 4);
  world.join(kThird, 4, {{"disk", "ssd"}});
  wire::SchedulingClass what = one_cpu();
  what.labels = {{"disk", "ssd"}};
  world.ask(1, what);
  ASSERT_THAT(world.asked, SizeIs(1));
  EXPECT_EQ(world.asked[0].node, kThird);
  what.labels = {{"disk", "tape"}};
  world.ask(2, what);
  EXPECT_THAT(world.asked, SizeIs(1));
  EXPECT_TRUE(world.sent<wire::LeaseRefused>(FakeWorld::kDriver).empty());  // such a node may join
  world.join(9, 1, {{"disk", "tape"}});
  ASSERT_THAT(world.asked, SizeIs(2));
  EXPECT_EQ(world.asked[1].node, 9u);
}

TEST(Places, ANodeThatIsNamedIsTakenOrRefusedOnceItIsGone) {
  Session world(4, 0, kSelf);
  world.start_all();
  world.join(kOther, 1);
  world.join(kThird, 4);
  wire::SchedulingClass what = one_cpu();
  what.node = kOther;
  world.ask(1, what);
  world.ask(2, what);
  ASSERT_THAT(world.asked, SizeIs(2));
  EXPECT_EQ(world.asked[0].node, kOther);
  EXPECT_EQ(world.asked[1].node, kOther);
  EXPECT_TRUE(world.asked[1].message.may_wait);
  wire::SchedulingClass soft = what;
  soft.is_soft = true;
  world.feed(MembersChanged{{.joined = {}, .gone = {{kOther, wire::to_wire(Status(Code::kDied, "lost"))}}}});
  const auto refused = world.sent<wire::LeaseRefused>(FakeWorld::kDriver);
  ASSERT_THAT(refused, SizeIs(2));
  EXPECT_THAT(refused[0].status.message, HasSubstr("node 7, where it must be"));
  world.ask(3, soft);
  EXPECT_TRUE(world.grant_of(FakeWorld::kDriver, 3));
  what.node = kSelf;
  world.ask(4, what);
  EXPECT_TRUE(world.grant_of(FakeWorld::kDriver, 4));
  what.resources = needs(100);
  what.node = kThird;
  world.ask(5, what);
  EXPECT_THAT(world.sent<wire::LeaseRefused>(FakeWorld::kDriver).back().status.message, HasSubstr("needs 100 CPUs, has 4"));
}

TEST(Places, SpreadGoesWhereTheLeastOfItIs) {
  Session world(4, 0, kSelf);
  world.start_all();
  world.join(kOther, 4);
  world.join(kThird, 4);
  wire::SchedulingClass what = one_cpu();
  what.spread = true;
  for (uint64_t number = 1; number <= 6; ++number) world.ask(number, what);
  std::map<wire::NodeNumber, int> there;
  for (const AskLease& one : world.asked) ++there[one.node];
  EXPECT_EQ(there[kOther], 2);
  EXPECT_EQ(there[kThird], 2);
  EXPECT_THAT(world.grants, SizeIs(2));
}

TEST(Places, WorkGoesToWhatItReadsIfThereIsRoom) {
  Session world(4, 0, kSelf);
  world.start_all();
  world.join(kOther, 4);
  world.join(kThird, 1);
  const auto ask = [&](uint64_t number) {
    world.say(FakeWorld::kDriver,
              wire::RequestLease{.request = number, .scheduling_class = one_cpu(), .backlog = 1, .near = kThird});
  };
  ask(1);
  ASSERT_THAT(world.asked, SizeIs(1));
  EXPECT_EQ(world.asked[0].node, kThird);
  ask(2);  // full there: here as ever
  EXPECT_TRUE(world.grant_of(FakeWorld::kDriver, 2));
}

TEST(Places, ALocalSessionHasNone) {
  Session world(2);
  wire::SchedulingClass what = one_cpu();
  what.node = 5;
  world.ask(1, what);
  what.node = 0;
  what.labels = {{"a", "b"}};
  world.ask(2, what);
  EXPECT_THAT(world.sent<wire::LeaseRefused>(FakeWorld::kDriver), SizeIs(2));
}

TEST(Places, HigherPriorityGoesFirstAndTakesLeasesBack) {
  Session world(1);
  world.start_all();
  wire::SchedulingClass low = one_cpu();
  wire::SchedulingClass high = one_cpu();
  wire::SchedulingClass lowest = one_cpu();
  high.priority = 5;
  lowest.priority = -5;
  world.ask(1, low);
  ASSERT_TRUE(world.grant_of(FakeWorld::kDriver, 1));
  world.ask(2, lowest);
  EXPECT_THAT(world.sent<wire::ReclaimLease>(FakeWorld::kDriver), IsEmpty());
  world.ask(3, high);
  EXPECT_THAT(world.sent<wire::ReclaimLease>(FakeWorld::kDriver), SizeIs(1));
  world.say(FakeWorld::kDriver, wire::ReturnLease{world.grant_of(FakeWorld::kDriver, 1)->lease});
  EXPECT_TRUE(world.grant_of(FakeWorld::kDriver, 3));
  EXPECT_FALSE(world.grant_of(FakeWorld::kDriver, 2));
}

TEST(Places, ExplainsWhatWaits) {
  Session world(1, 1, kSelf);
  world.start_all();
  world.join(kOther, 2);
  world.ask(1, one_cpu());
  wire::SchedulingClass what = one_cpu();
  what.resources = needs(1, 0.5);
  world.ask(2, what);
  world.say(FakeWorld::kDriver, wire::Explain{.request = 9, .lease_request = 2});
  world.say(FakeWorld::kDriver, wire::Explain{.request = 10, .lease_request = 0});
  const auto answers = world.sent<wire::Explained>(FakeWorld::kDriver);
  ASSERT_THAT(answers, SizeIs(2));
  ASSERT_THAT(answers[0].lines, SizeIs(1));
  EXPECT_THAT(answers[0].lines[0], HasSubstr("asks for 1 CPU, 0.5 GPU; here it needs 1 CPUs, 0 of 1 are free"));
  ASSERT_THAT(answers[1].lines, SizeIs(1));
  EXPECT_THAT(answers[1].lines[0], HasSubstr("1 requests of process"));
}

}  // namespace
}  // namespace manta::raylet

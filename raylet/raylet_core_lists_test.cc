// Visitors: what they may say, and lists that go from node to node.
#include "raylet/testing/fake_world.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace manta::raylet {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr wire::NodeNumber kSelf = 3;
constexpr wire::NodeNumber kBefore = 2;
constexpr wire::NodeNumber kBehind = 7;
constexpr ProcessId kVisitor{wire::first_id_of(kSelf) + 40};

struct Node : FakeWorld {
  explicit Node(int64_t cpus = 1, wire::NodeNumber number = kSelf) : FakeWorld(cpus, 0, number) {
    wire::Hello hello;
    hello.process = kVisitor.value;
    hello.role = static_cast<uint8_t>(wire::Role::kObserver);
    feed(ClientJoined{hello});
  }
  void meet_others() {
    wire::Members members;
    for (const wire::NodeNumber number : {kBefore, kBehind}) {
      wire::NodeInfo info;
      info.number = number;
      info.name = "n" + std::to_string(number);
      members.joined.push_back(info);
    }
    feed(MembersChanged{members});
  }
  wire::Listed list(wire::ListOf what, std::string cursor = "", uint32_t limit = 100, ProcessId from = kVisitor) {
    sends.clear();
    say(from,
        wire::ListRequest{
            .request = 5, .what = static_cast<uint8_t>(what), .filters = {}, .cursor = std::move(cursor), .limit = limit});
    const auto answers = sent<wire::Listed>(from);
    return answers.empty() ? wire::Listed{} : answers.back();
  }
  std::string handed_on_cursor() const {
    return handed_on.empty() ? "" : std::get<wire::ListRequest>(handed_on.back().message).cursor;
  }
};

TEST(Visitors, TheHeadKnowsOfThemWhileTheyAreHere) {
  Node node;
  const auto* joined = std::get_if<wire::HeadClientJoined>(&node.told_head.back());
  ASSERT_NE(joined, nullptr);
  EXPECT_EQ(joined->process, kVisitor.value);
  node.feed(ClientGone{kVisitor, {}});
  const auto* gone = std::get_if<wire::HeadClientGone>(&node.told_head.back());
  ASSERT_NE(gone, nullptr);
  EXPECT_EQ(gone->process, kVisitor.value);
}

TEST(Visitors, WhatIsForDriversAndWorkersCostsThemTheConnection) {
  Node node;
  const size_t spawned = node.spawns.size();
  node.request(kVisitor, 1, 1);
  ASSERT_THAT(node.disconnected, SizeIs(1));
  EXPECT_EQ(node.disconnected[0].process, kVisitor);
  EXPECT_THAT(node.spawns, SizeIs(spawned));
  node.sends.clear();
  EXPECT_THAT(node.list(wire::ListOf::kWorkers).rows, IsEmpty()) << "it is no client any more";
  EXPECT_THAT(node.sends, IsEmpty());
}

TEST(Visitors, WhoMayOnlyLookChangesNothing) {
  Node node;
  const size_t told = node.told_head.size();
  node.feed(FromClient{kVisitor, wire::KillActor{.actor = {1, 1}, .reason = ""}, false});
  ASSERT_THAT(node.disconnected, SizeIs(1));
  EXPECT_THAT(node.disconnected[0].status.message(), HasSubstr("viewer"));
  for (size_t i = told; i < node.told_head.size(); ++i)
    EXPECT_FALSE(std::holds_alternative<wire::HeadRequest>(node.told_head[i]));
}

TEST(Visitors, WhoMayActIsPassedOnToTheHead) {
  Node node;
  node.feed(FromClient{kVisitor, wire::KillActor{.actor = {1, 1}, .reason = ""}, true});
  EXPECT_THAT(node.disconnected, IsEmpty());
  EXPECT_TRUE(std::holds_alternative<wire::HeadRequest>(node.told_head.back()));
  node.feed(FromClient{kVisitor, wire::GetClusterStatus{4}, false});
  EXPECT_TRUE(std::holds_alternative<wire::HeadRequest>(node.told_head.back()));
}

TEST(NodeLists, WorkersAndTasksShowWhatTheyDo) {
  Node node(2);
  for (uint64_t request = 1; request <= 4; ++request) node.request(FakeWorld::kDriver, request, 1);
  node.start_all();
  const wire::Listed workers = node.list(wire::ListOf::kWorkers);
  EXPECT_THAT(workers.rows, SizeIs(2));
  EXPECT_EQ(workers.rows[0].at("state"), "busy");
  const wire::Listed tasks = node.list(wire::ListOf::kTasks);
  ASSERT_THAT(tasks.rows, SizeIs(4));
  EXPECT_EQ(tasks.rows[0].at("state"), "running");
  EXPECT_EQ(tasks.rows[3].at("state"), "waiting");
  EXPECT_THAT(tasks.rows[3].at("why"), HasSubstr("CPU"));
}

TEST(NodeLists, PagesOfTasksFollowTheirCursors) {
  Node node(2);
  for (uint64_t request = 1; request <= 9; ++request) node.request(FakeWorld::kDriver, request, 1);
  node.start_all();
  std::vector<size_t> pages;
  std::vector<std::string> states;
  std::string cursor;
  do {
    const wire::Listed page = node.list(wire::ListOf::kTasks, cursor, 4);
    for (const auto& row : page.rows) states.push_back(row.at("state"));
    pages.push_back(page.rows.size());
    cursor = page.cursor;
  } while (!cursor.empty() && pages.size() < 9);
  EXPECT_THAT(pages, ElementsAre(4, 4, 1, 0));
  EXPECT_THAT(states, SizeIs(9));
  EXPECT_EQ(std::ranges::count(states, "running"), 2);
}

TEST(NodeLists, GoFromNodeToNodeInTheOrderOfTheNumbers) {
  Node node;
  node.meet_others();
  node.list(wire::ListOf::kWorkers);
  ASSERT_THAT(node.handed_on, SizeIs(1));
  EXPECT_EQ(node.handed_on[0].node, kBefore);
  EXPECT_EQ(node.handed_on_cursor(), "2:");
  node.list(wire::ListOf::kWorkers, "2:5");
  EXPECT_EQ(node.handed_on.back().node, kBefore);
  EXPECT_EQ(node.handed_on_cursor(), "2:5");
  EXPECT_EQ(node.list(wire::ListOf::kWorkers, "3:").cursor, "4:") << "its own turn";
  node.list(wire::ListOf::kWorkers, "4:");
  EXPECT_EQ(node.handed_on.back().node, kBehind);
  EXPECT_EQ(node.handed_on_cursor(), "7:");
  const wire::Listed last = node.list(wire::ListOf::kWorkers, "8:");
  EXPECT_EQ(last.request, 5u);
  EXPECT_EQ(last.cursor, "");
  EXPECT_THAT(node.handed_on, SizeIs(3));
}

TEST(NodeLists, AreAnsweredToAVisitorOfAnotherNode) {
  Node node;
  node.meet_others();
  const ProcessId elsewhere{wire::first_id_of(kBefore) + 9};
  EXPECT_EQ(node.list(wire::ListOf::kTasks, "3:", 10, elsewhere).cursor, "4:");
  node.list(wire::ListOf::kObjects, "3:17", 10, elsewhere);
  ASSERT_THAT(node.listed_objects, SizeIs(1));
  EXPECT_EQ(node.listed_objects[0].to, elsewhere);
  EXPECT_EQ(node.listed_objects[0].request.cursor, "17");
  EXPECT_THAT(node.handed_on, IsEmpty());
}

TEST(NodeLists, PassANodeOverThatDoesNotAnswer) {
  Node node;
  node.meet_others();
  wire::NodeView silent{.number = kBehind, .available = {}, .is_suspect = true};
  node.feed(ViewChanged{{.version = 1, .changed = {std::move(silent)}}});
  const wire::Listed last = node.list(wire::ListOf::kWorkers, "4:");
  EXPECT_EQ(last.cursor, "");
  EXPECT_THAT(last.note, HasSubstr("node 7"));
  EXPECT_THAT(node.handed_on, IsEmpty());
}

TEST(NodeLists, ASessionOfOneNodeEndsWithIt) {
  Node node(1, 0);
  node.request(FakeWorld::kDriver, 1, 1);
  node.start_all();
  node.request(FakeWorld::kDriver, 2, 1);
  const wire::Listed tasks = node.list(wire::ListOf::kTasks);
  EXPECT_THAT(tasks.rows, SizeIs(2));
  EXPECT_EQ(tasks.cursor, "");
  const wire::Listed first = node.list(wire::ListOf::kTasks, "", 1);
  EXPECT_THAT(first.rows, SizeIs(1));
  EXPECT_THAT(node.list(wire::ListOf::kTasks, first.cursor, 1).rows, SizeIs(1));
}

TEST(NodeLists, OddCursorsAreHarmless) {
  Node node;
  for (const char* cursor : {":", "x", "3:zzz", "3:q", "99999999999999999999:1", "3:18446744073709551615"})
    (void)node.list(wire::ListOf::kTasks, cursor);
  EXPECT_THAT(node.disconnected, IsEmpty());
}

}  // namespace
}  // namespace manta::raylet

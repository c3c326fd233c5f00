// Quotas of jobs in the core: who is admitted, and what is told about it.
#include "raylet/testing/fake_world.h"

#include <gtest/gtest.h>

namespace manta::raylet {
namespace {

using wire::Amounts;
using wire::QuotaReport;

constexpr int64_t kCpu = wire::kWhole;

/// A world whose job has a quota; the test is the head.
class Quotas : public ::testing::Test {
 protected:
  explicit Quotas(int64_t cpus = 4, wire::NodeNumber number = 0) : world(cpus, 0, number, {{"cpus", kCpu}}) {}

  [[nodiscard]] std::vector<QuotaReport> reports() {
    std::vector<QuotaReport> found;
    for (const wire::ToHead& told : world.told_head)
      if (const auto* report = std::get_if<QuotaReport>(&told)) found.push_back(*report);
    return found;
  }
  /// Answers the last report with so many CPUs.
  void give(int64_t cpus) {
    const Amounts share = cpus == 0 ? Amounts() : Amounts{{"cpus", cpus * kCpu}};
    world.feed(HeadSays{wire::QuotaShare{.job = FakeWorld::kDriver.value,
                                         .number = ++shares,
                                         .report = reports().back().number,
                                         .share = share,
                                         .held = share}});
  }
  [[nodiscard]] std::vector<std::string> why(ProcessId who, uint64_t request) {
    world.say(who, wire::Explain{.request = 1, .lease_request = request});
    return world.sent<wire::Explained>(who).back().lines;
  }

  FakeWorld world;
  uint64_t shares = 0;
};

TEST_F(Quotas, ARequestWaitsUntilItsJobMayHaveMore) {
  world.request(FakeWorld::kDriver, 1, 1);
  world.request(FakeWorld::kDriver, 2, 1);
  world.start_all();
  EXPECT_TRUE(world.grants.empty());
  ASSERT_EQ(reports().size(), 1u);  // the second waits for the answer
  EXPECT_EQ(reports()[0].keeps, Amounts());
  ASSERT_EQ(reports()[0].wants.size(), 1u);
  EXPECT_EQ(reports()[0].wants[0], (wire::QuotaWant{{{"cpus", kCpu}}, 1}));

  give(1);
  world.start_all();
  ASSERT_TRUE(world.grant_of(FakeWorld::kDriver, 1));
  EXPECT_FALSE(world.grant_of(FakeWorld::kDriver, 2));
  ASSERT_EQ(reports().size(), 2u);
  EXPECT_EQ(reports()[1].seen, 1u);
  EXPECT_EQ(reports()[1].keeps, (Amounts{{"cpus", kCpu}}));
  EXPECT_EQ(reports()[1].wants.at(0).count, 1u);
  give(1);
  ASSERT_EQ(why(FakeWorld::kDriver, 2).size(), 1u);
  EXPECT_NE(
      why(FakeWorld::kDriver, 2)[0].find("it waits for its job's quota: it asks for 1 CPU, the quota is 1 CPU, the job "
                                         "holds 1 CPU"),
      std::string::npos)
      << why(FakeWorld::kDriver, 2)[0];

  // What comes back serves the next without a trip.
  world.say(FakeWorld::kDriver, wire::ReturnLease{world.grant_of(FakeWorld::kDriver, 1)->lease});
  world.start_all();
  ASSERT_TRUE(world.grant_of(FakeWorld::kDriver, 2));
  world.say(FakeWorld::kDriver, wire::ReturnLease{world.grant_of(FakeWorld::kDriver, 2)->lease});
  while (reports().back().keeps != Amounts()) give(1);
  give(0);
  EXPECT_TRUE(reports().back().wants.empty());
  EXPECT_TRUE(world.core.is_at_rest());
}

TEST_F(Quotas, MoreThanTheWholeQuotaIsRefusedAtOnce) {
  world.request(FakeWorld::kDriver, 1, 2);
  const auto refused = world.sent<wire::LeaseRefused>(FakeWorld::kDriver);
  ASSERT_EQ(refused.size(), 1u);
  EXPECT_EQ(wire::from_wire(refused[0].status).code(), Code::kInvalid);
  EXPECT_NE(refused[0].status.message.find("more than the whole quota"), std::string::npos) << refused[0].status.message;
  EXPECT_TRUE(world.core.is_at_rest());
}

TEST_F(Quotas, WhatIsNotLimitedNeedsNoAccount) {
  world.request(FakeWorld::kDriver, 1, 0);
  world.start_all();
  EXPECT_TRUE(world.grant_of(FakeWorld::kDriver, 1));
  EXPECT_TRUE(reports().empty());
}

TEST_F(Quotas, AWorkerThatWaitsGivesItsPartToItsChild) {
  world.request(FakeWorld::kDriver, 1, 1);
  give(1);
  world.start_all();
  const ProcessId parent{world.grant_of(FakeWorld::kDriver, 1)->worker};
  world.request(parent, 7, 1);
  EXPECT_FALSE(world.grant_of(parent, 7));
  world.say(parent, wire::Blocked{true});
  world.start_all();
  ASSERT_TRUE(world.grant_of(parent, 7));
  world.say(parent, wire::ReturnLease{world.grant_of(parent, 7)->lease});
  world.say(parent, wire::Blocked{false});
  world.say(FakeWorld::kDriver, wire::ReturnLease{world.grant_of(FakeWorld::kDriver, 1)->lease});
  EXPECT_TRUE(world.core.is_at_rest());
}

TEST_F(Quotas, AnotherClassOfTheSameOwnerIsNotKeptWaiting) {
  world.request(FakeWorld::kDriver, 1, 1);
  world.request(FakeWorld::kDriver, 2, 1);
  give(1);
  world.start_all();
  ASSERT_TRUE(world.grant_of(FakeWorld::kDriver, 1));
  EXPECT_TRUE(world.sent<wire::ReclaimLease>(FakeWorld::kDriver).empty());
  world.request(FakeWorld::kDriver, 3, 0.5);
  const auto asked = world.sent<wire::ReclaimLease>(FakeWorld::kDriver);
  ASSERT_EQ(asked.size(), 1u);
  EXPECT_EQ(asked[0].lease, world.grant_of(FakeWorld::kDriver, 1)->lease);
  world.request(FakeWorld::kDriver, 4, 0.5);
  EXPECT_EQ(world.sent<wire::ReclaimLease>(FakeWorld::kDriver).size(), 1u);  // once
}

TEST_F(Quotas, CancelledRequestsAndDeadOwnersLeaveNothing) {
  world.request(FakeWorld::kDriver, 1, 1);
  give(1);
  world.start_all();
  const ProcessId worker{world.grant_of(FakeWorld::kDriver, 1)->worker};
  world.request(worker, 1, 1);
  world.request(FakeWorld::kDriver, 2, 1);
  world.say(FakeWorld::kDriver, wire::CancelLeaseRequest{2});
  world.exit(worker);
  EXPECT_TRUE(world.core.is_at_rest());
  give(1);
  EXPECT_EQ(reports().back().keeps, Amounts());
  EXPECT_TRUE(reports().back().wants.empty());
}

class QuotasElsewhere : public Quotas {
 protected:
  QuotasElsewhere() : Quotas(0, 5) {
    wire::NodeInfo info;
    info.number = 6;
    info.name = "six";
    info.capacity.cpus = 4 * kCpu;
    world.feed(MembersChanged{{.joined = {info}, .gone = {}}});
    world.feed(ViewChanged{{.version = 1, .changed = {{.number = 6, .available = info.capacity}}}});
  }
  void heard(uint64_t request, wire::LeaseEvent event) {
    world.feed(LeaseHeard{6, {FakeWorld::kDriver.value, request, static_cast<uint8_t>(event)}});
  }
};

TEST_F(QuotasElsewhere, ALeaseOfAnotherNodeCountsUntilThatNodeSaysItIsOver) {
  world.request(FakeWorld::kDriver, 1, 1);
  EXPECT_TRUE(world.asked.empty());
  give(1);
  ASSERT_EQ(world.asked.size(), 1u);
  EXPECT_TRUE(world.asked[0].message.is_metered);
  world.request(FakeWorld::kDriver, 2, 1);
  const uint64_t lease = wire::first_id_of(6) + 3;
  world.feed(PeerMet{FakeWorld::kDriver, ProcessId{wire::first_id_of(6) + 2}, 9, 1, lease});
  world.say(FakeWorld::kDriver, wire::ReturnLease{lease});
  EXPECT_EQ(world.asked.size(), 1u);
  heard(1, wire::LeaseEvent::kOver);
  ASSERT_EQ(world.asked.size(), 2u);
  EXPECT_EQ(world.asked[1].message.request.request, 2u);
  // Its worker waits: another may have it meanwhile.
  world.feed(PeerMet{FakeWorld::kDriver, ProcessId{wire::first_id_of(6) + 2}, 9, 2, lease + 1});
  world.request(FakeWorld::kDriver, 3, 1);
  EXPECT_EQ(world.asked.size(), 2u);
  heard(2, wire::LeaseEvent::kLent);
  EXPECT_EQ(world.asked.size(), 3u);
  // The node dies with both.
  world.feed(MembersChanged{{.joined = {}, .gone = {{6, wire::to_wire(Status(Code::kDied, "lost"))}}}});
  world.say(FakeWorld::kDriver, wire::CancelLeaseRequest{3});
  EXPECT_TRUE(world.core.is_at_rest());
}

TEST_F(QuotasElsewhere, WhatIsSpilledBackKeepsItsPlace) {
  world.request(FakeWorld::kDriver, 1, 1);
  give(1);
  ASSERT_EQ(world.asked.size(), 1u);
  world.feed(LeaseSpilledBack{6, {FakeWorld::kDriver.value, 1, wire::to_wire(Status(Code::kFull, "no room"))}});
  EXPECT_FALSE(world.core.is_at_rest());
  world.say(FakeWorld::kDriver, wire::CancelLeaseRequest{1});
  heard(1, wire::LeaseEvent::kOver);
  EXPECT_TRUE(world.core.is_at_rest());
}

TEST_F(QuotasElsewhere, ANodeSaysWhatBecomesOfOthersMeteredLeases) {
  const uint64_t theirs = wire::first_id_of(6) + 1;
  FakeWorld node(2, 0, 5);
  wire::NodeInfo info;
  info.number = 6;
  node.feed(MembersChanged{{.joined = {info}, .gone = {}}});
  wire::RemoteLease ask{.owner = theirs, .job = theirs, .request = {.request = 4, .scheduling_class = {}}};
  ask.request.scheduling_class.resources.cpus = kCpu;
  ask.is_metered = true;
  node.feed(LeaseAsked{6, ask});
  node.feed(
      JobFetched{JobId{theirs}, {}, {.program = "p", .arguments = {}, .working_directory = "/", .env = {}, .build_id = ""}});
  node.start_all();
  const auto granted = node.grant_of(ProcessId{theirs}, 4);
  ASSERT_TRUE(granted);
  node.say(ProcessId{granted->worker}, wire::Blocked{true});
  node.say(ProcessId{granted->worker}, wire::Blocked{false});
  node.say(ProcessId{theirs}, wire::ReturnLease{granted->lease});
  ASSERT_EQ(node.told_leases.size(), 3u);
  const wire::LeaseEvent expected[] = {wire::LeaseEvent::kLent, wire::LeaseEvent::kTakenBack, wire::LeaseEvent::kOver};
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(node.told_leases[i].node, 6u);
    EXPECT_EQ(node.told_leases[i].message.request, 4u);
    EXPECT_EQ(node.told_leases[i].message.event, static_cast<uint8_t>(expected[i]));
  }
}

}  // namespace
}  // namespace manta::raylet

// Quotas of jobs in the head's core: actors, placement groups and shares of nodes in one account.
#include "head/testing/fake_cluster.h"

#include <gtest/gtest.h>

namespace manta::head {
namespace {

using wire::Amounts;

constexpr int64_t kCpu = wire::kWhole;

class HeadQuotas : public ::testing::Test {
 protected:
  HeadQuotas() {
    cluster.join(room(0));
    work = cluster.join(room(8));
    home = cluster.join({.info = {.capacity = room(0), .is_driver = true}});
    driver = wire::first_id_of(home) + 500;
    wire::HeadClientJoined joined = FakeCluster::client(driver, wire::Role::kDriver);
    joined.quota = {{"cpus", 2 * kCpu}};
    cluster.say(home, joined);
    cluster.beat(work, room(8));
  }
  wire::ActorKey create(double cpus) {
    wire::CreateActor create;
    create.actor = {driver, ++sequence};
    create.class_name = "Class";
    create.scheduling_class = needs(cpus);
    create.job = driver;
    cluster.ask(driver, create);
    return create.actor;
  }
  void report(wire::NodeNumber node, uint64_t number, uint64_t seen, int64_t keeps, uint32_t wants) {
    wire::QuotaReport report{.job = driver, .number = number, .seen = seen, .keeps = {}, .wants = {}};
    if (keeps > 0) report.keeps = {{"cpus", keeps * kCpu}};
    if (wants > 0) report.wants = {{{{"cpus", kCpu}}, wants}};
    cluster.say(node, report);
  }
  [[nodiscard]] int64_t share_of(wire::NodeNumber node) const {
    for (const auto& [to, share] : cluster.said<wire::QuotaShare>())
      if (to == node) return share.share.empty() ? 0 : share.share.at("cpus") / kCpu;
    return -1;
  }
  [[nodiscard]] Amounts held() const { return cluster.core.quotas().held(driver); }

  FakeCluster cluster;
  wire::NodeNumber work = 0;
  wire::NodeNumber home = 0;
  uint64_t driver = 0;
  uint64_t sequence = 0;
};

TEST_F(HeadQuotas, ActorsWaitForTheirJobsQuotaAndSayWhy) {
  const wire::ActorKey first = create(1);
  const wire::ActorKey second = create(1);
  const wire::ActorKey third = create(1);
  EXPECT_EQ(cluster.where(second), work);
  EXPECT_EQ(cluster.where(third), 0u);
  EXPECT_NE(
      cluster.cause(third).find("it waits for its job's quota: it asks for 1 CPU, the quota is 2 CPUs, the job holds 2 "
                                "CPUs"),
      std::string::npos)
      << cluster.cause(third);
  cluster.start(first);
  cluster.ask(driver, wire::KillActor{.actor = first, .reason = "enough"});
  EXPECT_EQ(cluster.where(third), work);
  const wire::ActorKey large = create(3);
  EXPECT_EQ(cluster.told(driver).at(0).phase, static_cast<uint8_t>(wire::ActorPhase::kDead));
  EXPECT_EQ(cluster.told(driver).at(0).cause.code, static_cast<uint8_t>(Code::kInvalid));
  EXPECT_EQ(cluster.core.find(large), nullptr);
  cluster.say(home, wire::HeadClientGone{driver, {}});
  EXPECT_FALSE(cluster.core.quotas().is_limited(driver));
}

TEST_F(HeadQuotas, NodesShareWhatActorsLeave) {
  report(home, 1, 0, 0, 5);
  EXPECT_EQ(share_of(home), 2);
  const wire::ActorKey actor = create(1);
  EXPECT_EQ(cluster.where(actor), 0u);
  report(home, 2, 1, 1, 4);  // one ended: the actor is first
  EXPECT_EQ(cluster.where(actor), work);
  EXPECT_EQ(share_of(home), 1);
  report(work, 1, 0, 0, 1);
  EXPECT_EQ(share_of(work), 0);
  // It waits inside a call: the node that comes next has its CPU.
  cluster.start(actor);
  cluster.report(work, actor, 1, wire::ActorEvent::kLent);
  EXPECT_EQ(share_of(work), 1);
  cluster.report(work, actor, 1, wire::ActorEvent::kTookBack);
  EXPECT_EQ(held().at("cpus"), 3 * kCpu);  // it does not wait for what it had lent
  report(work, 2, 2, 0, 0);
  EXPECT_EQ(held().at("cpus"), 2 * kCpu);
  // A node that is lost gives back its share.
  cluster.say(home, wire::HeadClientGone{driver, {}});
  EXPECT_EQ(held(), Amounts());
}

TEST_F(HeadQuotas, AReportThatCrossedAShareDoesNotCount) {
  report(home, 1, 0, 0, 1);
  EXPECT_EQ(share_of(home), 1);
  report(home, 2, 0, 0, 0);  // it had not heard
  EXPECT_EQ(share_of(home), 1);
  EXPECT_EQ(held().at("cpus"), kCpu);
  report(home, 3, 1, 0, 0);
  EXPECT_EQ(held(), Amounts());
  report(home, 1, 0, 0, 1);  // said again
  EXPECT_EQ(held(), Amounts());
}

TEST_F(HeadQuotas, PlacementGroupsCountWithTheirBundles) {
  wire::CreatePlacementGroup create{.request = 1, .bundles = {needs(1).resources, needs(1).resources}, .name = ""};
  cluster.ask(driver, create);
  EXPECT_EQ(held().at("cpus"), 2 * kCpu);
  wire::CreateActor inside;
  inside.actor = {driver, ++sequence};
  inside.scheduling_class = needs(1);
  inside.scheduling_class.group = cluster.core.groups().groups().begin()->first;
  inside.job = driver;
  cluster.ask(driver, inside);
  EXPECT_EQ(held().at("cpus"), 2 * kCpu);
  wire::CreatePlacementGroup second{.request = 2, .bundles = {needs(1).resources}, .name = ""};
  cluster.ask(driver, second);
  const auto notice = cluster.said<wire::GroupNotice>();
  ASSERT_FALSE(notice.empty());
  EXPECT_NE(notice[0].second.update.why.message.find("it waits for its job's quota"), std::string::npos);
  const uint64_t first = cluster.core.groups().groups().begin()->first;
  cluster.ask(driver, wire::RemovePlacementGroup{first});
  cluster.wait(2'000'000);
  EXPECT_EQ(held().at("cpus"), kCpu);
  wire::CreatePlacementGroup large{.request = 3, .bundles = {needs(2).resources, needs(1).resources}, .name = ""};
  cluster.ask(driver, large);
  EXPECT_EQ(cluster.said<wire::GroupNotice>().at(0).second.update.state,
            static_cast<uint8_t>(wire::PlacementGroupState::kRemoved));
}

TEST_F(HeadQuotas, AHeadThatStartsAgainGivesNothingBeforeAllHaveSaidWhatTheyHave) {
  const wire::ActorKey actor = create(1);
  cluster.start(actor);
  report(home, 1, 0, 0, 1);
  cluster.expect_replay_is_equal();
  cluster.restart_head(room(0));
  EXPECT_EQ(held().at("cpus"), kCpu);  // the actor's
  wire::HeadNodeReturns back{.info = cluster.core.members().find(home)->info};
  back.clients.push_back(FakeCluster::client(driver, wire::Role::kDriver));
  back.clients[0].quota = {{"cpus", 2 * kCpu}};
  back.quotas.push_back(
      {.job = driver, .number = 3, .seen = 0, .keeps = {{"cpus", kCpu}}, .wants = {{{{"cpus", kCpu}}, 1}}});
  cluster.say(home, back);
  EXPECT_EQ(share_of(home), 1);
  EXPECT_EQ(held().at("cpus"), 2 * kCpu);
  wire::HeadNodeReturns work_back{.info = cluster.core.members().find(work)->info};
  cluster.say(work, work_back);  // without the actor: it ended meanwhile
  EXPECT_EQ(share_of(home), 2);
}

TEST(JobQuotas, TheHeadsOwnCapIsForEveryJob) {
  FakeCluster cluster({.job_quota = {{"cpus", kCpu}}});
  cluster.join(room(4));
  const uint64_t driver = cluster.process(wire::kHeadNode, wire::Role::kDriver);
  EXPECT_EQ(*cluster.core.quotas().quota_of(driver), (Amounts{{"cpus", kCpu}}));
}

}  // namespace
}  // namespace manta::head

// Lists of what the head knows, and what is left of jobs that ended.
#include "head/testing/fake_cluster.h"

#include <gmock/gmock.h>

namespace manta::head {
namespace {

using ::testing::IsEmpty;
using ::testing::SizeIs;
using wire::kHeadNode;
using wire::ListOf;
using wire::NodeNumber;

class Lists : public ::testing::Test {
 protected:
  Lists() {
    cluster.join(room(4));
    a = cluster.join(room(8), {{"zone", "a"}});
    driver = cluster.process(kHeadNode, wire::Role::kDriver);
  }
  wire::Listed list(ListOf what, std::vector<std::string> filters = {}, uint32_t limit = 100, std::string cursor = {}) {
    cluster.ask(driver, wire::ListRequest{.request = 7,
                                          .what = static_cast<uint8_t>(what),
                                          .filters = std::move(filters),
                                          .cursor = std::move(cursor),
                                          .limit = limit});
    const auto answers = cluster.said<wire::ListAnswer>();
    EXPECT_THAT(answers, SizeIs(1));
    return answers.empty() ? wire::Listed{.status = {}, .rows = {}, .cursor = {}} : answers[0].second.listed;
  }

  FakeCluster cluster;
  NodeNumber a = 0;
  uint64_t driver = 0;
};

TEST_F(Lists, PagesFollowTheirCursorsInOrder) {
  std::vector<std::string> expected;
  for (int i = 0; i < 25; ++i) {
    const wire::ActorKey key = cluster.create(driver, needs(0));
    expected.push_back(ActorId{key.owner, key.sequence}.to_string());
  }
  std::vector<std::string> seen;
  std::string cursor;
  int pages = 0;
  do {
    const wire::Listed page = list(ListOf::kActors, {}, 10, cursor);
    for (const auto& row : page.rows) seen.push_back(row.at("actor"));
    cursor = page.cursor;
    ++pages;
  } while (!cursor.empty() && pages < 10);
  EXPECT_EQ(pages, 3);
  EXPECT_EQ(seen, expected);
}

TEST_F(Lists, FiltersMustAllHold) {
  EXPECT_THAT(list(ListOf::kNodes).rows, SizeIs(2));
  EXPECT_THAT(list(ListOf::kNodes, {"label:zone=a"}).rows, SizeIs(1));
  EXPECT_THAT(list(ListOf::kNodes, {"label:zone=a", "state=alive"}).rows, SizeIs(1));
  EXPECT_THAT(list(ListOf::kNodes, {"label:zone=a", "state=away"}).rows, IsEmpty());
  EXPECT_THAT(list(ListOf::kNodes, {"no such column=1"}).rows, IsEmpty());
  EXPECT_EQ(wire::from_wire(list(ListOf::kNodes, {"nonsense"}).status).code(), Code::kInvalid);
  EXPECT_EQ(wire::from_wire(list(static_cast<ListOf>(99)).status).code(), Code::kInvalid);
}

TEST_F(Lists, AFilterThatMatchesLittleIsPagedToo) {
  for (uint64_t i = 1; i <= 10'050; ++i) {
    wire::CreateActor create;
    create.actor = {driver, i};
    (void)cluster.core.step(kHeadNode, wire::HeadRequest{driver, create}, cluster.now_us);
  }
  const wire::Listed first = list(ListOf::kActors, {"state=alive"});
  EXPECT_THAT(first.rows, IsEmpty());
  EXPECT_FALSE(first.cursor.empty());
  const wire::Listed second = list(ListOf::kActors, {"state=alive"}, 100, first.cursor);
  EXPECT_THAT(second.rows, IsEmpty());
  EXPECT_TRUE(second.cursor.empty());
}

TEST_F(Lists, SubmittedJobsStandBesideDriversThatCameByThemselves) {
  wire::SubmitJob job;
  job.key = "k";
  job.name = "nightly";
  job.program_name = "program";
  job.program_hash = std::string(64, 'a');
  job.program_bytes = 1;
  cluster.ask(driver, job);
  const wire::Listed listed = list(ListOf::kJobs);
  ASSERT_THAT(listed.rows, SizeIs(2));
  EXPECT_EQ(listed.rows[0].at("kind"), "submitted");
  EXPECT_EQ(listed.rows[0].at("name"), "nightly");
  EXPECT_EQ(listed.rows[0].at("state"), "submitted");
  EXPECT_EQ(listed.rows[1].at("kind"), "driver");
  cluster.ask(driver, wire::GetClusterStatus{1});
  const wire::ClusterStatus status = cluster.said<wire::StatusAnswer>().at(0).second.status;
  EXPECT_EQ(status.counts.at("jobs.submitted"), 1u);
  EXPECT_EQ(status.counts.at("jobs.running"), 1u);
}

TEST_F(Lists, StatusCountsWhatTheListsShow) {
  for (uint64_t i = 1; i <= 1'000; ++i) {
    wire::CreateActor create;
    create.actor = {driver, i};
    create.scheduling_class = needs(i % 2 == 0 ? 0 : 100);  // the odd ones fit nowhere
    (void)cluster.core.step(kHeadNode, wire::HeadRequest{driver, create}, cluster.now_us);
  }
  (void)cluster.core.step(kHeadNode, wire::HeadRequest{driver, wire::KillActor{.actor = {driver, 1}, .reason = ""}},
                          cluster.now_us);
  cluster.ask(driver, wire::GetClusterStatus{9});
  const auto answers = cluster.said<wire::StatusAnswer>();
  ASSERT_THAT(answers, SizeIs(1));
  const wire::ClusterStatus& status = answers[0].second.status;
  EXPECT_EQ(status.request, 9u);
  EXPECT_EQ(status.life, 1u);
  EXPECT_EQ(status.counts.at("actors.pending"), 999u);
  EXPECT_EQ(status.counts.at("actors.dead"), 1u);
  EXPECT_EQ(status.counts.at("actors.waiting_for_room"), 499u);
  EXPECT_EQ(status.counts.at("jobs.running"), 1u);
  EXPECT_EQ(status.counts.at("nodes.alive"), 2u);
  cluster.core.check_invariants();
}

TEST_F(Lists, AJobIsRememberedWithItsEnd) {
  const uint64_t other = cluster.process(a, wire::Role::kDriver);
  EXPECT_THAT(list(ListOf::kJobs, {"state=running"}).rows, SizeIs(2));
  cluster.say(a, wire::HeadClientGone{other, wire::to_wire(Status(Code::kDied, "killed by signal 9"))});
  const wire::Listed failed = list(ListOf::kJobs, {"state=failed"});
  ASSERT_THAT(failed.rows, SizeIs(1));
  EXPECT_EQ(failed.rows[0].at("cause"), "killed by signal 9");
  cluster.expect_replay_is_equal();
}

TEST_F(Lists, JobsThatEndedLongAgoAreForgotten) {
  for (int i = 0; i < 1'050; ++i) {
    const uint64_t other = cluster.process(a, wire::Role::kDriver);
    cluster.say(a, wire::HeadClientGone{other, {}});
  }
  size_t jobs = 0;
  std::string cursor;
  do {
    const wire::Listed page = list(ListOf::kJobs, {"state=ended"}, 400, cursor);
    jobs += page.rows.size();
    cursor = page.cursor;
  } while (!cursor.empty());
  EXPECT_EQ(jobs, 1'000u);
  cluster.expect_replay_is_equal();
}

}  // namespace
}  // namespace manta::head

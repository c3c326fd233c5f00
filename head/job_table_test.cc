// The life of submitted jobs, through the head's core.
#include "head/testing/fake_cluster.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

namespace manta::head {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using wire::JobEvent;
using wire::JobState;
using wire::kHeadNode;
using wire::NodeNumber;

const std::string kHash(64, 'a');

class HeadJobs : public ::testing::Test {
 protected:
  HeadJobs() {
    cluster.join(room(4));
    a = cluster.join(room(4));
    b = cluster.join(room(4));
    client = cluster.process(kHeadNode, wire::Role::kObserver);
  }

  static wire::SubmitJob work(std::string key, int retries = 0) {
    return {.request = 3,
            .key = std::move(key),
            .name = {},
            .program_name = "program",
            .program_hash = kHash,
            .program_bytes = 10,
            .arguments = {"x"},
            .env = {},
            .retries = retries};
  }
  wire::JobAnswer submit(wire::SubmitJob spec) {
    cluster.ask(client, std::move(spec));
    return answer();
  }
  wire::JobAnswer answer() {
    for (const auto& [to, one] : cluster.said<wire::JobsAnswer>())
      if (const auto* answer = std::get_if<wire::JobAnswer>(&one.answer)) return *answer;
    ADD_FAILURE() << "no answer";
    return {};
  }
  void store_program() { cluster.take_effects(cluster.core.program_stored(kHash, 10, cluster.now_us)); }
  /// Submitted, stored, placed: the order to run it.
  wire::RunJob placed(wire::SubmitJob spec) {
    const wire::JobAnswer answer = submit(std::move(spec));
    EXPECT_EQ(answer.status.code, 0) << answer.status.message;
    if (!answer.info.wanted.empty()) store_program();
    cluster.wait(0);
    return order();
  }
  wire::RunJob order() {
    const auto orders = cluster.said<wire::RunJob>();
    EXPECT_THAT(orders, SizeIs(1));
    if (orders.empty()) return {};
    at = orders[0].first;
    return orders[0].second;
  }
  void report(const wire::RunJob& run, JobEvent event, int code = 0, bool by_signal = false, bool has_run = true) {
    cluster.say(at, wire::JobReport{.job = run.job,
                                    .attempt = run.attempt,
                                    .event = static_cast<uint8_t>(event),
                                    .pid = 7,
                                    .has_run = has_run,
                                    .by_signal = by_signal,
                                    .exit_code = code,
                                    .cause = wire::to_wire(Status(Code::kDied, "how it ended"))});
  }
  [[nodiscard]] const SubmittedJobRecord& row(uint64_t job) const { return cluster.core.submitted().jobs().at(job).row; }
  [[nodiscard]] JobState state(uint64_t job) const { return static_cast<JobState>(row(job).state); }
  bool is_acknowledged() {
    for (const auto& [to, noted] : cluster.said<wire::JobNoted>())
      if (noted.is_done) return true;
    return false;
  }

  FakeCluster cluster;
  NodeNumber a = 0, b = 0, at = 0;
  uint64_t client = 0;
};

TEST_F(HeadJobs, AJobRunsToItsEnd) {
  const wire::JobAnswer submitted = submit(work("k"));
  EXPECT_EQ(submitted.request, 3u);
  EXPECT_EQ(submitted.info.wanted, std::vector<std::string>{kHash});
  EXPECT_EQ(submitted.info.name, "program");
  cluster.wait(0);
  EXPECT_THAT(cluster.said<wire::RunJob>(), IsEmpty());
  store_program();
  EXPECT_EQ(state(submitted.info.job), JobState::kPending);
  cluster.wait(0);
  const wire::RunJob run = order();
  EXPECT_NE(at, kHeadNode);  // whose end would take it along
  EXPECT_EQ(run.spec.arguments, std::vector<std::string>{"x"});
  EXPECT_FALSE(run.has_begun);
  report(run, JobEvent::kTaken);
  EXPECT_EQ(state(run.job), JobState::kPending);
  report(run, JobEvent::kStarted);
  EXPECT_EQ(state(run.job), JobState::kRunning);
  report(run, JobEvent::kEnded);
  EXPECT_TRUE(is_acknowledged());
  EXPECT_EQ(state(run.job), JobState::kSucceeded);
  cluster.expect_replay_is_equal();
}

TEST_F(HeadJobs, TheExitCodeIsTheDrivers) {
  const wire::RunJob run = placed(work("k"));
  report(run, JobEvent::kStarted);
  report(run, JobEvent::kEnded, 3);
  EXPECT_EQ(state(run.job), JobState::kFailed);
  EXPECT_EQ(row(run.job).exit_code, 3);
  EXPECT_EQ(row(run.job).cause.message, "how it ended");
  EXPECT_TRUE(is_acknowledged());
  cluster.expect_replay_is_equal();
  report(run, JobEvent::kEnded, 0);  // once more, because the answer was lost
  EXPECT_TRUE(is_acknowledged());
  EXPECT_EQ(state(run.job), JobState::kFailed);
}

TEST_F(HeadJobs, TheSameKeyIsTheSameJob) {
  const wire::RunJob run = placed(work("k"));
  const wire::JobAnswer again = submit(work("k"));
  EXPECT_EQ(again.info.job, run.job);
  EXPECT_THAT(again.info.wanted, IsEmpty());
  cluster.wait(0);
  EXPECT_THAT(cluster.said<wire::RunJob>(), IsEmpty());
  report(run, JobEvent::kStarted);
  report(run, JobEvent::kEnded);
  EXPECT_EQ(submit(work("k")).info.state, static_cast<uint8_t>(JobState::kSucceeded));
  wire::SubmitJob other = work("k");
  other.arguments = {"y"};
  EXPECT_THAT(submit(other).status.message, HasSubstr("other arguments"));
  cluster.restart_head(room(4));
  client = cluster.process(kHeadNode, wire::Role::kObserver);
  EXPECT_EQ(submit(work("k")).info.job, run.job);
  EXPECT_NE(submit(work("other")).info.job, run.job);
}

TEST_F(HeadJobs, AKnownProgramIsNotUploadedAgain) {
  const wire::RunJob first = placed(work("1"));
  report(first, JobEvent::kEnded);
  const wire::JobAnswer second = submit(work("2"));
  EXPECT_THAT(second.info.wanted, IsEmpty());
  cluster.wait(0);
  EXPECT_EQ(order().job, second.info.job);
}

TEST_F(HeadJobs, ADriverThatIsKilledRunsAgainIfItMay) {
  wire::RunJob run = placed(work("k", 1));
  report(run, JobEvent::kStarted);
  report(run, JobEvent::kEnded, 9, true);
  EXPECT_TRUE(is_acknowledged());
  EXPECT_EQ(state(run.job), JobState::kPending);
  cluster.wait(0);
  EXPECT_THAT(cluster.said<wire::RunJob>(), IsEmpty());  // not at once
  cluster.wait(JobTable::kFirstBackoffUs);
  run = order();
  EXPECT_EQ(run.attempt, 2u);
  report(run, JobEvent::kStarted);
  report(run, JobEvent::kEnded, 9, true);
  EXPECT_EQ(state(run.job), JobState::kFailed);
  EXPECT_EQ(row(run.job).exit_code, JobTable::kExitSignal + 9);
  cluster.expect_replay_is_equal();
}

TEST_F(HeadJobs, AnExitCodeIsAnAnswerUnlessAskedOtherwise) {
  wire::RunJob run = placed(work("1", 1));
  report(run, JobEvent::kEnded, 2);
  EXPECT_EQ(state(run.job), JobState::kFailed);
  wire::SubmitJob spec = work("2", 1);
  spec.retry_exits = true;
  run = placed(spec);
  report(run, JobEvent::kEnded, 2);
  EXPECT_EQ(state(run.job), JobState::kPending);
}

TEST_F(HeadJobs, ALostNodeCostsARetryOnlyIfItRan) {
  wire::RunJob run = placed(work("k", 1));
  const NodeNumber first = at;
  cluster.say(kHeadNode, wire::HeadNodeLost{first, "refused"});
  EXPECT_EQ(row(run.job).retries_used, 0);
  cluster.wait(0);
  run = order();
  EXPECT_NE(at, first);
  EXPECT_EQ(run.attempt, 2u);
  report(run, JobEvent::kStarted);
  cluster.say(kHeadNode, wire::HeadNodeLost{at, "refused"});
  EXPECT_EQ(row(run.job).retries_used, 1);
  cluster.wait(JobTable::kFirstBackoffUs);
  run = order();
  EXPECT_EQ(at, kHeadNode);  // nobody else is left
  report(run, JobEvent::kStarted);
  cluster.restart_head(room(4));  // and with the head its node
  EXPECT_EQ(state(run.job), JobState::kFailed);
  EXPECT_EQ(row(run.job).exit_code, JobTable::kExitNotRun);
  EXPECT_THAT(row(run.job).cause.message, HasSubstr("was lost"));
  cluster.expect_replay_is_equal();
}

TEST_F(HeadJobs, ANodeThatLeavesCostsNoRetry) {
  wire::RunJob run = placed(work("k", 1));
  report(run, JobEvent::kStarted);
  cluster.say(at, wire::HeadNodeLeaves{at, "drained"});
  EXPECT_EQ(row(run.job).retries_used, 0);
  cluster.wait(0);
  run = order();
  EXPECT_EQ(run.attempt, 2u);
  const wire::RunJob once = placed(work("once"));
  report(once, JobEvent::kStarted);
  cluster.say(at, wire::HeadNodeLeaves{at, "drained"});
  EXPECT_EQ(state(once.job), JobState::kFailed);  // it may not be run again
}

TEST_F(HeadJobs, AnOrderIsRepeatedUntilItIsAnswered) {
  const wire::RunJob run = placed(work("k"));
  for (int i = 0; i < 2; ++i) {
    cluster.beat(a, room(4));
    cluster.beat(b, room(4));
    cluster.wait(JobTable::kRepeatUs);
    EXPECT_EQ(order().attempt, run.attempt);
  }
  report(run, JobEvent::kTaken);
  cluster.beat(a, room(4));
  cluster.beat(b, room(4));
  cluster.wait(JobTable::kRepeatUs);
  EXPECT_THAT(cluster.said<wire::RunJob>(), IsEmpty());
}

TEST_F(HeadJobs, AStopEndsItWhereItIs) {
  const wire::JobAnswer waiting = submit(work("1"));
  cluster.ask(client, wire::StopJob{.request = 4, .job = waiting.info.job});
  EXPECT_EQ(answer().info.state, static_cast<uint8_t>(JobState::kStopped));
  const wire::RunJob run = placed(work("2", 5));
  report(run, JobEvent::kStarted);
  cluster.ask(client, wire::StopJob{.request = 5, .job = run.job});
  EXPECT_THAT(cluster.said<wire::EndJob>(), SizeIs(1));
  EXPECT_EQ(state(run.job), JobState::kRunning);
  cluster.expect_replay_is_equal();
  report(run, JobEvent::kEnded, 15, true);
  EXPECT_EQ(state(run.job), JobState::kStopped);
  EXPECT_EQ(row(run.job).exit_code, 143);
  cluster.ask(client, wire::StopJob{.request = 6, .job = run.job});  // it is over: nothing to do
  EXPECT_THAT(cluster.said<wire::EndJob>(), IsEmpty());
  cluster.ask(client, wire::StopJob{.request = 6, .job = 999});
  EXPECT_THAT(answer().status.message, HasSubstr("no job 999"));
}

TEST_F(HeadJobs, ADeadlineStopsIt) {
  wire::SubmitJob spec = work("k");
  spec.deadline_us = 3'000'000;
  const wire::RunJob run = placed(spec);
  report(run, JobEvent::kStarted);
  for (int i = 0; i < 4; ++i) {
    cluster.beat(a, room(4));
    cluster.beat(b, room(4));
    cluster.wait(1'000'000);
    EXPECT_THAT(cluster.said<wire::EndJob>(), SizeIs(i < 2 ? 0 : i == 2 ? 1 : 0));
  }
  EXPECT_EQ(row(run.job).stop.message, "its deadline passed");
  report(run, JobEvent::kEnded, 15, true);
  EXPECT_EQ(state(run.job), JobState::kStopped);
  EXPECT_EQ(row(run.job).exit_code, JobTable::kExitDeadline);
}

TEST_F(HeadJobs, WhatAnOldAttemptSaysIsVoid) {
  wire::RunJob run = placed(work("k", 3));
  const wire::RunJob old = run;
  report(run, JobEvent::kStarted);
  report(run, JobEvent::kEnded, 9, true);
  cluster.wait(JobTable::kFirstBackoffUs);
  run = order();
  report(old, JobEvent::kStarted);
  EXPECT_THAT(cluster.said<wire::EndJob>(), SizeIs(1));  // should it run still
  report(old, JobEvent::kEnded);
  EXPECT_EQ(state(run.job), JobState::kPending);
  const NodeNumber other = at == a ? b : a;
  cluster.say(other, wire::JobReport{.job = run.job, .attempt = run.attempt, .event = 2, .has_run = true, .cause = {}});
  EXPECT_EQ(state(run.job), JobState::kPending);  // not that node's
  cluster.say(at, wire::JobLogPart{.job = old.job, .attempt = old.attempt, .offset = 0, .bytes = "late"});
  EXPECT_THAT(cluster.files, IsEmpty());
  EXPECT_TRUE(is_acknowledged());
  cluster.say(at, wire::JobLogPart{.job = run.job, .attempt = run.attempt, .offset = 0, .bytes = "now"});
  EXPECT_THAT(cluster.files, SizeIs(1));
}

TEST_F(HeadJobs, ANodeThatReturnsIsAskedWhatBecameOfItsJobs) {
  const wire::RunJob run = placed(work("k", 1));
  report(run, JobEvent::kStarted);
  cluster.restart_head(room(4));
  EXPECT_EQ(state(run.job), JobState::kRunning);
  report(run, JobEvent::kEnded);  // not held: it is said again
  EXPECT_EQ(state(run.job), JobState::kRunning);
  cluster.say(at, wire::HeadNodeReturns{.info = cluster.core.members().find(at)->info});
  cluster.wait(0);
  EXPECT_TRUE(order().has_begun);
  report(run, JobEvent::kEnded);
  EXPECT_EQ(state(run.job), JobState::kSucceeded);
}

TEST_F(HeadJobs, TheDriverOfAnAttemptThatIsOverMayNotJoin) {
  const wire::RunJob run = placed(work("k", 1));
  const auto join = [&](const std::string& label) {
    return cluster.join({.info = {.capacity = room(0), .labels = {{wire::kJobLabel, label}}, .is_driver = true}});
  };
  EXPECT_EQ(join("77.1"), 0u);
  EXPECT_EQ(join(std::to_string(run.job) + ".9"), 0u);
  const NodeNumber driver = join(std::to_string(run.job) + ".1");
  EXPECT_NE(driver, 0u);
  report(run, JobEvent::kStarted);
  cluster.say(kHeadNode, wire::HeadNodeLost{at, "refused"});  // the driver's own mantad lives on
  EXPECT_EQ(cluster.core.members().find(driver), nullptr);
}

TEST_F(HeadJobs, DriversANodeAreBounded) {
  int placed_count = 0;
  for (int i = 0; i < 60; ++i) {
    const wire::JobAnswer answer = submit(work(std::to_string(i)));
    if (!answer.info.wanted.empty()) store_program();
    cluster.wait(0);
    placed_count += static_cast<int>(cluster.said<wire::RunJob>().size());
  }
  EXPECT_EQ(placed_count, 3 * 4 * JobTable::kDriversACpu);
  cluster.ask(client, wire::FindJob{.request = 1, .job = 60});
  EXPECT_THAT(answer().info.cause.message, HasSubstr("as many drivers as it may"));
  at = a;
  for (const auto& [number, job] : cluster.core.submitted().jobs())
    if (job.row.node == a) {
      cluster.say(a, wire::JobReport{.job = number, .attempt = 1, .event = 2, .has_run = true, .cause = {}});
      break;
    }
  cluster.wait(0);
  EXPECT_THAT(cluster.said<wire::RunJob>(), SizeIs(1));
}

TEST_F(HeadJobs, AProgramThatNeverComesIsGivenUp) {
  const wire::JobAnswer submitted = submit(work("k"));
  cluster.ask(client, wire::UploadProgram{.request = 1, .hash = kHash, .offset = 0, .bytes = "12345"});
  EXPECT_THAT(cluster.files, SizeIs(1));
  cluster.ask(client, wire::UploadProgram{.request = 1, .hash = kHash, .offset = 8, .bytes = "12345"});
  EXPECT_THAT(cluster.files, IsEmpty());  // past its end
  cluster.ask(client, wire::UploadProgram{.request = 1, .hash = std::string(64, 'b'), .offset = 0, .bytes = "12345"});
  EXPECT_THAT(cluster.files, IsEmpty());  // nobody waits for it
  cluster.wait(JobTable::kUploadUs);
  EXPECT_EQ(state(submitted.info.job), JobState::kFailed);
  EXPECT_THAT(cluster.files, SizeIs(2));  // its log ends, and what came of its program goes
}

TEST_F(HeadJobs, LibrariesAreUploadedOnceForAll) {
  const std::string library(64, 'e');
  wire::SubmitJob spec = work("1");
  spec.libraries = {{"libfoo.so.1", library, 5}};
  const wire::JobAnswer first = submit(spec);
  EXPECT_THAT(first.info.wanted, ElementsAre(kHash, library));
  store_program();
  EXPECT_EQ(state(first.info.job), JobState::kSubmitted);  // not without its library
  cluster.ask(client, wire::UploadProgram{.request = 1, .hash = library, .offset = 0, .bytes = "12345"});
  EXPECT_THAT(cluster.files, SizeIs(1));
  cluster.take_effects(cluster.core.program_stored(library, 5, cluster.now_us));
  cluster.wait(0);
  const wire::RunJob run = order();
  EXPECT_EQ(run.spec.libraries, spec.libraries);
  cluster.say(at, wire::GetProgramPart{run.job, run.attempt, library, 0});
  EXPECT_THAT(cluster.files, SizeIs(1));
  cluster.say(at, wire::GetProgramPart{run.job, run.attempt, std::string(64, 'f'), 0});
  EXPECT_THAT(cluster.files, IsEmpty());  // not a part of its program

  spec.key = "2";
  spec.program_hash = std::string(64, 'd');
  EXPECT_THAT(submit(spec).info.wanted, ElementsAre(spec.program_hash));
  spec.key = "1";
  spec.program_hash = kHash;
  spec.libraries[0].name = "libbar.so.1";
  EXPECT_THAT(submit(spec).status.message, HasSubstr("other libraries"));
  spec.key = "3";
  spec.libraries[0].size_bytes = 6;
  EXPECT_THAT(submit(spec).status.message, HasSubstr("has 5 bytes"));
  report(run, JobEvent::kEnded);
  cluster.expect_replay_is_equal();
}

TEST_F(HeadJobs, OddSubmissionsAreRefused) {
  wire::SubmitJob spec = work("");
  EXPECT_THAT(submit(spec).status.message, HasSubstr("key"));
  spec = work("k");
  spec.program_name = "../x";
  EXPECT_THAT(submit(spec).status.message, HasSubstr("name"));
  spec = work("k");
  spec.program_hash = "zz";
  EXPECT_THAT(submit(spec).status.message, HasSubstr("hash"));
  for (const char* name : {"", ".", "..", "../x.so", "a/b.so"}) {
    spec = work("k");
    spec.libraries = {{name, kHash, 5}};
    EXPECT_THAT(submit(spec).status.message, HasSubstr("name")) << name;
  }
  spec = work("k");
  spec.libraries = {{"x.so", kHash, 5}, {"x.so", kHash, 5}};
  EXPECT_THAT(submit(spec).status.message, HasSubstr("another has"));
  spec.libraries = {{"x.so", "zz", 5}};
  EXPECT_THAT(submit(spec).status.message, HasSubstr("x.so has no sensible hash"));
  spec.libraries.assign(wire::kMaxLibraries + 1, {"x.so", kHash, 5});
  EXPECT_THAT(submit(spec).status.message, HasSubstr("at most 256"));
  spec.libraries = {{"x.so", std::string(64, 'e'), wire::kMaxPartBytes},
                    {"y.so", std::string(64, 'f'), wire::kMaxPartBytes}};
  EXPECT_THAT(submit(spec).status.message, HasSubstr("with its libraries"));
  spec = work("k");
  spec.env = {{"A=B", "c"}};
  EXPECT_THAT(submit(spec).status.message, HasSubstr("environment variable"));
  spec = work("k");
  spec.arguments = {std::string(2 << 20, 'x')};
  EXPECT_THAT(submit(spec).status.message, HasSubstr("at most"));
  spec = work("k");
  spec.retries = -1;
  EXPECT_THAT(submit(spec).status.message, HasSubstr("retries"));
  EXPECT_THAT(cluster.core.submitted().jobs(), IsEmpty());
}

// Nodes come and go, attempts start, die, are stopped, the head restarts: the invariants hold and the store gives the table.
TEST(HeadJobsRandom, RandomLivesKeepTheInvariants) {
  for (uint32_t seed = 0; seed < 60; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    FakeCluster cluster({.jobs = {.max_open_jobs = 20, .max_ended_jobs = 10, .programs = {.max_kept_bytes = 25}}});
    std::mt19937 random(seed);
    const auto pick = [&](size_t below) { return static_cast<uint32_t>(random() % below); };
    cluster.join(room(1));
    std::vector<NodeNumber> nodes{kHeadNode};
    uint64_t client = cluster.process(kHeadNode, wire::Role::kObserver);
    for (int step = 0; step < 400; ++step) {
      const NodeNumber node = nodes[pick(nodes.size())];
      const auto& jobs = cluster.core.submitted().jobs();
      const uint64_t job = jobs.empty() ? 1 : std::next(jobs.begin(), pick(jobs.size()))->first;
      const std::string hash(64, static_cast<char>('a' + pick(5)));
      switch (pick(10)) {
        case 0:
          if (const NodeNumber number = cluster.join(room(1 + pick(2))); number != 0) nodes.push_back(number);
          break;
        case 1:
          if (pick(3) == 0) cluster.say(kHeadNode, wire::HeadNodeLost{node, "refused"});
          break;
        case 2: cluster.wait(pick(3'000'000)); break;
        case 3:
          for (NodeNumber one : nodes) cluster.beat(one, room(1));
          break;
        case 4: {
          wire::SubmitJob spec{.key = std::to_string(pick(60)),
                               .name = {},
                               .program_name = "p",
                               .program_hash = hash,
                               .program_bytes = 10,
                               .arguments = {},
                               .env = {},
                               .retries = static_cast<int32_t>(pick(3)),
                               .retry_exits = pick(2) == 0,
                               .deadline_us = pick(4) == 0 ? 1 + pick(5'000'000) : 0};
          if (pick(2) == 0) spec.libraries = {{"x.so", std::string(64, static_cast<char>('a' + pick(5))), 10}};
          cluster.ask(client, spec);
          break;
        }
        case 5: cluster.take_effects(cluster.core.program_stored(hash, 10, cluster.now_us)); break;
        case 6: cluster.ask(client, wire::StopJob{.request = 1, .job = job}); break;
        case 7:
          if (pick(6) == 0) {
            cluster.restart_head(room(1));
            client = cluster.process(kHeadNode, wire::Role::kObserver);
          }
          for (NodeNumber one : nodes)
            if (const Membership::Member* member = cluster.core.members().find(one); member != nullptr)
              cluster.say(one, wire::HeadNodeReturns{.info = member->info});
          break;
        default:
          if (jobs.contains(job))
            cluster.say(pick(8) == 0 ? node : jobs.at(job).row.node,
                        wire::JobReport{.job = job,
                                        .attempt = jobs.at(job).row.attempt - pick(2),
                                        .event = static_cast<uint8_t>(pick(3)),
                                        .pid = 7,
                                        .has_run = pick(4) != 0,
                                        .by_signal = pick(2) == 0,
                                        .exit_code = static_cast<int32_t>(pick(3)),
                                        .cause = {}});
      }
    }
    cluster.expect_replay_is_equal();
  }
}

}  // namespace
}  // namespace manta::head

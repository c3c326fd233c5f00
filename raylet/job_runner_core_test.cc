#include "raylet/job_runner_core.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

namespace manta::raylet {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using wire::JobEvent;

constexpr JobAttempt kFirst{7, 1};

class JobRunnerTest : public ::testing::Test {
 protected:
  void run(uint32_t attempt = 1, bool has_begun = false) {
    last = core.run({.job = 7, .attempt = attempt, .spec = {}, .join_token = "token", .has_begun = has_begun}, now_us);
  }
  void start() {
    run();
    last = core.program_came(kFirst, std::string("/program"), now_us);
    ASSERT_THAT(of<StartDriver>(), SizeIs(1));
    EXPECT_EQ(of<StartDriver>()[0].join_token, "token");
    last = core.started(kFirst, 99, now_us);
  }
  void grow(uint64_t bytes) { last = core.log_grew(kFirst, bytes, now_us); }
  void note(uint64_t bytes) { last = core.noted({.job = 7, .attempt = 1, .log_bytes = bytes}, now_us); }
  void exit(int code) { last = core.exited(kFirst, {.by_signal = false, .code = code}, "bad | worse", now_us); }
  void wait(int64_t us) {
    now_us += us;
    last = core.tick(now_us);
  }
  template <typename Effect>
  std::vector<Effect> of() {
    std::vector<Effect> found;
    for (const JobEffect& one : last)
      if (const auto* effect = std::get_if<Effect>(&one)) found.push_back(*effect);
    return found;
  }
  [[nodiscard]] bool said(JobEvent event) {
    const auto reports = of<wire::JobReport>();
    return reports.size() == 1 && reports[0].event == static_cast<uint8_t>(event);
  }

  JobRunnerCore core;
  JobEffects last;
  int64_t now_us = 1'000'000;
};

TEST_F(JobRunnerTest, ADriverRunsAndItsEndIsSaidUntilItIsNoted) {
  start();
  EXPECT_TRUE(said(JobEvent::kStarted));
  EXPECT_EQ(of<wire::JobReport>()[0].pid, 99);
  exit(3);
  ASSERT_TRUE(said(JobEvent::kEnded));
  EXPECT_EQ(of<wire::JobReport>()[0].exit_code, 3);
  EXPECT_THAT(of<wire::JobReport>()[0].cause.message, HasSubstr("exited with code 3; its last lines: bad | worse"));
  wait(1'000'000);
  EXPECT_THAT(last, IsEmpty());
  wait(JobRunnerCore::kRepeatUs);
  EXPECT_TRUE(said(JobEvent::kEnded));
  last = core.noted({.job = 7, .attempt = 1, .log_bytes = 0, .is_done = true}, now_us);
  EXPECT_THAT(of<ForgetDriver>(), SizeIs(1));
  EXPECT_EQ(core.size(), 0u);
  EXPECT_FALSE(core.next_deadline_us());
}

TEST_F(JobRunnerTest, TheEndIsSaidWhenTheWholeLogIsNoted) {
  start();
  grow(100);
  ASSERT_THAT(of<SendLog>(), SizeIs(1));
  grow(wire::kJobLogChunkBytes + 50);
  EXPECT_THAT(last, IsEmpty());  // one part at a time
  exit(0);
  EXPECT_THAT(last, IsEmpty());
  note(100);
  ASSERT_THAT(of<SendLog>(), SizeIs(1));
  EXPECT_EQ(of<SendLog>()[0].offset, 100u);
  EXPECT_EQ(of<SendLog>()[0].bytes, wire::kJobLogChunkBytes - 50);
  wait(JobRunnerCore::kRepeatUs);  // it was lost
  ASSERT_THAT(of<SendLog>(), SizeIs(1));
  EXPECT_EQ(of<SendLog>()[0].offset, 100u);
  note(wire::kJobLogChunkBytes + 50);
  EXPECT_TRUE(said(JobEvent::kEnded));
}

TEST_F(JobRunnerTest, WhatCannotBeSentInTimeIsPassedOver) {
  start();
  grow(10);
  grow(JobRunnerCore::kMaxUnsentBytes + 1'000);
  note(10);
  ASSERT_THAT(of<SendLog>(), SizeIs(1));
  EXPECT_EQ(of<SendLog>()[0].offset, 1'000u);
  note(1'000 + of<SendLog>()[0].bytes);
  EXPECT_THAT(of<SendLog>(), SizeIs(1));
  EXPECT_THAT(of<FreeLog>(), IsEmpty());
  note(JobRunnerCore::kFreeBytes);
  ASSERT_THAT(of<FreeLog>(), SizeIs(1));
  EXPECT_EQ(of<FreeLog>()[0].up_to, JobRunnerCore::kFreeBytes);
}

TEST_F(JobRunnerTest, ASecondOrderIsAnsweredAndNotCarriedOut) {
  run();
  EXPECT_THAT(of<FetchDriver>(), SizeIs(1));
  run();
  EXPECT_TRUE(said(JobEvent::kTaken));
  EXPECT_THAT(of<FetchDriver>(), SizeIs(1));  // what it was to get may have been lost
  last = core.program_came(kFirst, std::string("/program"), now_us);
  last = core.started(kFirst, 99, now_us);
  run(1, true);
  EXPECT_TRUE(said(JobEvent::kStarted));
  exit(0);
  run(1, true);
  EXPECT_TRUE(said(JobEvent::kEnded));
}

TEST_F(JobRunnerTest, AnAttemptThatBeganElsewhereInTimeIsNotBegunAgain) {
  run(1, true);
  ASSERT_TRUE(said(JobEvent::kEnded));
  EXPECT_TRUE(of<wire::JobReport>()[0].has_run);
  EXPECT_EQ(core.size(), 0u);
}

TEST_F(JobRunnerTest, ANewerAttemptWaitsForTheEndOfTheOlder) {
  start();
  run(2);
  ASSERT_THAT(of<SignalDriver>(), SizeIs(1));
  EXPECT_THAT(of<FetchDriver>(), IsEmpty());
  exit(0);
  run(1);
  EXPECT_TRUE(said(JobEvent::kEnded));
  run(2);
  EXPECT_THAT(of<FetchDriver>(), SizeIs(1));
  run(1);
  EXPECT_TRUE(said(JobEvent::kEnded));  // known still, until it is noted
}

TEST_F(JobRunnerTest, AStopIsATermAndThenAKill) {
  start();
  last = core.end({.job = 7, .attempt = 1, .reason = "somebody asked"}, now_us);
  ASSERT_THAT(of<SignalDriver>(), SizeIs(1));
  EXPECT_FALSE(of<SignalDriver>()[0].is_kill);
  last = core.end({.job = 7, .attempt = 1, .reason = "somebody asked"}, now_us);
  EXPECT_THAT(last, IsEmpty());
  wait(JobRunnerCore::kGraceUs);
  ASSERT_THAT(of<SignalDriver>(), SizeIs(1));
  EXPECT_TRUE(of<SignalDriver>()[0].is_kill);
  wait(JobRunnerCore::kGraceUs);
  EXPECT_THAT(last, IsEmpty());
}

TEST_F(JobRunnerTest, AStopBeforeItRanIsTheEnd) {
  last = core.end({.job = 7, .attempt = 1, .reason = "x"}, now_us);  // the order to run it was never heard
  ASSERT_TRUE(said(JobEvent::kEnded));
  EXPECT_FALSE(of<wire::JobReport>()[0].has_run);
  run();
  last = core.end({.job = 7, .attempt = 1, .reason = "x"}, now_us);
  EXPECT_THAT(last, IsEmpty());
  last = core.program_came(kFirst, std::string("/program"), now_us);
  EXPECT_THAT(of<StartDriver>(), IsEmpty());
  EXPECT_TRUE(said(JobEvent::kEnded));
}

TEST_F(JobRunnerTest, AProgramThatCannotBeHadOrStartedIsSaid) {
  run();
  last = core.program_came(kFirst, Status(Code::kFull, "no space left"), now_us);
  ASSERT_TRUE(said(JobEvent::kEnded));
  EXPECT_THAT(of<wire::JobReport>()[0].cause.message, HasSubstr("no space left"));
  last = core.noted({.job = 7, .attempt = 1, .log_bytes = 0, .is_done = true}, now_us);
  run(2);
  last = core.program_came({7, 2}, std::string("/program"), now_us);
  last = core.could_not_start({7, 2}, Status(Code::kIo, "no descriptors"), now_us);
  EXPECT_TRUE(said(JobEvent::kEnded));
}

TEST_F(JobRunnerTest, WhatTheHeadGaveUpEnds) {
  start();
  grow(100);
  last = core.noted({.job = 7, .attempt = 1, .log_bytes = 0, .is_done = true}, now_us);
  EXPECT_THAT(of<SignalDriver>(), SizeIs(1));
  exit(0);
  wait(JobRunnerCore::kRepeatUs);
  EXPECT_TRUE(said(JobEvent::kEnded));
}

// A head that notes a part, or not, or restarts: in the end it has every byte once, in order, and then the report.
TEST(JobRunnerRandom, EveryByteIsSentUntilItIsNoted) {
  for (uint32_t seed = 0; seed < 200; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    std::mt19937 random(seed);
    JobRunnerCore core;
    int64_t now_us = 1;
    uint64_t written = 0;
    uint64_t noted = 0;
    bool has_ended = false;
    bool is_done = false;
    std::vector<JobEffect> sent;
    const auto take = [&](JobEffects effects) { std::ranges::move(effects, std::back_inserter(sent)); };
    take(core.run({.job = 7, .attempt = 1, .spec = {}, .join_token = {}}, now_us));
    take(core.program_came(kFirst, std::string("/p"), now_us));
    take(core.started(kFirst, 9, now_us));
    for (int step = 0; !is_done; ++step) {
      ASSERT_LT(step, 100'000);
      now_us += static_cast<int64_t>(random() % 500'000);
      take(core.tick(now_us));
      if (!has_ended && random() % 4 == 0) {
        written += random() % 1'000'000;
        take(core.log_grew(kFirst, written, now_us));
      }
      if (!has_ended && step > 100) {
        has_ended = true;
        take(core.exited(kFirst, {}, "", now_us));
      }
      for (const JobEffect& effect : std::exchange(sent, {})) {
        if (random() % 3 == 0) continue;  // lost
        if (const auto* part = std::get_if<SendLog>(&effect)) {
          ASSERT_LE(part->offset, noted);
          noted = std::max(noted, part->offset + part->bytes);
          if (random() % 3 != 0) take(core.noted({.job = 7, .attempt = 1, .log_bytes = noted}, now_us));
        } else if (const auto* report = std::get_if<wire::JobReport>(&effect);
                   report != nullptr && report->event == static_cast<uint8_t>(JobEvent::kEnded)) {
          ASSERT_EQ(noted, written);
          is_done = true;
        }
      }
    }
  }
}

}  // namespace
}  // namespace manta::raylet

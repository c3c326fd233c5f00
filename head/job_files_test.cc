#include "head/job_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

namespace manta::head {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class JobFilesTest : public ::testing::Test {
 protected:
  JobFilesTest() {
    std::string name = ::testing::TempDir() + "manta-job-files-XXXXXX";
    EXPECT_NE(::mkdtemp(name.data()), nullptr);
    folder = name;
    reopen();
  }
  ~JobFilesTest() override { std::filesystem::remove_all(folder); }
  void reopen() { files.emplace(JobFiles::open(folder, limits).value()); }

  JobFiles::Done order(FileOrder order) { return files->carry_out(std::move(order), now_us); }
  wire::ProgramReceived upload(uint64_t offset, const std::string& bytes) {
    const JobFiles::Done done = order(StoreProgram{{1, 2}, program.size(), {5, hash, offset, bytes}});
    stored = stored || done.stored.has_value();
    EXPECT_TRUE(!done.seal || done.seal().ok());
    return std::get<wire::ProgramReceived>(std::get<wire::JobsAnswer>(done.answers.at(0).message).answer);
  }
  wire::ProgramChunk read_program(uint64_t offset) {
    return std::get<wire::ProgramChunk>(order(ReadProgram{3, {1, 1, hash, offset}}).answers.at(0).message);
  }
  uint64_t append(uint32_t attempt, uint64_t offset, const std::string& bytes, uint64_t job = 1) {
    return std::get<wire::JobNoted>(order(AppendLog{3, {job, attempt, offset, bytes}}).answers.at(0).message).log_bytes;
  }
  wire::JobLogChunk read(uint64_t offset, uint64_t job = 1) {
    const JobFiles::Done done = order(ReadLog{{1, 2}, {.request = 5, .job = job, .offset = offset}, true});
    return std::get<wire::JobLogChunk>(std::get<wire::JobsAnswer>(done.answers.at(0).message).answer);
  }
  std::string read_all() {
    std::string all;
    for (uint64_t offset = 0;;) {
      const wire::JobLogChunk chunk = read(offset);
      all += chunk.bytes;
      offset = chunk.offset + chunk.bytes.size();
      if (chunk.is_over) return all;
    }
  }

  int64_t now_us = 1'000'000;
  std::filesystem::path folder;
  JobLogs::Settings limits;
  std::optional<JobFiles> files;
  const std::string program = "the program's bytes";
  const std::string hash = [this] {
    wire::Sha256 sum;
    sum.add(program);
    return sum.finish();
  }();
  bool stored = false;
};

TEST_F(JobFilesTest, AProgramIsStoredInOrder) {
  EXPECT_EQ(upload(0, "the ").next_offset, 4u);
  EXPECT_EQ(upload(0, "the ").next_offset, 4u);          // again
  EXPECT_EQ(upload(10, "beyond").next_offset, 4u);       // not yet
  EXPECT_EQ(upload(0, "the program").next_offset, 11u);  // partly again
  EXPECT_EQ(upload(11, program.substr(11)).next_offset, program.size());
  EXPECT_TRUE(stored);
  EXPECT_EQ(read_program(0).bytes, program);
  EXPECT_EQ(read_program(4).bytes, program.substr(4));
  EXPECT_NE(read_program(program.size()).status.code, 0);
  reopen();
  ASSERT_THAT(files->found(), SizeIs(1));
  EXPECT_EQ(files->found()[0].hash, hash);
  EXPECT_EQ(files->found()[0].bytes, program.size());
  order(DropProgram{hash});
  EXPECT_NE(read_program(0).status.code, 0);
}

TEST_F(JobFilesTest, AnotherProgramThanPromisedIsRefusedAndBeginsAnew) {
  const wire::ProgramReceived answer = upload(0, std::string(program.size(), 'x'));
  EXPECT_NE(answer.status.code, 0);
  EXPECT_EQ(answer.next_offset, 0u);
  EXPECT_FALSE(stored);
  EXPECT_EQ(upload(0, program).next_offset, program.size());
  EXPECT_TRUE(stored);
}

TEST_F(JobFilesTest, HalfAProgramIsForgottenWithTheProcess) {
  upload(0, "the ");
  reopen();
  EXPECT_THAT(files->found(), IsEmpty());
  EXPECT_EQ(upload(4, "program").next_offset, 0u);
}

TEST_F(JobFilesTest, ALogIsWrittenOnceWhateverComesAgain) {
  EXPECT_EQ(append(1, 0, "one "), 4u);
  EXPECT_EQ(append(1, 0, "one "), 4u);
  EXPECT_EQ(append(1, 2, "e two "), 8u);
  reopen();
  EXPECT_EQ(append(1, 4, "two three "), 14u);
  EXPECT_EQ(append(2, 0, "again "), 6u);
  EXPECT_EQ(append(1, 14, "late"), 18u);  // of an attempt that is over
  EXPECT_EQ(read_all(), "one two three again ");
  EXPECT_EQ(read(0).attempt, 1u);
  EXPECT_FALSE(read(0).is_over);
  EXPECT_EQ(read(14).attempt, 2u);
  EXPECT_EQ(read(16).bytes, "ain ");
  EXPECT_TRUE(read(20).is_over);
  EXPECT_EQ(read(20).bytes, "");
  EXPECT_EQ(read(0, 99).bytes, "");
  EXPECT_THAT(files->logged_jobs(), ElementsAre(1));
  order(DropLog{1});
  EXPECT_THAT(files->logged_jobs(), IsEmpty());
  reopen();
  EXPECT_THAT(files->logged_jobs(), IsEmpty());
}

TEST_F(JobFilesTest, WhatWasNotSentIsSeenAsAGap) {
  append(1, 0, "begin ");
  EXPECT_EQ(append(1, 100, "end"), 103u);
  for (int i = 0; i < 2; ++i) {
    const wire::JobLogChunk chunk = read(6);
    EXPECT_EQ(chunk.offset, 100u);
    EXPECT_EQ(chunk.bytes, "end");
    EXPECT_TRUE(chunk.is_over);
    reopen();
  }
  EXPECT_EQ(append(1, 100, "end more"), 108u);
  EXPECT_EQ(read(103).bytes, " more");
}

TEST_F(JobFilesTest, ALongLogLosesItsBeginning) {
  limits = {.max_piece_bytes = 10, .max_log_bytes = 40, .max_total_bytes = 60};
  reopen();
  for (uint64_t i = 0; i < 20; ++i) EXPECT_EQ(append(1, i * 10, std::string(10, static_cast<char>('a' + i))), i * 10 + 10);
  EXPECT_EQ(read(0).offset, 160u);
  EXPECT_EQ(read_all(), "qqqqqqqqqqrrrrrrrrrrsssssssssstttttttttt");
  for (uint64_t i = 0; i < 3; ++i) append(1, i * 10, std::string(10, 'x'), 2);
  EXPECT_EQ(read(0).offset, 170u);  // the longest gives way
  EXPECT_EQ(read(0, 2).offset, 0u);
  reopen();
  EXPECT_EQ(read(0).offset, 170u);
}

TEST_F(JobFilesTest, ADiskThatRefusesHoldsNobodyUp) {
  append(1, 0, "begin ");
  std::filesystem::remove_all(folder / "job-logs" / "1");
  std::ofstream(folder / "job-logs" / "1") << "in the way";
  EXPECT_EQ(append(1, 6, "lost "), 11u);
  std::filesystem::remove_all(folder / "job-logs" / "1");
  EXPECT_EQ(append(1, 11, "end"), 14u);
  EXPECT_EQ(read(6).offset, 11u);
  EXPECT_EQ(read(6).bytes, "end");
}

TEST_F(JobFilesTest, AReaderMayWaitForMore) {
  const auto wait = [&](uint64_t offset, bool is_over = false) {
    return order(ReadLog{{1, 2}, {.request = 5, .job = 1, .offset = offset, .wait_us = 500'000}, is_over});
  };
  EXPECT_THAT(wait(0).answers, IsEmpty());
  EXPECT_THAT(order(AppendLog{3, {1, 1, 0, "begin "}}).answers, SizeIs(2));  // the node's and the reader's
  EXPECT_THAT(wait(0).answers, SizeIs(1));
  EXPECT_THAT(wait(6, true).answers, SizeIs(1));
  EXPECT_THAT(wait(6).answers, IsEmpty());
  EXPECT_EQ(files->next_deadline_us(), 1'500'000);
  EXPECT_THAT(files->tick(1'400'000), IsEmpty());
  EXPECT_THAT(files->tick(1'500'000), SizeIs(1));
  EXPECT_EQ(files->next_deadline_us(), std::nullopt);
  EXPECT_THAT(wait(6).answers, IsEmpty());
  const JobFiles::Done end = order(EndLog{1});
  ASSERT_THAT(end.answers, SizeIs(1));
  EXPECT_TRUE(std::get<wire::JobLogChunk>(std::get<wire::JobsAnswer>(end.answers[0].message).answer).is_over);
}

}  // namespace
}  // namespace manta::head

// Whole pipelines, run inline by a runtime that loses blocks as a node that dies does: who reads one is told kLost.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <manta/data.h>
#include <manta/manta.h>

#include <random>
#include <set>

#include "actors/inline_runtime.h"
#include "data/test_files.h"

namespace manta::data::losses {
namespace {

using testing::HasSubstr;

class LosingRuntime final : public InlineRuntime {
 public:
  Result<detail::Value> await_value(const detail::Handle& handle, detail::Deadline deadline) override {
    detail::ObjectEntry& entry = *handle.get();
    const size_t size = entry.bytes().size();
    if (losses_left > 0 && size >= least_bytes && size <= most_bytes && random_() % 3 == 0) {
      --losses_left;
      lost_.insert(entry.id.sequence);
    }
    if (lost_.contains(entry.id.sequence)) return Status(Code::kLost, "its node burned down");
    return InlineRuntime::await_value(handle, deadline);
  }
  bool is_lost(detail::ObjectEntry& entry) override {
    return lost_.contains(entry.id.sequence) || InlineRuntime::is_lost(entry);
  }

  int losses_left = 15;
  size_t least_bytes = 4'000;  // what the driver learns of a block is smaller
  size_t most_bytes = SIZE_MAX;

 private:
  std::set<uint64_t> lost_;
  std::mt19937 random_{3};
};

class DatasetLossTest : public testing::Test {
 protected:
  DatasetLossTest() { Runtime::install(&runtime_); }
  ~DatasetLossTest() override { Runtime::install(nullptr); }

  LosingRuntime runtime_;
};

const ExecutionOptions kQuiet{.progress = false};
constexpr int64_t kRows = 300'000;
constexpr size_t kBytesOfABatch = 100'000;  // at most; pieces have more

struct Same {
  Batch operator()(Batch batch) { return batch; }
};
Batch same(const Batch& batch) { return batch; }

void expect_all_rows(const arrow::Table& table) {
  ASSERT_EQ(table.num_rows(), kRows);
  int64_t next = 0;
  for (const auto& chunk : table.GetColumnByName("id")->chunks()) {
    const auto& ids = static_cast<const arrow::Int64Array&>(*chunk);
    for (int64_t i = 0; i < ids.length(); ++i) ASSERT_EQ(ids.Value(i), next++);
  }
}

Dataset steps() {
  return range(kRows)
      .with(kQuiet)
      .map_batches<Same>({.batch_size = 5'000})
      .map_batches<&same>({.batch_size = 3'000})
      .map_batches<Same>({.batch_size = 7'000});
}

TEST_F(DatasetLossTest, CostsNoRowOnTheWayIntoFiles) {
  const TestFolder folder;
  const WriteResult result = steps().write_parquet(folder / "out", {.file_bytes = 300'000}).run();
  EXPECT_EQ(runtime_.losses_left, 0);
  EXPECT_EQ(result.rows, kRows);
  expect_all_rows(*read_folder(folder / "out"));
}

TEST_F(DatasetLossTest, CostsNoRowOnTheWayIntoThisProcess) {
  expect_all_rows(*steps().take(2 * kRows).run());
  EXPECT_EQ(runtime_.losses_left, 0);
}

TEST_F(DatasetLossTest, CostsNoRowOfACount) {
  EXPECT_EQ(steps().count().run(), kRows);
  EXPECT_EQ(runtime_.losses_left, 0);
}

TEST_F(DatasetLossTest, MayBeLostALimitedNumberOfTimes) {
  runtime_.losses_left = 1'000'000;
  runtime_.most_bytes = kBytesOfABatch;
  try {
    (void)range(kRows).with(kQuiet).map_batches<Same>({.batch_size = 5'000, .retries = 0, .name = "step"}).take(kRows).run();
    FAIL() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::kLost);
    EXPECT_THAT(error.what(), HasSubstr("map_batches<step>, batch "));
    EXPECT_THAT(error.what(), HasSubstr("what it made was lost before it was used: its node burned down; more .retries"));
  }
}

int g_calls = 0;
struct Fickle {
  Batch operator()(const Batch& batch) { return batch->Slice(0, batch->num_rows() - g_calls++); }
};

TEST_F(DatasetLossTest, MustHaveAsManyRowsWhenMadeAgain) {
  runtime_.most_bytes = kBytesOfABatch;
  try {
    (void)range(kRows).with(kQuiet).map_batches<Fickle>({.batch_size = 5'000}).take(kRows).run();
    FAIL() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::kInvalid);
    EXPECT_THAT(error.what(), HasSubstr("was lost and made again, with "));
  }
}

struct LosesItsOwn {
  Batch operator()(const Batch&) { throw Error(Status(Code::kLost, "what I read besides")); }
};

TEST_F(DatasetLossTest, IsNotMistakenForALossOfTheStepsOwn) {
  runtime_.losses_left = 0;
  try {
    (void)range(kRows).with(kQuiet).map_batches<LosesItsOwn>().take(kRows).run();
    FAIL() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::kLost);
    EXPECT_THAT(error.what(), HasSubstr("what I read besides"));
  }
}

}  // namespace
}  // namespace manta::data::losses

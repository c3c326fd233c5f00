// Whole pipelines, run inline: the plan, the optimizer, the core, the codec, the reader and the writer together.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <manta/data.h>
#include <manta/manta.h>
#include <sys/mount.h>

#include <fstream>
#include <random>

#include "actors/inline_runtime.h"
#include "data/test_files.h"

namespace manta::data {
namespace {

using testing::HasSubstr;

class DatasetTest : public testing::Test {
 protected:
  DatasetTest() { Runtime::install(&runtime_); }
  ~DatasetTest() override { Runtime::install(nullptr); }

  /// `rows` rows in `files` files of row groups of random sizes.
  std::string corpus(int64_t rows, int files, unsigned seed = 1) {
    std::mt19937 random(seed);
    for (int i = 0; i < files; ++i) {
      const int64_t first = rows * i / files, end = rows * (i + 1) / files;
      write_file(in_ / ("in/" + std::to_string(i) + ".parquet"), table_of({varied_batch(first, end - first)}),
                 1 + random() % 97);
    }
    return in_ / "in/*.parquet";
  }

  template <typename Action>
  Status refusal(Action action) {
    try {
      action();
    } catch (const Error& error) {
      return error.status();
    }
    ADD_FAILURE() << "nothing was thrown";
    return {};
  }

  TestFolder in_;
  InlineRuntime runtime_;
};

const ExecutionOptions kQuiet{.progress = false};

std::vector<int64_t> g_batch_sizes;  // of SizeRecorder, which runs in this process

/// Notes the sizes of its batches, and multiplies the ids.
struct SizeRecorder {
  explicit SizeRecorder(int64_t factor) : factor_(factor) {}
  arrow::Result<Batch> operator()(const Batch& batch) {
    g_batch_sizes.push_back(batch->num_rows());
    const auto ids = std::static_pointer_cast<arrow::Int64Array>(batch->GetColumnByName("id"));
    arrow::Int64Builder out;
    for (int64_t i = 0; i < ids->length(); ++i) ARROW_RETURN_NOT_OK(out.Append(ids->Value(i) * factor_));
    ARROW_ASSIGN_OR_RAISE(auto column, out.Finish());
    return batch->SetColumn(0, arrow::field("id", arrow::int64()), column);
  }
  int64_t factor_;
};

std::vector<int64_t> ids_of(const arrow::Table& table) {
  std::vector<int64_t> out;
  const auto column = table.GetColumnByName("id");
  for (const auto& chunk : column->chunks()) {
    const auto& ids = static_cast<const arrow::Int64Array&>(*chunk);
    for (int64_t i = 0; i < ids.length(); ++i) out.push_back(ids.Value(i));
  }
  return out;
}

bool is_even(const arrow::RecordBatch& batch, int64_t row) {
  return static_cast<const arrow::Int64Array&>(*batch.GetColumnByName("id")).Value(row) % 2 == 0;
}
Batch twice(const Batch& batch) { return must(arrow::ConcatenateRecordBatches({batch, batch})); }
struct Failing {
  Batch operator()(const Batch&) { throw std::runtime_error("the model broke"); }
};
struct Unmakeable {
  Unmakeable() { throw std::runtime_error("no weights"); }
  Batch operator()(const Batch& batch) { return batch; }
};
struct Fickle {
  int calls = 0;
  Batch operator()(const Batch& batch) { return ++calls < 3 ? batch : must(batch->SelectColumns({0})); }
};

TEST_F(DatasetTest, CopiesEveryKindOfColumnThroughParquet) {
  const std::string in = corpus(1000, 3);
  for (const Compression compression : {Compression::kNone, Compression::kSnappy, Compression::kZstd}) {
    const std::string out = in_ / ("out" + std::to_string(static_cast<int>(compression)));
    const WriteResult result = read_parquet(in).with(kQuiet).write_parquet(out, {.compression = compression}).run();
    EXPECT_EQ(result.rows, 1000);
    EXPECT_EQ(result.path, out);
    EXPECT_EQ(result.files, 1);
    EXPECT_TRUE(same_rows(*read_folder(out), *table_of({varied_batch(0, 1000)})));
  }
}

TEST_F(DatasetTest, BatchesHaveTheirExactSizeAcrossBlocksAndFiles) {
  for (unsigned seed = 1; seed <= 8; ++seed) {
    const std::string in = corpus(700, 4, seed);
    const int64_t size = 1 + seed * 17;
    g_batch_sizes.clear();
    const auto table = read_parquet(in, {.columns = {"id"}, .block_bytes = 500 + 100 * seed})
                           .map_batches<SizeRecorder>({.batch_size = size}, 3)
                           .with(kQuiet)
                           .take(10'000)
                           .run();
    const auto ids = ids_of(*table);
    ASSERT_EQ(ids.size(), 700u);
    for (size_t i = 0; i < ids.size(); ++i) ASSERT_EQ(ids[i], static_cast<int64_t>(i) * 3);
    ASSERT_FALSE(g_batch_sizes.empty());
    for (size_t i = 0; i + 1 < g_batch_sizes.size(); ++i) EXPECT_EQ(g_batch_sizes[i], size);
    EXPECT_EQ(g_batch_sizes.back(), 700 % size == 0 ? size : 700 % size);
  }
}

TEST_F(DatasetTest, FiltersFunctionsLimitsAndSelectionsCompose) {
  const std::string in = corpus(500, 2);
  const auto base = read_parquet(in).with(kQuiet);
  EXPECT_EQ(base.filter<&is_even>().count().run(), 250);
  const int64_t least = 400;
  const auto late = base.filter([least](const arrow::RecordBatch& batch, int64_t row) {
    return static_cast<const arrow::Int64Array&>(*batch.column(0)).Value(row) >= least;
  });
  EXPECT_EQ(late.count().run(), 100);
  EXPECT_EQ(late.map_batches<&twice>().count().run(), 200);
  EXPECT_EQ(late.map_batches<&twice>({.batch_size = 10}).limit(55).count().run(), 55);
  EXPECT_EQ(base.map_batches<[](const Batch& batch) { return batch->Slice(0, 1); }>({.batch_size = 50}).count().run(), 10);
  const auto table = base.limit(100).filter<&is_even>().select_columns({"text", "id"}).limit(7).take(100).run();
  EXPECT_EQ(ids_of(*table), (std::vector<int64_t>{0, 2, 4, 6, 8, 10, 12}));
  EXPECT_EQ(table->schema()->field_names(), (std::vector<std::string>{"text", "id"}));
  EXPECT_EQ(base.limit(0).map_batches<&twice>({.batch_size = 5}).count().run(), 0);
}

TEST_F(DatasetTest, ReadsWhatIsNeededOnly) {
  const auto plan =
      read_parquet("x", {.columns = {"a", "b"}}).select_columns({"b"}).limit(10).limit(20).filter<&is_even>().explain();
  EXPECT_THAT(plan, HasSubstr("columns b"));
  EXPECT_THAT(plan, HasSubstr("first 10 rows"));
  EXPECT_EQ(refusal([] { (void)read_parquet("x", {.columns = {"a"}}).select_columns({"b"}).explain(); }).code(),
            Code::kInvalid);
}

TEST_F(DatasetTest, CountsAndTakesFromSourcesWithoutFiles) {
  EXPECT_EQ(range(300'000).with(kQuiet).count().run(), 300'000);
  EXPECT_EQ(range(300'000).with(kQuiet).filter<&is_even>().count().run(), 150'000);
  EXPECT_EQ(ids_of(*range(1'000'000).with(kQuiet).filter<&is_even>().take(3).run()), (std::vector<int64_t>{0, 2, 4}));
  const auto table = table_of({varied_batch(0, 10), varied_batch(10, 30)});
  EXPECT_EQ(from_arrow(table).count().run(), 40);
  EXPECT_TRUE(same_rows(*from_arrow(table).with(kQuiet).take(100).run(), *table));
  EXPECT_EQ(from_arrow(table).with(kQuiet).filter<&is_even>().count().run(), 20);
}

TEST_F(DatasetTest, AnInputWithoutRowsGivesAnOutputWithASchema) {
  write_file(in_ / "in/a.parquet", table_of({varied_batch(0, 0)}));
  g_batch_sizes.clear();
  const auto result =
      read_parquet(in_ / "in").map_batches<SizeRecorder>({.batch_size = 9}, 3).with(kQuiet).write_parquet(in_ / "out").run();
  EXPECT_EQ(result.rows, 0);
  EXPECT_EQ(g_batch_sizes, std::vector<int64_t>{0});
  EXPECT_EQ(read_folder(in_ / "out")->schema()->field_names(), varied_batch(0, 0)->schema()->field_names());
  EXPECT_EQ(
      range(10).filter<[](const arrow::RecordBatch&, int64_t) { return false; }>().with(kQuiet).take(5).run()->num_columns(),
      1);
}

TEST_F(DatasetTest, WritesFilesOfAboutTheSizeAskedForInTheOrderOfTheRows) {
  const std::string in = corpus(5000, 3);
  const auto result =
      read_parquet(in, {.block_bytes = 20'000}).with(kQuiet).write_parquet(in_ / "out", {.file_bytes = 100'000}).run();
  EXPECT_GT(result.files, 2);
  EXPECT_EQ(static_cast<size_t>(result.files), in_.list("out").size());
  EXPECT_EQ(in_.list("out").front(), "part-00000.parquet");
  EXPECT_TRUE(same_rows(*read_folder(in_ / "out"), *table_of({varied_batch(0, 5000)})));
}

TEST_F(DatasetTest, RefusesAnExistingOutputBeforeAnyWork) {
  const std::string in = corpus(10, 1);
  std::filesystem::create_directory(in_ / "out");
  g_batch_sizes.clear();
  const Status status = refusal(
      [&] { (void)read_parquet(in).map_batches<SizeRecorder>({}, 1).with(kQuiet).write_parquet(in_ / "out").run(); });
  EXPECT_EQ(status.code(), Code::kExists);
  EXPECT_THAT(status.message(), HasSubstr("out"));
  EXPECT_TRUE(g_batch_sizes.empty());
}

TEST_F(DatasetTest, AFailureNamesTheStepAndLeavesNothing) {
  const std::string in = corpus(100, 2);
  const auto base = read_parquet(in).with(kQuiet);
  Status status = refusal([&] { (void)base.map_batches<Failing>({.batch_size = 10}).write_parquet(in_ / "out").run(); });
  EXPECT_EQ(status.code(), Code::kTaskFailed);
  EXPECT_THAT(status.message(), HasSubstr("Failing"));
  EXPECT_THAT(status.message(), HasSubstr("the model broke"));
  EXPECT_THAT(status.origin_type(), HasSubstr("runtime_error"));
  status = refusal([&] { (void)base.map_batches<Unmakeable>().write_parquet(in_ / "out").run(); });
  EXPECT_THAT(status.message(), HasSubstr("no weights"));
  status = refusal(
      [&] { (void)base.map_batches<Fickle>({.batch_size = 10, .pool = {.max = 1}}).write_parquet(in_ / "out").run(); });
  EXPECT_THAT(status.message(), HasSubstr("text"));
  status = refusal([&] { (void)base.select_columns({"id", "nope"}).take(3).run(); });
  EXPECT_THAT(status.message(), HasSubstr("nope"));
  status = refusal([&] { (void)read_parquet(in_ / "none/*.parquet").count().run(); });
  EXPECT_EQ(status.code(), Code::kNotFound);
  EXPECT_EQ(in_.list(), std::vector<std::string>{"in"});
}

TEST_F(DatasetTest, FilesMayDifferInTheOrderOfColumnsAndInWhichMayBeNull) {
  const auto strict = arrow::schema({arrow::field("id", arrow::int64(), false), arrow::field("text", arrow::utf8())});
  const Batch one = arrow::RecordBatch::Make(strict, 5, std::vector{int_column(0, 5), text_column(0, 5)});
  const Batch other = must(plain_batch(5, 5)->SelectColumns({1, 0}));
  write_file(in_ / "in/a.parquet", table_of({one}));
  write_file(in_ / "in/b.parquet", table_of({other}));
  for (const int64_t block_bytes : {1, 1 << 20}) {
    const auto table = read_parquet(in_ / "in", {.block_bytes = block_bytes}).with(kQuiet).take(100).run();
    EXPECT_TRUE(same_rows(*table, *table_of({plain_batch(0, 10)})));
  }
}

TEST_F(DatasetTest, ATruncatedFileInTheMiddleLeavesNothing) {
  const std::string in = corpus(1000, 3);
  std::filesystem::resize_file(in_ / "in/1.parquet", 2000);
  const Status status = refusal([&] { (void)read_parquet(in).with(kQuiet).write_parquet(in_ / "out").run(); });
  EXPECT_EQ(status.code(), Code::kInvalid);
  EXPECT_THAT(status.message(), HasSubstr("in/1.parquet"));
  EXPECT_EQ(in_.list(), std::vector<std::string>{"in"});
}

TEST_F(DatasetTest, AFullDiskIsSaidAndLeavesNothing) {
  const std::string small = in_ / "small";
  std::filesystem::create_directory(small);
  if (::mount("tmpfs", small.c_str(), "tmpfs", 0, "size=256k") != 0)
    GTEST_SKIP() << "needs to mount a small file system: be root";
  const Status status = refusal(
      [&] { (void)range(1'000'000).with(kQuiet).write_parquet(small + "/out", {.compression = Compression::kNone}).run(); });
  EXPECT_EQ(status.code(), Code::kFull) << status.to_string();
  EXPECT_THAT(status.message(), HasSubstr(small));
  EXPECT_TRUE(in_.list("small").empty());
  ::umount(small.c_str());
}

}  // namespace
}  // namespace manta::data

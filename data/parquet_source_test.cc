#include "data/parquet_source.h"

#include <gtest/gtest.h>

#include <fstream>
#include <random>

#include "data/test_files.h"

namespace manta::data {
namespace {

using testing::Test;

ReadRequest request_of(const ParquetLayout& layout, const Piece& piece) {
  ReadRequest request;
  request.columns = layout.columns;
  for (const FileRange& range : piece.ranges) {
    request.ranges.push_back({layout.files[range.file], range.row_group, range.offset, range.rows});
  }
  return request;
}

std::shared_ptr<arrow::Table> read_all(const ParquetLayout& layout) {
  Reader reader;
  std::vector<Batch> blocks;
  for (const Piece& piece : layout.pieces) {
    auto [block, meta] = reader.read(request_of(layout, piece));
    EXPECT_EQ(block->num_rows(), piece.rows);
    EXPECT_EQ(meta.rows, piece.rows);
    blocks.push_back(block);
  }
  return table_of(blocks);
}

TEST(FindFiles, TakesFilesFoldersAndGlobsInOrder) {
  const TestFolder folder;
  for (const char* name : {"b.parquet", "a.parquet", "sub/c.parquet", "sub/_hidden.parquet", ".x/d.parquet", "note.txt"}) {
    std::filesystem::create_directories(std::filesystem::path(folder / name).parent_path());
    std::ofstream(folder / name) << "x";
  }
  using Names = std::vector<std::string>;
  EXPECT_EQ(*find_files({folder / "note.txt"}), Names{folder / "note.txt"});
  EXPECT_EQ(*find_files({folder.path()}), (Names{folder / "a.parquet", folder / "b.parquet", folder / "sub/c.parquet"}));
  EXPECT_EQ(*find_files({folder / "?.parquet"}), (Names{folder / "a.parquet", folder / "b.parquet"}));
  EXPECT_EQ(*find_files({folder / "b*", folder / "*.parquet"}), (Names{folder / "b.parquet", folder / "a.parquet"}));
  for (const std::string missing : {"none.parquet", "*.csv"}) {
    const auto result = find_files({folder / missing});
    ASSERT_EQ(result.status().code(), Code::kNotFound);
    EXPECT_NE(result.status().message().find(missing), std::string::npos);
  }
}

TEST(Layout, CutsBigRowGroupsAndGathersSmallOnes) {
  const TestFolder folder;
  write_file(folder / "big.parquet", table_of({varied_batch(0, 50'000)}));
  write_file(folder / "small.parquet", table_of({varied_batch(50'000, 1000)}), 100);
  const auto files = *find_files({folder / "*.parquet"});
  const auto layout = lay_out(files, {.block_bytes = 200 << 10});
  ASSERT_TRUE(layout.ok()) << layout.status().to_string();
  EXPECT_EQ(layout->rows, 51'000);
  EXPECT_GT(layout->pieces.size(), 5u);
  EXPECT_LT(layout->pieces.size(), 60u);
  EXPECT_GT(layout->units.front().pieces, 3u);
  EXPECT_GT(layout->pieces.back().ranges.size(), 1u);
  EXPECT_TRUE(same_rows(*read_all(*layout), *table_of({varied_batch(0, 51'000)})));
}

TEST(Layout, ReadsOnlyTheRowsOfALimit) {
  const TestFolder folder;
  write_file(folder / "a.parquet", table_of({plain_batch(0, 1000)}), 100);
  for (const int64_t limit : {0, 1, 100, 250, 5000}) {
    const auto layout = lay_out({folder / "a.parquet"}, {.limit_rows = limit});
    ASSERT_TRUE(layout.ok());
    EXPECT_EQ(layout->rows, std::min<int64_t>(limit, 1000));
    EXPECT_TRUE(same_rows(*read_all(*layout), *table_of({plain_batch(0, std::min<int64_t>(limit, 1000))})));
  }
}

TEST(Layout, ReadsTheColumnsInTheOrderAskedFor) {
  const TestFolder folder;
  write_file(folder / "a.parquet", table_of({varied_batch(0, 100)}));
  const auto layout = lay_out({folder / "a.parquet"}, {.columns = {"pair", "text", "vector", "id"}});
  ASSERT_TRUE(layout.ok());
  const auto expected = must(varied_batch(0, 100)->SelectColumns({6, 1, 3, 0}));
  EXPECT_TRUE(same_rows(*read_all(*layout), *table_of({expected})));
}

TEST(Layout, AnEmptyFileGivesOneEmptyBlockWithItsSchema) {
  const TestFolder folder;
  write_file(folder / "a.parquet", table_of({varied_batch(0, 0)}));
  const auto layout = lay_out({folder / "a.parquet"}, {});
  ASSERT_TRUE(layout.ok());
  EXPECT_EQ(layout->pieces.size(), 1u);
  EXPECT_TRUE(read_all(*layout)->schema()->Equals(varied_batch(0, 0)->schema(), false));
}

TEST(Layout, RefusesWhatItCannotReadAndSaysWhy) {
  const TestFolder folder;
  const std::string good = folder / "good.parquet";
  write_file(good, table_of({plain_batch(0, 1000)}));
  std::string bytes;
  {
    std::ifstream in(good, std::ios::binary);
    bytes.assign(std::istreambuf_iterator<char>(in), {});
  }
  const auto refusal = [&](const std::string& file, const LayoutOptions& options) {
    const auto layout = lay_out({good, file}, options);
    EXPECT_FALSE(layout.ok());
    EXPECT_NE(layout.status().message().find(file), std::string::npos) << layout.status().message();
    return layout.status();
  };
  const std::string bad = folder / "bad.parquet";
  for (const std::string& damaged : {bytes.substr(0, bytes.size() / 2), std::string(), std::string("text, not Parquet"),
                                     bytes.substr(0, bytes.size() - 12) + bytes.substr(bytes.size() - 8)}) {
    std::ofstream(bad, std::ios::binary) << damaged;
    EXPECT_EQ(refusal(bad, {}).code(), Code::kInvalid);
  }
  const Status missing = lay_out({good}, {.columns = {"txt"}}).status();
  EXPECT_EQ(missing.code(), Code::kInvalid);
  EXPECT_NE(missing.message().find("'txt'"), std::string::npos);
  EXPECT_NE(missing.message().find("id, text"), std::string::npos) << missing.message();

  const auto other =
      arrow::RecordBatch::Make(arrow::schema({arrow::field("id", arrow::int64()), arrow::field("text", arrow::int64())}), 3,
                               std::vector{int_column(0, 3), int_column(0, 3)});
  write_file(bad, table_of({other}));
  const Status differs = refusal(bad, {});
  EXPECT_NE(differs.message().find("'text' is string in one and int64 in the other"), std::string::npos)
      << differs.message();
}

TEST(Layout, GarbageNeverCrashes) {
  const TestFolder folder;
  write_file(folder / "a.parquet", table_of({varied_batch(0, 300)}));
  std::string bytes;
  {
    std::ifstream in(folder / "a.parquet", std::ios::binary);
    bytes.assign(std::istreambuf_iterator<char>(in), {});
  }
  std::mt19937 random(5);
  int refused = 0;
  for (int i = 0; i < 400; ++i) {
    std::string damaged = bytes;
    for (unsigned n = 1 + random() % 3; n > 0; --n) damaged[random() % damaged.size()] = static_cast<char>(random());
    std::ofstream(folder / "b.parquet", std::ios::binary) << damaged;
    const auto layout = lay_out({folder / "b.parquet"}, {});
    if (!layout.ok()) {
      ++refused;
      continue;
    }
    Reader reader;
    try {
      for (const Piece& piece : layout->pieces) (void)reader.read(request_of(*layout, piece));
    } catch (const Error&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, 20);
}

TEST(Reader, ANewOneGivesTheSameRowsFromTheMiddle) {
  const TestFolder folder;
  write_file(folder / "a.parquet", table_of({plain_batch(0, 30'000)}));
  const auto layout = lay_out({folder / "a.parquet"}, {.block_bytes = 100 << 10});
  ASSERT_TRUE(layout.ok());
  ASSERT_GT(layout->pieces.size(), 3u);
  Reader old;
  for (size_t i = 0; i < layout->pieces.size(); ++i) {
    const ReadRequest request = request_of(*layout, layout->pieces[i]);
    const Batch expected = std::get<0>(old.read(request));
    Reader fresh;
    EXPECT_TRUE(std::get<0>(fresh.read(request))->Equals(*expected)) << i;
    EXPECT_TRUE(std::get<0>(old.read(request))->Equals(*expected)) << "again " << i;
  }
}

}  // namespace
}  // namespace manta::data

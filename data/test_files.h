// Parquet files and folders for the tests.
#pragma once

#include <arrow/io/file.h>
#include <parquet/arrow/reader.h>
#include <parquet/arrow/writer.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "data/test_tables.h"

namespace manta::data {

/// A folder that is gone after the test.
class TestFolder {
 public:
  TestFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "manta-data-XXXXXX").string();
    if (::mkdtemp(pattern.data()) == nullptr) throw Error(Status(Code::kIo, "mkdtemp"));
    path_ = pattern;
  }
  ~TestFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TestFolder(const TestFolder&) = delete;
  TestFolder& operator=(const TestFolder&) = delete;
  [[nodiscard]] std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  [[nodiscard]] const std::string& path() const { return path_; }
  /// Names of what is in it, sorted.
  [[nodiscard]] std::vector<std::string> list(const std::string& under = "") const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(path_ + "/" + under))
      names.push_back(entry.path().filename().string());
    std::sort(names.begin(), names.end());
    return names;
  }

 private:
  std::string path_;
};

inline void write_file(const std::string& path, const std::shared_ptr<arrow::Table>& table,
                       int64_t row_group_rows = 1 << 20) {
  std::filesystem::create_directories(std::filesystem::path(path).parent_path());
  auto file = must(arrow::io::FileOutputStream::Open(path));
  const auto keep_schema = parquet::ArrowWriterProperties::Builder().store_schema()->build();
  must(parquet::arrow::WriteTable(*table, arrow::default_memory_pool(), file, row_group_rows,
                                  parquet::default_writer_properties(), keep_schema));
  must(file->Close());
}

inline std::shared_ptr<arrow::Table> read_file(const std::string& path) {
  auto file = must(arrow::io::ReadableFile::Open(path));
  parquet::arrow::FileReaderBuilder builder;
  must(builder.Open(file));
  return must(must(builder.Build())->ReadTable());
}

/// All part files of a folder, in order, as one table.
inline std::shared_ptr<arrow::Table> read_folder(const std::string& path) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(path)) names.push_back(entry.path().string());
  std::sort(names.begin(), names.end());
  std::vector<std::shared_ptr<arrow::Table>> tables;
  for (const std::string& name : names) tables.push_back(read_file(name));
  return must(arrow::ConcatenateTables(tables));
}

inline bool same_rows(const arrow::Table& one, const arrow::Table& other) {
  return must(one.CombineChunks())->Equals(*must(other.CombineChunks()), false);
}

}  // namespace manta::data

#include "data/parquet_open.h"

#include <arrow/io/file.h>
#include <arrow/type.h>
#include <parquet/arrow/reader.h>
#include <parquet/arrow/schema.h>
#include <parquet/file_reader.h>

#include <algorithm>
#include <filesystem>

#include "common/check.h"
#include "data/arrow_status.h"
#include "data/steps.h"

namespace manta::data {
namespace {

constexpr int64_t kStreamBytes = int64_t{1} << 20;

void add_leaves(const parquet::arrow::SchemaField& field, std::vector<int>& out) {
  if (field.is_leaf()) out.push_back(field.column_index);
  for (const auto& child : field.children) add_leaves(child, out);
}

}  // namespace

Result<std::unique_ptr<parquet::arrow::FileReader>> open_parquet(const std::string& path) {
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) return Status(Code::kNotFound, "there is no file '" + path + "'");
  MANTA_ARROW_ASSIGN(auto file, "cannot open '" + path + "'", arrow::io::ReadableFile::Open(path));
  parquet::ReaderProperties properties;
  properties.enable_buffered_stream();  // a row group is read as it is decoded, not all at once
  properties.set_buffer_size(kStreamBytes);
  parquet::ArrowReaderProperties arrow_properties(/*use_threads=*/false);
  arrow_properties.set_pre_buffer(false);
  const std::string context = "'" + path + "' is damaged, or not a Parquet file";
  parquet::arrow::FileReaderBuilder builder;
  const auto invalid = [&](const arrow::Status& status) {
    return Status(Code::kInvalid, context + ": " + status.message());
  };
  if (const arrow::Status opened = builder.Open(std::move(file), properties); !opened.ok()) return invalid(opened);
  builder.properties(arrow_properties);
  auto reader = builder.Build();
  if (!reader.ok()) return invalid(reader.status());
  return std::move(reader).ValueUnsafe();
}

Result<std::vector<int>> leaf_columns(const parquet::arrow::FileReader& reader, const std::vector<std::string>& columns,
                                      const std::string& path) {
  std::vector<int> leaves;
  const auto& fields = reader.manifest().schema_fields;
  for (const std::string& column : columns) {
    const auto field = std::find_if(fields.begin(), fields.end(), [&](const auto& f) { return f.field->name() == column; });
    if (field == fields.end()) {
      std::vector<std::string> names;
      for (const auto& there : fields) names.push_back(there.field->name());
      return Status(Code::kInvalid, "there is no column '" + column + "' in '" + path + "'; there are: " + joined(names));
    }
    add_leaves(*field, leaves);
  }
  std::sort(leaves.begin(), leaves.end());
  leaves.erase(std::unique(leaves.begin(), leaves.end()), leaves.end());
  return leaves;
}

}  // namespace manta::data

#include <arrow/type.h>
#include <parquet/arrow/reader.h>
#include <parquet/arrow/schema.h>
#include <parquet/file_reader.h>
#include <parquet/metadata.h>

#include <algorithm>

#include "common/check.h"
#include "data/arrow_status.h"
#include "data/parquet_open.h"
#include "data/parquet_source.h"
#include "data/steps.h"

namespace manta::data {
namespace {

// Encoded columns can be far smaller than their values, so bytes alone would let a block grow without bound.
constexpr int64_t kMostRows = 128 << 10;

int64_t ceil_divide(int64_t a, int64_t b) { return (a + b - 1) / b; }

/// Cuts row groups into pieces, one after the other.
class Cutter {
 public:
  Cutter(ParquetLayout& out, const LayoutOptions& options) : out_(out), options_(options), rows_left_(options.limit_rows) {}

  [[nodiscard]] bool has_enough() const { return options_.limit_rows >= 0 && rows_left_ == 0; }

  void add(uint32_t file, int row_group, int64_t rows, int64_t bytes) {
    if (options_.limit_rows >= 0 && rows > rows_left_) {
      bytes = rows == 0 ? 0 : bytes / rows * rows_left_;
      rows = rows_left_;
    }
    if (options_.limit_rows >= 0) rows_left_ -= rows;
    if (rows == 0) return;
    out_.rows += rows;
    const int64_t parts = std::max(ceil_divide(bytes, options_.block_bytes), ceil_divide(rows, kMostRows));
    if (parts <= 1) return add_small({file, row_group, 0, rows}, bytes);
    close();
    const int64_t rows_each = ceil_divide(rows, parts);
    SourceUnit unit{out_.pieces.size(), 0};
    for (int64_t at = 0; at < rows; at += rows_each, ++unit.pieces) {
      const int64_t here = std::min(rows_each, rows - at);
      out_.pieces.push_back({{{file, row_group, at, here}}, here, std::max<int64_t>(1, bytes / rows * here)});
    }
    out_.units.push_back(unit);
  }

  /// Ends the piece that gathers small row groups.
  void close() {
    if (small_.ranges.empty()) return;
    out_.units.push_back({out_.pieces.size(), 1});
    out_.pieces.push_back(std::exchange(small_, {}));
  }

 private:
  void add_small(const FileRange& range, int64_t bytes) {
    if (small_.bytes + bytes > options_.block_bytes || small_.rows + range.rows > kMostRows) close();
    small_.ranges.push_back(range);
    small_.rows += range.rows;
    small_.bytes += std::max<int64_t>(1, bytes);
  }

  ParquetLayout& out_;
  const LayoutOptions& options_;
  int64_t rows_left_;
  Piece small_;
};

/// The fields read, and that every file has them alike.
class SchemaCheck {
 public:
  explicit SchemaCheck(const std::vector<std::string>& asked) : asked_(asked) {}

  Result<std::vector<std::string>> columns(parquet::arrow::FileReader& reader, const std::string& path) {
    std::shared_ptr<arrow::Schema> schema;
    MANTA_ARROW_OK("reading the schema of '" + path + "'", reader.GetSchema(&schema));
    std::vector<std::string> names = asked_.empty() ? schema->field_names() : asked_;
    MANTA_RETURN_IF_ERROR(leaf_columns(reader, names, path).status());
    arrow::FieldVector fields;
    for (const std::string& name : names) fields.push_back(schema->GetFieldByName(name));
    if (std::find(fields.begin(), fields.end(), nullptr) != fields.end()) {
      return Status(Code::kInvalid, "'" + path + "' has two columns of one name");
    }
    const auto as_it_is = arrow::schema(fields);
    for (auto& field : fields) field = field->WithNullable(true);
    const auto here = arrow::schema(std::move(fields));
    if (!first_) {
      first_ = here;
      first_as_it_is_ = as_it_is;
      first_path_ = path;
      return names;
    }
    const std::string difference = schema_difference(*first_, *here);
    for (const auto& field : as_it_is->fields()) {
      const auto counterpart = first_as_it_is_->GetFieldByName(field->name());
      differs_in_nulls_ = differs_in_nulls_ || !counterpart || counterpart->nullable() != field->nullable();
    }
    const bool is_order = difference == "the order of the columns";
    if (difference.empty() || is_order) return first_->field_names();
    return Status(Code::kInvalid, "'" + first_path_ + "' and '" + path + "' do not go together: " + difference);
  }

  [[nodiscard]] bool differs_in_nulls() const { return differs_in_nulls_; }

 private:
  const std::vector<std::string>& asked_;
  std::shared_ptr<arrow::Schema> first_;
  std::shared_ptr<arrow::Schema> first_as_it_is_;
  bool differs_in_nulls_ = false;
  std::string first_path_;
};

}  // namespace

Result<ParquetLayout> lay_out(std::vector<std::string> files, const LayoutOptions& options) {
  if (options.block_bytes <= 0) return Status(Code::kInvalid, "block_bytes is above 0");
  ParquetLayout out;
  out.files = std::move(files);
  Cutter cutter(out, options);
  SchemaCheck schemas(options.columns);
  for (uint32_t file = 0; file < out.files.size() && (file == 0 || !cutter.has_enough()); ++file) {
    MANTA_ASSIGN_OR_RETURN(const auto reader, open_parquet(out.files[file]));
    MANTA_ASSIGN_OR_RETURN(out.columns, schemas.columns(*reader, out.files[file]));
    MANTA_ASSIGN_OR_RETURN(const std::vector<int> leaves, leaf_columns(*reader, out.columns, out.files[file]));
    const auto metadata = reader->parquet_reader()->metadata();
    for (int group = 0; group < metadata->num_row_groups() && !cutter.has_enough(); ++group) {
      const auto row_group = metadata->RowGroup(group);
      int64_t bytes = 0;
      for (const int leaf : leaves) bytes += std::max<int64_t>(0, row_group->ColumnChunk(leaf)->total_uncompressed_size());
      if (row_group->num_rows() < 0)
        return Status(Code::kInvalid, "'" + out.files[file] + "' is damaged: a negative number of rows");
      cutter.add(file, group, row_group->num_rows(), bytes);
    }
  }
  cutter.close();
  out.is_nullable = schemas.differs_in_nulls();
  if (out.pieces.empty()) {
    out.pieces.push_back({{{0, 0, 0, 0}}, 0, 1});
    out.units.push_back({0, 1});
  }
  return out;
}

Result<int64_t> count_rows(const std::vector<std::string>& files) {
  int64_t rows = 0;
  for (const std::string& file : files) {
    MANTA_ASSIGN_OR_RETURN(const auto reader, open_parquet(file));
    rows += reader->parquet_reader()->metadata()->num_rows();
  }
  return rows;
}

}  // namespace manta::data

#include <arrow/array/builder_primitive.h>
#include <arrow/table.h>
#include <parquet/arrow/reader.h>
#include <parquet/file_reader.h>

#include <algorithm>

#include "common/check.h"
#include "data/arrow_status.h"
#include "data/parquet_open.h"
#include "data/parquet_source.h"
#include "data/steps.h"

namespace manta::data {

/// A place in one row group of one file.
class Reader::Cursor {
 public:
  /// The rows of `range`, in as many batches as they come in.
  Status read(const NamedRange& range, const std::vector<std::string>& columns, std::vector<Batch>& out) {
    if (path_ != range.path || columns_ != columns) MANTA_RETURN_IF_ERROR(open(range.path, columns));
    if (range.rows == 0) {
      out.push_back(empty_);
      return {};
    }
    if (!batches_ || row_group_ != range.row_group || position_ > range.offset) MANTA_RETURN_IF_ERROR(start(range));
    MANTA_RETURN_IF_ERROR(advance(range.offset - position_, nullptr));
    return advance(range.rows, &out);
  }

 private:
  Status open(const std::string& path, const std::vector<std::string>& columns) {
    path_.clear();
    batches_.reset();
    MANTA_ASSIGN_OR_RETURN(file_, open_parquet(path));
    MANTA_ASSIGN_OR_RETURN(leaves_, leaf_columns(*file_, columns, path));
    MANTA_ARROW_ASSIGN(const auto none, "'" + path + "'", file_->ReadRowGroups({}, leaves_));
    columns_ = columns;
    path_ = path;
    MANTA_ARROW_ASSIGN(const Batch combined, "'" + path + "'", none->CombineChunksToBatch());
    MANTA_ASSIGN_OR_RETURN(empty_, in_order(combined));
    return {};
  }

  Status start(const NamedRange& range) {
    leftover_.reset();
    position_ = 0;
    row_group_ = range.row_group;
    if (row_group_ >= file_->num_row_groups()) return changed();
    file_->set_batch_size(range.rows);  // the pieces of a row group are of one size
    MANTA_ARROW_ASSIGN(batches_, "'" + path_ + "'", file_->GetRecordBatchReader({row_group_}, leaves_));
    return {};
  }

  /// Goes `rows` on; appends them to `out` unless it is null.
  Status advance(int64_t rows, std::vector<Batch>* out) {
    while (rows > 0) {
      Batch next = std::exchange(leftover_, nullptr);
      if (!next) MANTA_ARROW_OK("'" + path_ + "' is damaged", batches_->ReadNext(&next));
      if (!next) return changed();
      if (next->num_rows() > rows) {
        leftover_ = next->Slice(rows);
        next = next->Slice(0, rows);
      }
      rows -= next->num_rows();
      position_ += next->num_rows();
      if (out == nullptr) continue;
      MANTA_ASSIGN_OR_RETURN(Batch ordered, in_order(next));
      out->push_back(std::move(ordered));
    }
    return {};
  }

  /// The columns in the order they were asked for; the file gives them in its own.
  Result<Batch> in_order(const Batch& batch) const {
    std::vector<int> indices;
    for (const std::string& column : columns_) indices.push_back(batch->schema()->GetFieldIndex(column));
    if (std::is_sorted(indices.begin(), indices.end()) && static_cast<int>(indices.size()) == batch->num_columns())
      return batch;
    MANTA_ARROW_ASSIGN(Batch out, "'" + path_ + "'", batch->SelectColumns(indices));
    return out;
  }

  Status changed() const { return Status(Code::kInvalid, "'" + path_ + "' has fewer rows than it had a moment ago"); }

  std::string path_;
  std::vector<std::string> columns_;
  std::unique_ptr<parquet::arrow::FileReader> file_;
  std::vector<int> leaves_;
  Batch empty_;
  std::unique_ptr<arrow::RecordBatchReader> batches_;
  int row_group_ = -1;
  int64_t position_ = 0;
  Batch leftover_;
};

namespace {

Result<Batch> numbers(int64_t first, int64_t count) {
  arrow::Int64Builder builder;
  MANTA_ARROW_OK("range", builder.Reserve(count));
  for (int64_t i = 0; i < count; ++i) builder.UnsafeAppend(first + i);
  MANTA_ARROW_ASSIGN(auto column, "range", builder.Finish());
  return arrow::RecordBatch::Make(arrow::schema({arrow::field("id", arrow::int64(), false)}), count, {std::move(column)});
}

/// The same rows, where any column may be null.
Batch nullable(const arrow::RecordBatch& batch) {
  arrow::FieldVector fields;
  for (const auto& field : batch.schema()->fields()) fields.push_back(field->WithNullable(true));
  return arrow::RecordBatch::Make(arrow::schema(std::move(fields)), batch.num_rows(), batch.columns());
}

}  // namespace

Reader::Reader() : cursor_(std::make_unique<Cursor>()) {}
Reader::~Reader() = default;

Result<Batch> Reader::read_ranges(const ReadRequest& request) {
  std::vector<Batch> parts;
  for (const NamedRange& range : request.ranges) MANTA_RETURN_IF_ERROR(cursor_->read(range, request.columns, parts));
  for (Batch& part : parts) {
    if (request.is_nullable) part = nullable(*part);
  }
  return concatenate(parts);
}

BlockAndMeta Reader::read(const ReadRequest& request) {
  const bool is_range = request.first_number >= 0;
  Batch batch = value_or_throw(is_range ? numbers(request.first_number, request.numbers) : read_ranges(request));
  const int64_t rows_in = batch->num_rows();
  return finish(std::move(batch), request.kernels, request.rows_only, rows_in);
}

}  // namespace manta::data

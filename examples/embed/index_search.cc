#include "examples/embed/index_search.h"

#include <arrow/api.h>
#include <arrow/io/file.h>
#include <parquet/arrow/reader.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

namespace embed {
namespace {

namespace fs = std::filesystem;
using manta::Code;
using manta::Result;
using manta::Status;

constexpr int64_t kRowsAtATime = 2048;
constexpr size_t kSnippetBytes = 110;

std::string text_at(const std::shared_ptr<arrow::Array>& column, int64_t row) {
  if (column == nullptr || column->IsNull(row)) return "";
  if (column->type_id() == arrow::Type::STRING) return static_cast<const arrow::StringArray&>(*column).GetString(row);
  if (column->type_id() == arrow::Type::LARGE_STRING)
    return static_cast<const arrow::LargeStringArray&>(*column).GetString(row);
  return "";
}

/// At most kSnippetBytes, cut between characters.
std::string snippet_of(std::string text) {
  if (text.size() <= kSnippetBytes) return text;
  size_t end = kSnippetBytes;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;
  return text.substr(0, end) + "...";
}

/// Keeps the best so far. A row becomes a Hit, with its texts, only when it is among them.
class Best {
 public:
  Best(std::span<const float> question, size_t top) : question_(question), top_(top) {
    for (const float x : question) norm_ += x * x;
    norm_ = std::sqrt(norm_);
  }

  Status add(const arrow::RecordBatch& rows, const std::string& file) {
    const auto column = rows.GetColumnByName("embedding");
    if (column == nullptr)
      return {Code::kInvalid, file + ": has no column 'embedding'; an index is what manta-embed writes"};
    if (column->type_id() != arrow::Type::FIXED_SIZE_LIST) return wrong_type(*column, file);
    const auto& lists = static_cast<const arrow::FixedSizeListArray&>(*column);
    if (lists.values()->type_id() != arrow::Type::FLOAT) return wrong_type(*column, file);
    const auto dimension = static_cast<size_t>(lists.value_length(0));
    if (dimension != question_.size())
      return {Code::kInvalid, file + ": embeddings have " + std::to_string(dimension) + " numbers, the model makes " +
                                  std::to_string(question_.size()) + "; was the index made with another model?"};
    const float* const numbers = static_cast<const arrow::FloatArray&>(*lists.values()).raw_values();
    for (int64_t row = 0; row < rows.num_rows(); ++row, ++row_number_) {
      if (lists.IsNull(row)) continue;
      const float score = cosine(numbers + lists.value_offset(row));
      if (hits_.size() < top_ || score > hits_.back().score) insert(score, rows, row);
    }
    return {};
  }

  std::vector<Hit> take() { return std::move(hits_); }

 private:
  static Status wrong_type(const arrow::Array& column, const std::string& file) {
    return {Code::kInvalid,
            file + ": the column 'embedding' holds " + column.type()->ToString() + ", not lists of float32 of one size"};
  }

  float cosine(const float* row) const {
    float product = 0;
    float square = 0;
    for (size_t i = 0; i < question_.size(); ++i) {
      product += row[i] * question_[i];
      square += row[i] * row[i];
    }
    const float length = norm_ * std::sqrt(square);
    return length > 0 ? product / length : 0;
  }

  void insert(float score, const arrow::RecordBatch& rows, int64_t row) {
    Hit hit{score, text_at(rows.GetColumnByName("page"), row), snippet_of(text_at(rows.GetColumnByName("text"), row))};
    const std::string heading = text_at(rows.GetColumnByName("heading"), row);
    if (!heading.empty()) hit.place += (hit.place.empty() ? "" : "  ") + heading;
    if (hit.place.empty()) hit.place = "row " + std::to_string(row_number_);
    const auto after = std::ranges::upper_bound(hits_, score, std::ranges::greater(), &Hit::score);
    hits_.insert(after, std::move(hit));
    if (hits_.size() > top_) hits_.pop_back();
  }

  std::span<const float> question_;
  size_t top_;
  float norm_ = 0;
  int64_t row_number_ = 0;
  std::vector<Hit> hits_;  // by falling score
};

arrow::Result<std::unique_ptr<parquet::arrow::FileReader>> open(const std::string& path) {
  ARROW_ASSIGN_OR_RAISE(auto file, arrow::io::ReadableFile::Open(path));
  parquet::ReaderProperties properties;
  properties.enable_buffered_stream();
  parquet::arrow::FileReaderBuilder builder;
  ARROW_RETURN_NOT_OK(builder.Open(std::move(file), properties));
  parquet::ArrowReaderProperties arrow_properties;
  arrow_properties.set_batch_size(kRowsAtATime);
  arrow_properties.set_pre_buffer(false);
  builder.properties(arrow_properties);
  return builder.Build();
}

Status scan(const std::string& path, Best& best) {
  auto reader = open(path);
  if (!reader.ok()) return {Code::kInvalid, path + ": " + reader.status().message()};
  auto batches = (*reader)->GetRecordBatchReader();
  if (!batches.ok()) return {Code::kInvalid, path + ": " + batches.status().message()};
  while (true) {
    std::shared_ptr<arrow::RecordBatch> rows;
    const arrow::Status read = (*batches)->ReadNext(&rows);
    if (!read.ok()) return {Code::kInvalid, path + ": " + read.message()};
    if (rows == nullptr) return {};
    const Status added = best.add(*rows, path);
    if (!added.ok()) return added;
  }
}

}  // namespace

Result<std::vector<Hit>> nearest_rows(const std::string& folder, std::span<const float> question, size_t top) {
  std::error_code error;
  std::vector<std::string> files;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, error)) {
    if (entry.path().extension() == ".parquet") files.push_back(entry.path().string());
  }
  if (error) return Status(Code::kNotFound, folder + ": " + error.message());
  if (files.empty()) return Status(Code::kNotFound, folder + ": no *.parquet in it");
  std::ranges::sort(files);
  Best best(question, top);
  for (const std::string& file : files) {
    const Status scanned = scan(file, best);
    if (!scanned.ok()) return scanned;
  }
  return best.take();
}

}  // namespace embed

// Tables for the tests: every kind of column that has to survive the way through blocks and files.
#pragma once

#include <manta/detail/data_blocks.h>

#include <arrow/api.h>

#include <functional>

namespace manta::data {

/// The value of an arrow::Result in a test; fails loudly.
template <typename T>
T must(arrow::Result<T> result) {
  if (!result.ok()) throw_arrow(result.status());
  return std::move(result).ValueUnsafe();
}
inline void must(const arrow::Status& status) {
  if (!status.ok()) throw_arrow(status);
}

inline std::shared_ptr<arrow::Array> int_column(int64_t first, int64_t rows) {
  arrow::Int64Builder builder;
  for (int64_t i = first; i < first + rows; ++i) must(builder.Append(i));
  return must(builder.Finish());
}
/// Row i is "row <i>" with a tail that varies in length; every seventh is null.
inline std::shared_ptr<arrow::Array> text_column(int64_t first, int64_t rows) {
  arrow::StringBuilder builder;
  for (int64_t i = first; i < first + rows; ++i) {
    must(i % 7 == 3 ? builder.AppendNull()
                    : builder.Append("row " + std::to_string(i) + std::string(static_cast<size_t>(i % 11), 'x')));
  }
  return must(builder.Finish());
}
/// Row i is [i, i+1, ...] of i % 4 elements.
inline std::shared_ptr<arrow::Array> list_column(int64_t first, int64_t rows) {
  auto values = std::make_shared<arrow::FloatBuilder>();
  arrow::ListBuilder builder(arrow::default_memory_pool(), values);
  for (int64_t i = first; i < first + rows; ++i) {
    must(builder.Append());
    for (int64_t j = 0; j < i % 4; ++j) must(values->Append(static_cast<float>(i + j)));
  }
  return must(builder.Finish());
}
inline std::shared_ptr<arrow::Array> vector_column(int64_t first, int64_t rows, int width = 4) {
  auto values = std::make_shared<arrow::FloatBuilder>();
  arrow::FixedSizeListBuilder builder(arrow::default_memory_pool(), values, width);
  for (int64_t i = first; i < first + rows; ++i) {
    must(builder.Append());
    for (int j = 0; j < width; ++j) must(values->Append(static_cast<float>(i * width + j)));
  }
  return must(builder.Finish());
}
inline std::shared_ptr<arrow::Array> dictionary_column(int64_t first, int64_t rows) {
  arrow::StringDictionaryBuilder builder;
  const char* words[] = {"red", "green", "blue"};
  for (int64_t i = first; i < first + rows; ++i) must(i % 5 == 0 ? builder.AppendNull() : builder.Append(words[i % 3]));
  return must(builder.Finish());
}
inline std::shared_ptr<arrow::Array> bool_column(int64_t first, int64_t rows) {
  arrow::BooleanBuilder builder;
  for (int64_t i = first; i < first + rows; ++i) must(i % 6 == 1 ? builder.AppendNull() : builder.Append(i % 3 == 0));
  return must(builder.Finish());
}

/// id, text, floats (list), vector (fixed-size list), colour (dictionary), flag, pair (struct) of rows first and on.
inline Batch varied_batch(int64_t first, int64_t rows) {
  const auto ids = int_column(first, rows);
  const auto pair = must(arrow::StructArray::Make({ids, text_column(first, rows)}, std::vector<std::string>{"a", "b"}));
  const std::vector<std::shared_ptr<arrow::Array>> columns = {ids,
                                                              text_column(first, rows),
                                                              list_column(first, rows),
                                                              vector_column(first, rows),
                                                              dictionary_column(first, rows),
                                                              bool_column(first, rows),
                                                              pair};
  const char* names[] = {"id", "text", "floats", "vector", "colour", "flag", "pair"};
  arrow::FieldVector fields;
  for (size_t i = 0; i < columns.size(); ++i) fields.push_back(arrow::field(names[i], columns[i]->type()));
  return arrow::RecordBatch::Make(arrow::schema(fields), rows, columns);
}

/// id and text only.
inline Batch plain_batch(int64_t first, int64_t rows) { return must(varied_batch(first, rows)->SelectColumns({0, 1})); }

inline std::shared_ptr<arrow::Table> table_of(const std::vector<Batch>& batches) {
  return must(arrow::Table::FromRecordBatches(batches));
}

}  // namespace manta::data

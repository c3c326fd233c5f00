#include "examples/embed/embedder.h"

#include <arrow/api.h>

namespace embed {
namespace {

using manta::Code;
using manta::Error;

bool is_text(const arrow::DataType& type) {
  return type.id() == arrow::Type::STRING || type.id() == arrow::Type::LARGE_STRING;
}

template <typename Array>
void views_of(const arrow::Array& column, std::vector<std::string_view>& out) {
  const auto& strings = static_cast<const Array&>(column);
  for (int64_t row = 0; row < strings.length(); ++row)
    out.push_back(strings.IsNull(row) ? std::string_view() : strings.GetView(row));
}

template <typename T>
T value_of(arrow::Result<T> result) {
  if (!result.ok())
    throw Error({result.status().IsOutOfMemory() ? Code::kFull : Code::kInternal, result.status().ToString()});
  return std::move(result).ValueUnsafe();
}

}  // namespace

manta::TextEncoderOptions encoder_options(const EmbedSettings& settings) {
  manta::TextEncoderOptions options;
  options.dtype = settings.bfloat16 ? manta::Dtype::kBFloat16 : manta::Dtype::kFloat32;
  options.max_length = static_cast<size_t>(settings.max_length);
  options.device = settings.is_on_gpu ? "cuda" : "cpu";
  options.threads = 1;  // one process a core beats threads inside one
  return options;
}

std::string objection_to(const arrow::Schema& schema, const std::string& column) {
  const auto field = schema.GetFieldByName(column);
  if (field == nullptr) {
    std::string names;
    for (const auto& other : schema.fields()) names += (names.empty() ? "" : ", ") + other->name();
    return "there is no column '" + column + "'; there are: " + names;
  }
  if (!is_text(*field->type())) return "the column '" + column + "' is not text, its type is " + field->type()->ToString();
  if (schema.GetFieldIndex(kEmbeddingColumn) >= 0)
    return std::string("there is a column '") + kEmbeddingColumn + "' already";
  return "";
}

Embedder::Embedder(EmbedSettings settings)
    : settings_(std::move(settings)),
      encoder_(manta::value_or_throw(manta::TextEncoder::load(settings_.model, encoder_options(settings_)))) {}

manta::Batch Embedder::operator()(manta::Batch rows) {
  const std::string objection = objection_to(*rows->schema(), settings_.column);
  if (!objection.empty()) throw Error({Code::kInvalid, objection});
  const std::shared_ptr<arrow::Array> column = rows->GetColumnByName(settings_.column);
  if (!settings_.nulls_are_empty && column->null_count() > 0)
    throw Error({Code::kInvalid, std::to_string(column->null_count()) + " of " + std::to_string(column->length()) +
                                     " texts in the column '" + settings_.column +
                                     "' are null; --nulls empty embeds such as empty texts"});
  texts_.clear();
  if (column->type_id() == arrow::Type::STRING) {
    views_of<arrow::StringArray>(*column, texts_);
  } else {
    views_of<arrow::LargeStringArray>(*column, texts_);
  }

  // The encoder writes straight into the column.
  const auto dimension = static_cast<int64_t>(encoder_.dimension());
  std::shared_ptr<arrow::Buffer> numbers =
      value_of(arrow::AllocateBuffer(rows->num_rows() * dimension * static_cast<int64_t>(sizeof(float))));
  throw_if_error(encoder_.encode(texts_, reinterpret_cast<float*>(numbers->mutable_data())));
  const auto values = std::make_shared<arrow::FloatArray>(rows->num_rows() * dimension, std::move(numbers));
  const auto type = arrow::fixed_size_list(arrow::field("item", arrow::float32(), false), static_cast<int32_t>(dimension));
  const auto embeddings = std::make_shared<arrow::FixedSizeListArray>(type, rows->num_rows(), values);
  return value_of(rows->AddColumn(rows->num_columns(), arrow::field(kEmbeddingColumn, type, false), embeddings));
}

}  // namespace embed

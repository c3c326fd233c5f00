// Codec<Batch> and Codec<Table>. Columns travel as Arrow's own array data, walked by hand: the IPC reader wants one
// contiguous body, and here each buffer is a region of its own in shared memory.
#include <manta/detail/data_blocks.h>

#include "common/check.h"
#include "data/arrow_status.h"

#include <arrow/array/concatenate.h>
#include <arrow/array/data.h>
#include <arrow/array/util.h>
#include <arrow/array/validate.h>
#include <arrow/buffer.h>
#include <arrow/extension_type.h>
#include <arrow/io/memory.h>
#include <arrow/ipc/dictionary.h>
#include <arrow/ipc/reader.h>
#include <arrow/ipc/writer.h>
#include <arrow/table.h>
#include <arrow/util/byte_size.h>

namespace manta {
namespace {

using arrow::ArrayData;
constexpr size_t kLeastAlignment = 8;               // what Arrow's kernels take for granted
alignas(64) constexpr std::byte kNothing[64] = {};  // Arrow tells an empty buffer from none by its address
constexpr size_t kMaxBuffers = 60'000;              // a blob counts them in 16 bits

/// Arrow's view of a Buffer, which keeps it (and the object it is a part of) alive.
class HeldBuffer final : public arrow::Buffer {
 public:
  explicit HeldBuffer(manta::Buffer held)
      : arrow::Buffer(reinterpret_cast<const uint8_t*>(held.data()), static_cast<int64_t>(held.size())),
        held_(std::move(held)) {}

 private:
  manta::Buffer held_;
};

size_t count_buffers(const ArrayData& data) {
  size_t count = data.buffers.size();
  for (const auto& child : data.child_data) count += count_buffers(*child);
  return data.dictionary ? count + count_buffers(*data.dictionary) : count;
}

/// A slice holds the buffers of the whole; what travels is its own rows only.
std::shared_ptr<ArrayData> compact(const std::shared_ptr<ArrayData>& data) {
  const auto own = arrow::util::ReferencedBufferSize(*data);
  const int64_t slack = 4096 + (own.ok() ? *own / 16 : 0);
  if (own.ok() && data->offset == 0 && arrow::util::TotalBufferSize(*data) <= *own + slack) return data;
  auto copied = arrow::Concatenate({arrow::MakeArray(data)});
  return copied.ok() ? (*copied)->data() : data;
}

void encode_data(Encoder& out, const ArrayData& data) {
  out.integer(data.length);
  out.integer(data.null_count.load());
  out.integer(data.offset);
  out.array_header(data.buffers.size());
  for (const auto& buffer : data.buffers) {
    if (!buffer) {
      out.nil();
    } else {
      if (!buffer->is_cpu())
        throw Error(Status(Code::kInvalid, "a column on a device does not travel; copy it to main memory"));
      out.buffer({reinterpret_cast<const std::byte*>(buffer->data()), static_cast<size_t>(buffer->size())}, buffer);
    }
  }
  out.array_header(data.child_data.size());
  for (const auto& child : data.child_data) encode_data(out, *child);
  out.boolean(data.dictionary != nullptr);
  if (data.dictionary) encode_data(out, *data.dictionary);
}

std::shared_ptr<arrow::Buffer> decode_buffer(Decoder& in) {
  if (in.next_is_nil()) return nullptr;
  Buffer bytes = in.buffer();
  if (bytes.size() == 0) return std::make_shared<arrow::Buffer>(reinterpret_cast<const uint8_t*>(kNothing), 0);
  if (reinterpret_cast<uintptr_t>(bytes.data()) % kLeastAlignment != 0) bytes = Buffer::copy_of(bytes.bytes());
  return std::make_shared<HeldBuffer>(std::move(bytes));
}

/// Arrow's own check lets some impossible offsets pass and then counts the bits there.
bool validity_fits(const ArrayData& data) {
  constexpr int64_t kMost = int64_t{1} << 48;
  if (data.length < 0 || data.offset < 0 || data.length > kMost || data.offset > kMost) return false;
  return data.buffers.empty() || !data.buffers[0] || data.buffers[0]->size() >= (data.offset + data.length + 7) / 8;
}

std::shared_ptr<ArrayData> decode_data(Decoder& in, const std::shared_ptr<arrow::DataType>& type) {
  auto data = std::make_shared<ArrayData>();
  data->type = type;
  if (!in.enter()) return data;
  const arrow::DataType& physical =
      type->id() == arrow::Type::EXTENSION ? *static_cast<const arrow::ExtensionType&>(*type).storage_type() : *type;
  data->length = in.integer();
  data->null_count = in.integer();
  data->offset = in.integer();
  const size_t buffers = in.array_header();
  for (size_t i = 0; i < buffers && in.ok(); ++i) data->buffers.push_back(decode_buffer(in));
  if (in.ok() && !validity_fits(*data)) in.fail("a column's offset and length are beyond its buffers");
  const size_t children = in.array_header();
  const bool is_dictionary = physical.id() == arrow::Type::DICTIONARY;
  const auto expected = static_cast<size_t>(is_dictionary ? 0 : physical.num_fields());
  if (in.ok() && children != expected) in.fail("a column has another number of children");
  for (size_t i = 0; i < children && in.ok(); ++i) {
    data->child_data.push_back(decode_data(in, physical.field(static_cast<int>(i))->type()));
  }
  if (in.boolean() != is_dictionary && in.ok()) in.fail("a dictionary is missing, or there where none belongs");
  if (in.ok() && is_dictionary) {
    data->dictionary = decode_data(in, static_cast<const arrow::DictionaryType&>(physical).value_type());
  }
  in.leave();
  return data;
}

void encode_schema(Encoder& out, const arrow::Schema& schema) {
  auto bytes = arrow::ipc::SerializeSchema(schema);
  if (!bytes.ok()) data::throw_arrow(bytes.status());
  out.binary((*bytes)->data(), static_cast<size_t>((*bytes)->size()));
}

std::shared_ptr<arrow::Schema> decode_schema(Decoder& in) {
  const auto bytes = in.binary();
  if (!in.ok()) return nullptr;
  // A copy, since flatbuffers want alignment that in-band bytes do not have.
  auto stream = arrow::io::BufferReader::FromString(std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
  arrow::ipc::DictionaryMemo memo;
  auto schema = arrow::ipc::ReadSchema(stream.get(), &memo);
  if (schema.ok()) return *schema;
  in.fail("a schema: " + schema.status().message());
  return nullptr;
}

void encode_columns(Encoder& out, const arrow::RecordBatch& batch) {
  out.integer(batch.num_rows());
  size_t buffers = 0;
  for (int i = 0; i < batch.num_columns(); ++i) {
    const auto column = compact(batch.column_data(i));
    buffers += count_buffers(*column);
    if (buffers > kMaxBuffers)
      throw Error(Status(Code::kInvalid, "a batch of so many columns does not travel; select fewer"));
    encode_data(out, *column);
  }
}

Batch decode_columns(Decoder& in, const std::shared_ptr<arrow::Schema>& schema) {
  const int64_t rows = in.integer();
  std::vector<std::shared_ptr<ArrayData>> columns;
  for (int i = 0; in.ok() && i < schema->num_fields(); ++i) {
    columns.push_back(decode_data(in, schema->field(i)->type()));
    if (!in.ok()) break;
    if (columns.back()->length != rows) in.fail("a column has another length than its batch");
    if (const auto valid = arrow::internal::ValidateArray(*columns.back()); in.ok() && !valid.ok()) {
      in.fail("column '" + schema->field(i)->name() + "': " + valid.message());
    }
  }
  if (in.ok() && rows < 0) in.fail("a batch has a negative length");
  return in.ok() ? arrow::RecordBatch::Make(schema, rows, std::move(columns)) : nullptr;
}

}  // namespace

void Codec<Batch>::encode(Encoder& out, const Batch& value) {
  out.boolean(value != nullptr);
  if (!value) return;
  encode_schema(out, *value->schema());
  encode_columns(out, *value);
}

Batch Codec<Batch>::decode(Decoder& in) {
  if (!in.boolean()) return nullptr;
  const auto schema = decode_schema(in);
  return schema ? decode_columns(in, schema) : nullptr;
}

void Codec<std::shared_ptr<arrow::Table>>::encode(Encoder& out, const std::shared_ptr<arrow::Table>& value) {
  out.boolean(value != nullptr);
  if (!value) return;
  encode_schema(out, *value->schema());
  std::vector<Batch> batches;
  arrow::TableBatchReader reader(*value);
  auto all = reader.ToRecordBatches();
  if (!all.ok()) data::throw_arrow(all.status());
  out.array_header(all->size());
  for (const Batch& batch : *all) encode_columns(out, *batch);
}

std::shared_ptr<arrow::Table> Codec<std::shared_ptr<arrow::Table>>::decode(Decoder& in) {
  if (!in.boolean()) return nullptr;
  const auto schema = decode_schema(in);
  if (!schema) return nullptr;
  std::vector<Batch> batches;
  const size_t count = in.array_header();
  for (size_t i = 0; i < count && in.ok(); ++i) batches.push_back(decode_columns(in, schema));
  if (!in.ok()) return nullptr;
  auto table = arrow::Table::FromRecordBatches(schema, std::move(batches));
  if (table.ok()) return *table;
  in.fail(table.status().message());
  return nullptr;
}

}  // namespace manta

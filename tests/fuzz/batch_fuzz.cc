// Arrow record batches out of a blob.
#include <manta/data.h>

#include <arrow/api.h>

#include "common/check.h"
#include "tests/fuzz/fuzz.h"

namespace manta::fuzz {
namespace {

template <typename Builder, typename T>
std::shared_ptr<arrow::Array> column(const std::vector<T>& values) {
  Builder builder;
  for (const T& value : values) MANTA_CHECK(builder.Append(value).ok());
  MANTA_CHECK(builder.AppendNull().ok());
  return builder.Finish().ValueOrDie();
}

std::string blob_of(const Batch& batch) {
  Encoder out;
  encode(out, batch);
  return out.to_blob();
}

}  // namespace

std::vector<std::string> seeds() {
  const auto numbers = column<arrow::Int64Builder, int64_t>({1, 2, 3});
  const auto texts = column<arrow::StringBuilder, std::string>({"one", "two", "three"});
  const auto schema = arrow::schema({arrow::field("n", arrow::int64()), arrow::field("t", arrow::utf8())});
  const Batch batch = arrow::RecordBatch::Make(schema, 4, {numbers, texts});
  return {blob_of(batch), blob_of(batch->Slice(1, 2)), blob_of(batch->Slice(4)), blob_of(nullptr)};
}

}  // namespace manta::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // Buffers are looked at in place where they lie, so an owner is given, as for shared memory.
  const auto owned = std::make_shared<std::vector<uint8_t>>(data, data + size);
  manta::Decoder in(std::as_bytes(std::span(*owned)), owned);
  const manta::Batch batch = manta::decode<manta::Batch>(in);
  if (!in.ok() || batch == nullptr) return 0;
  MANTA_CHECK(batch->Validate().ok());
  // What it says of itself can be read: a full check reads every offset and length.
  (void)batch->ValidateFull().ok();
  return 0;
}

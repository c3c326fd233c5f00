#include "data/test_tables.h"

#include <gtest/gtest.h>

#include <random>

namespace manta::data {
namespace {

template <typename T>
Result<T> decode_blob(const std::string& blob) {
  Decoder in(std::as_bytes(std::span(blob)));
  T value = Codec<T>::decode(in);
  if (!in.ok()) return in.status();
  return value;
}
template <typename T>
std::string blob_of(const T& value) {
  Encoder out;
  Codec<T>::encode(out, value);
  return out.to_blob();
}
Batch there_and_back(const Batch& batch) { return value_or_throw(decode_blob<Batch>(blob_of(batch))); }

TEST(ArrowCodec, EveryKindOfColumnComesBack) {
  for (const int64_t rows : {0, 1, 7, 5000}) {
    const Batch batch = varied_batch(3, rows);
    const Batch back = there_and_back(batch);
    must(back->ValidateFull());
    EXPECT_TRUE(back->Equals(*batch, /*check_metadata=*/true)) << rows;
  }
  EXPECT_EQ(there_and_back(nullptr), nullptr);
}

TEST(ArrowCodec, ASliceTakesItsOwnRowsOnly) {
  const Batch batch = varied_batch(0, 20'000);
  for (const auto& [offset, length] : {std::pair<int64_t, int64_t>{0, 10}, {13, 100}, {19'990, 10}, {777, 0}}) {
    const Batch slice = batch->Slice(offset, length);
    const std::string blob = blob_of(slice);
    EXPECT_LT(blob.size(), 40'000u) << offset;
    const Batch back = value_or_throw(decode_blob<Batch>(blob));
    must(back->ValidateFull());
    EXPECT_TRUE(back->Equals(*slice)) << offset;
  }
}

TEST(ArrowCodec, ColumnsAreViewsOfWhatTheyWereDecodedFrom) {
  const Batch batch = plain_batch(0, 10'000);
  Encoder out;
  Codec<Batch>::encode(out, batch);
  auto memory = std::shared_ptr<std::byte>(static_cast<std::byte*>(::operator new (out.blob_size(), std::align_val_t{64})),
                                           [](std::byte* p) { ::operator delete (p, std::align_val_t{64}); });
  const std::span<std::byte> blob(memory.get(), out.blob_size());
  out.write_blob(blob);
  const std::weak_ptr<std::byte> watch = memory;
  Decoder in(blob, std::move(memory));
  Batch back = Codec<Batch>::decode(in);
  in = Decoder({});
  ASSERT_TRUE(back);
  const auto* ids = reinterpret_cast<const std::byte*>(back->column_data(0)->buffers[1]->data());
  EXPECT_TRUE(ids >= blob.data() && ids < blob.data() + blob.size());
  const auto column = back->column(1);
  back = nullptr;
  EXPECT_FALSE(watch.expired()) << "a column alone keeps the object";
  EXPECT_TRUE(column->Equals(batch->column(1)));
}

TEST(ArrowCodec, TablesTravelAsTheirBatches) {
  const auto table = table_of({varied_batch(0, 10), varied_batch(10, 0), varied_batch(10, 90)});
  const auto back = value_or_throw(decode_blob<std::shared_ptr<arrow::Table>>(blob_of(table)));
  EXPECT_TRUE(back->Equals(*table));
}

TEST(ArrowCodec, DamagedBytesAreRefusedOrHarmless) {
  const std::string whole = blob_of(varied_batch(0, 50));
  std::mt19937 random(11);
  int refused = 0;
  for (int i = 0; i < 20'000; ++i) {
    std::string blob = whole;
    if (i % 3 == 0) {
      blob.resize(random() % blob.size());
    } else {
      // Mostly the structure, which stands at the front.
      const size_t reach = i % 3 == 1 ? 1500 : blob.size();
      for (unsigned n = 1 + random() % 4; n > 0; --n) blob[random() % reach] = static_cast<char>(random());
    }
    const auto back = decode_blob<Batch>(blob);
    if (!back.ok()) {
      ++refused;
    } else if (*back) {
      (void)(*back)->ValidateFull().ok();  // must not over-read either
    }
  }
  EXPECT_GT(refused, 5000);
}

}  // namespace
}  // namespace manta::data

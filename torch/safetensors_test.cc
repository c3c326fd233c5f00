#include "torch/safetensors.h"

#include <gmock/gmock.h>

#include <cstring>
#include <random>

#include "torch/test_support.h"

namespace manta::models {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

std::string file_of(const std::string& header, size_t data_bytes) {
  const uint64_t size = header.size();
  std::string out(reinterpret_cast<const char*>(&size), sizeof size);
  out += header;
  for (size_t i = 0; i < data_bytes; ++i) out += static_cast<char>(i);
  return out;
}

json tensor(const std::string& dtype, const json& shape, uint64_t begin, uint64_t end) {
  return {{"dtype", dtype}, {"shape", shape}, {"data_offsets", {begin, end}}};
}

Status open(const std::string& bytes) {
  const TestFolder folder;
  write_text(folder.path() / "model.safetensors", bytes);
  const Status status = SafeTensors::open(folder.path() / "model.safetensors").status();
  EXPECT_TRUE(status.ok() ||
              status.message().find("model.safetensors: ") != std::string::npos);  // every error names the file
  return status;
}

std::string refusal(const json& header, size_t data_bytes) {
  const Status status = open(file_of(header.dump(), data_bytes));
  EXPECT_EQ(status.code(), Code::kInvalid) << header.dump();
  return status.message();
}

TEST(SafeTensors, GivesViewsOfTheMappedFile) {
  const TestFolder folder;
  const json header = {{"__metadata__", {{"format", "pt"}}},
                       {"b", tensor("F32", {2, 3}, 0, 24)},
                       {"a", tensor("U8", json::array(), 24, 25)},
                       {"none", tensor("I64", {0, 7}, 25, 25)}};
  write_text(folder.path() / "m", file_of(header.dump(), 25));
  const auto opened = SafeTensors::open(folder.path() / "m");
  ASSERT_TRUE(opened.ok()) << opened.status().to_string();
  EXPECT_EQ(opened->tensors().size(), 3u);
  const TensorView* b = opened->find("b");
  ASSERT_NE(b, nullptr);
  EXPECT_EQ(b->dtype, Dtype::kFloat32);
  EXPECT_EQ(b->shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(std::memcmp(b->data, "\0\1\2\3\4\5\6\7", 8), 0);
  EXPECT_EQ(*static_cast<const uint8_t*>(opened->find("a")->data), 24);
  EXPECT_EQ(opened->find("c"), nullptr);
}

TEST(SafeTensors, RefusesFilesThatAreNone) {
  EXPECT_EQ(SafeTensors::open("/nowhere/model.safetensors").status().code(), Code::kNotFound);
  EXPECT_THAT(SafeTensors::open("/").status().message(), HasSubstr("no regular file"));
  EXPECT_THAT(open("").message(), HasSubstr("is empty"));
  EXPECT_THAT(open("1234567").message(), HasSubstr("shorter than a safetensors header"));
  EXPECT_THAT(open(std::string(8, '\xff')).message(), HasSubstr("is no safetensors file"));
  EXPECT_THAT(open(file_of(std::string(100, ' '), 0).substr(0, 50)).message(), HasSubstr("is truncated"));
  EXPECT_THAT(open(file_of("{nonsense", 0)).message(), HasSubstr("header: is not valid JSON"));
  EXPECT_THAT(open(file_of("[1]", 0)).message(), HasSubstr("header: is no JSON object"));
  EXPECT_THAT(open(file_of(R"({"a":1,"a":1})", 0)).message(), HasSubstr("the key 'a' stands twice"));
  EXPECT_THAT(open(file_of(std::string(1'000'000, '['), 0)).message(), HasSubstr("is not valid JSON"));
}

TEST(SafeTensors, RefusesTensorsThatDoNotFit) {
  EXPECT_THAT(refusal({{"a", 1}}, 0), HasSubstr("tensor 'a': is no JSON object"));
  EXPECT_THAT(refusal({{"a", tensor("F8", {1}, 0, 1)}}, 1), HasSubstr("tensor 'a': the dtype 'F8' is not supported"));
  EXPECT_THAT(refusal({{"a", tensor("F32", {1}, 0, 8)}}, 8), HasSubstr("has 8 bytes of data, its shape and dtype need 4"));
  EXPECT_THAT(refusal({{"a", tensor("F32", {4}, 0, 16)}}, 8),
              HasSubstr("does not lie in the file, which has 8; is it truncated?"));
  EXPECT_THAT(refusal({{"a", tensor("U8", {1}, 1, 0)}}, 8), HasSubstr("does not lie in the file"));
  EXPECT_THAT(refusal({{"a", tensor("U8", {-1}, 0, 1)}}, 1), HasSubstr("'shape' holds something that is no size"));
  EXPECT_THAT(refusal({{"a", tensor("U8", {1.5}, 0, 1)}}, 1), HasSubstr("no size"));
  EXPECT_THAT(refusal({{"a", tensor("U8", "x", 0, 1)}}, 1), HasSubstr("no list of up to 8 sizes"));
  EXPECT_THAT(refusal({{"a", tensor("U8", json(std::vector<int>(9, 1)), 0, 1)}}, 1), HasSubstr("no list of up to 8 sizes"));
  const uint64_t huge = uint64_t{1} << 40;
  EXPECT_THAT(refusal({{"a", tensor("F64", {huge, huge}, 0, 1)}}, 1), HasSubstr("the shape is too large"));
  EXPECT_THAT(refusal({{"a", tensor("U8", {0, huge, huge}, 0, 1)}}, 1), HasSubstr("has 1 bytes of data"));
  json missing = tensor("U8", {1}, 0, 1);
  missing.erase("data_offsets");
  EXPECT_THAT(refusal({{"a", missing}}, 1), HasSubstr("'data_offsets' are not two offsets"));
}

TEST(SafeTensors, RefusesOverlapsGapsAndRests) {
  EXPECT_THAT(refusal({{"a", tensor("U8", {4}, 0, 4)}, {"b", tensor("U8", {4}, 2, 6)}}, 6),
              HasSubstr("tensor 'b' overlaps another"));
  EXPECT_THAT(refusal({{"a", tensor("U8", {2}, 0, 2)}, {"b", tensor("U8", {2}, 4, 6)}}, 6),
              HasSubstr("tensor 'b' leaves a gap"));
  EXPECT_THAT(refusal({{"a", tensor("U8", {2}, 0, 2)}}, 6), HasSubstr("has 4 bytes that belong to no tensor"));
}

// Any byte changed and any length cut: an error, or a file whose tensors lie inside it.
TEST(SafeTensors, SurvivesDamage) {
  const json header = {{"a", tensor("F32", {2, 3}, 0, 24)}, {"b", tensor("I64", {2}, 24, 40)}};
  const std::string good = file_of(header.dump(), 40);
  const TestFolder folder;
  const fs::path path = folder.path() / "m";
  for (size_t cut = 0; cut < good.size(); ++cut) {
    write_text(path, good.substr(0, cut));
    EXPECT_FALSE(SafeTensors::open(path).ok()) << cut;
  }
  for (uint32_t seed = 0; seed < 400; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937 random(seed);
    std::string changed = good;
    for (uint32_t i = 0; i <= random() % 3; ++i) changed[random() % (good.size() - 40)] = static_cast<char>(random() % 128);
    write_text(path, changed);
    const auto opened = SafeTensors::open(path);
    if (!opened.ok()) continue;
    size_t bytes = 0;
    for (const auto& [name, view] : opened->tensors()) {
      size_t size = size_bytes_of(view.dtype);
      for (const int64_t n : view.shape) size *= static_cast<size_t>(n);
      bytes += size;
      volatile char sum = 0;
      for (size_t i = 0; i < size; ++i) sum = static_cast<char>(sum + static_cast<const char*>(view.data)[i]);
    }
    EXPECT_EQ(bytes, 40u);
  }
}

}  // namespace
}  // namespace manta::models

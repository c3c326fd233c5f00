#include <gmock/gmock.h>
#include <manta/torch.h>

#include <cmath>
#include <random>

#include "torch/batch_plan.h"
#include "torch/test_support.h"

namespace manta::models {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

std::vector<std::string> texts_of(const std::vector<json>& rows) {
  std::vector<std::string> out;
  for (const json& row : rows) out.push_back(text_of(row));
  return out;
}

std::vector<std::string_view> views(const std::vector<std::string>& texts) { return {texts.begin(), texts.end()}; }

double largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
  EXPECT_EQ(a.size(), b.size());
  double out = 0;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) out = std::max(out, std::abs(double{a[i]} - double{b[i]}));
  return out;
}

double smallest_cosine(const std::vector<float>& a, const std::vector<float>& b, size_t dimension) {
  EXPECT_EQ(a.size(), b.size());
  double out = 1;
  for (size_t row = 0; row + dimension <= std::min(a.size(), b.size()); row += dimension) {
    double ab = 0, aa = 0, bb = 0;
    for (size_t i = row; i < row + dimension; ++i)
      ab += double{a[i]} * b[i], aa += double{a[i]} * a[i], bb += double{b[i]} * b[i];
    out = std::min(out, ab / std::sqrt(aa * bb));
  }
  return out;
}

struct Expected {
  std::vector<std::string> texts = texts_of(read_json_lines(test_data("passages.jsonl")));
  std::vector<float> rows;
  Expected() {
    const std::string bytes = read_text(test_data("embeddings.f32"));
    rows.resize(bytes.size() / sizeof(float));
    std::memcpy(rows.data(), bytes.data(), bytes.size());
  }
};

std::vector<float> encode_all(const std::string& folder, const TextEncoderOptions& options,
                              const std::vector<std::string>& texts) {
  auto encoder = TextEncoder::load(folder, options);
  EXPECT_TRUE(encoder.ok()) << encoder.status().to_string();
  if (!encoder.ok()) return {};
  auto rows = encoder->encode(views(texts));
  EXPECT_TRUE(rows.ok()) << rows.status().to_string();
  return rows.ok() ? *rows : std::vector<float>{};
}

TEST(TextEncoder, EmbedsAsTheReferenceInFloat32) {
  if (!fs::exists(minilm_folder())) GTEST_SKIP() << minilm_folder() << " is not there";
  const Expected expected;
  EXPECT_LT(largest_difference(encode_all(minilm_folder(), {}, expected.texts), expected.rows), 1e-4);
}

TEST(TextEncoder, EmbedsAsTheReferenceInBFloat16) {
  if (!fs::exists(minilm_folder())) GTEST_SKIP() << minilm_folder() << " is not there";
  const Expected expected;
  const auto rows = encode_all(minilm_folder(), {.dtype = Dtype::kBFloat16}, expected.texts);
  EXPECT_GT(smallest_cosine(rows, expected.rows, 384), 0.999);
}

TEST(TextEncoder, BatchesDoNotChangeTheResult) {
  if (!fs::exists(minilm_folder())) GTEST_SKIP() << minilm_folder() << " is not there";
  const Expected expected;
  std::vector<std::string> twice = expected.texts;
  twice.insert(twice.end(), expected.texts.rbegin(), expected.texts.rend());
  const auto whole = encode_all(minilm_folder(), {.batch_tokens = 100'000}, twice);
  EXPECT_LT(largest_difference(encode_all(minilm_folder(), {.batch_tokens = 1}, twice), whole), 1e-5);
  EXPECT_LT(largest_difference(encode_all(minilm_folder(), {.batch_tokens = 300}, twice), whole), 1e-5);
}

// Every pooling, with and without normalisation, on a small model whose files are committed.
TEST(TextEncoder, PoolsAndNormalizesAsTheFolderSays) {
  std::map<std::pair<std::string, bool>, std::vector<json>> variants;
  for (const json& row : read_json_lines(test_data("tiny.jsonl")))
    variants[{row["pooling"], row["normalized"]}].push_back(row);
  ASSERT_EQ(variants.size(), 6u);
  for (const auto& [variant, rows] : variants) {
    SCOPED_TRACE(variant.first + (variant.second ? ", normalized" : ""));
    const TestFolder folder;
    fs::copy(test_data("tiny"), folder.path(), fs::copy_options::recursive);
    const std::string mode = "pooling_mode_" + variant.first + (variant.first == "cls" ? "_token" : "_tokens");
    write_text(folder.path() / "1_Pooling" / "config.json", json{{"word_embedding_dimension", 32}, {mode, true}}.dump());
    json modules = json::parse(read_text(folder.path() / "modules.json"));
    if (!variant.second) modules.erase(2);
    write_text(folder.path() / "modules.json", modules.dump());
    std::vector<float> expected;
    for (const json& row : rows)
      for (const json& number : row["embedding"]) expected.push_back(number.get<float>());
    EXPECT_LT(largest_difference(encode_all(folder.path(), {}, texts_of(rows)), expected), 1e-5);
  }
}

TEST(TextEncoder, KnowsItsShape) {
  auto encoder = TextEncoder::load(test_data("tiny"));
  ASSERT_TRUE(encoder.ok()) << encoder.status().to_string();
  EXPECT_EQ(encoder->dimension(), 32u);
  EXPECT_EQ(encoder->max_length(), 24u);
  EXPECT_TRUE(encoder->encode({})->empty());
  const std::vector<std::string> texts = {"", std::string(10'000, 'a') + " " + std::string(1000, ' ') + "the", "\xff\xfe"};
  EXPECT_EQ(encoder->encode(views(texts))->size(), 96u);
  EXPECT_EQ(encoder->tokens_encoded(), 2u + 4u + 2u);
  auto shorter = TextEncoder::load(test_data("tiny"), {.max_length = 3});
  ASSERT_TRUE(shorter.ok());
  const std::vector<std::string> long_and_cut = {"wait for the child", "wait"};
  const auto rows = *shorter->encode(views(long_and_cut));
  EXPECT_LT(largest_difference({rows.begin(), rows.begin() + 32}, {rows.begin() + 32, rows.end()}), 1e-6);
}

TEST(TextEncoder, RefusesOptionsOutOfRange) {
  const auto refusal = [](const TextEncoderOptions& options) {
    return TextEncoder::load(test_data("tiny"), options).status();
  };
  EXPECT_EQ(refusal({.dtype = Dtype::kInt8}).code(), Code::kInvalid);
  EXPECT_THAT(refusal({.max_length = 41}).message(), HasSubstr("max_length is 41, the model takes from 3 to 40"));
  EXPECT_THAT(refusal({.max_length = 2}).message(), HasSubstr("max_length is 2"));
  EXPECT_EQ(refusal({.threads = 0}).code(), Code::kInvalid);
  EXPECT_THAT(refusal({.device = "gpu"}).message(), HasSubstr("'gpu' is no device: use cpu, cuda or cuda:N"));
  EXPECT_EQ(refusal({.device = "cuda:99"}).code(), Code::kUnavailable);
}

TEST(TextEncoder, AGpuGivesTheSameEmbeddings) {
  const Expected expected;
  const std::string folder = fs::exists(minilm_folder()) ? minilm_folder() : test_data("tiny");
  const auto on_cpu = encode_all(folder, {}, expected.texts);
  auto encoder = TextEncoder::load(folder, {.device = "cuda"});
  if (!encoder.ok()) {
    ASSERT_EQ(encoder.status().code(), Code::kUnavailable) << encoder.status().to_string();
    GTEST_SKIP() << "no GPU here: " << encoder.status().message();
  }
  const auto rows = encoder->encode(views(expected.texts));
  ASSERT_TRUE(rows.ok()) << rows.status().to_string();
  EXPECT_LT(largest_difference(*rows, on_cpu), 1e-3);
  const auto halved = encode_all(folder, {.dtype = Dtype::kBFloat16, .device = "cuda"}, expected.texts);
  EXPECT_GT(smallest_cosine(halved, *rows, encoder->dimension()), 0.999);
}

TEST(BatchPlan, TakesEveryTextOnceAndKeepsTheBound) {
  for (uint32_t seed = 0; seed < 50; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937 random(seed);
    std::vector<uint32_t> lengths(random() % 200);
    for (uint32_t& length : lengths) length = 1 + random() % 300;
    const BatchPlan plan = plan_batches(lengths, 256);
    std::vector<int> seen(lengths.size());
    for (size_t b = 0; b + 1 < plan.batches.size(); ++b) {
      ASSERT_LT(plan.batches[b], plan.batches[b + 1]);
      size_t tokens = 0;
      for (size_t i = plan.batches[b]; i < plan.batches[b + 1]; ++i) {
        ++seen[plan.order[i]];
        tokens += lengths[plan.order[i]];
        ASSERT_TRUE(i == 0 || lengths[plan.order[i - 1]] >= lengths[plan.order[i]]);
      }
      ASSERT_TRUE(tokens <= 256 || plan.batches[b + 1] - plan.batches[b] == 1);
    }
    EXPECT_EQ(std::ranges::count(seen, 1), static_cast<ptrdiff_t>(lengths.size()));
  }
}

}  // namespace
}  // namespace manta::models

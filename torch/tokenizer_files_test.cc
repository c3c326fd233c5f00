#include "torch/tokenizer_files.h"

#include <gmock/gmock.h>

#include "torch/test_support.h"

namespace manta::models {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

json good_tokenizer() {
  return json::parse(R"({
    "added_tokens": [{"id": 2, "content": "[SEP]", "single_word": false, "normalized": false}],
    "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null,
                   "lowercase": true},
    "pre_tokenizer": {"type": "BertPreTokenizer"},
    "post_processor": {
      "type": "TemplateProcessing",
      "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                 {"SpecialToken": {"id": "[SEP]", "type_id": 0}}],
      "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [1], "tokens": ["[CLS]"]},
                         "[SEP]": {"id": "[SEP]", "ids": [2], "tokens": ["[SEP]"]}}},
    "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
              "vocab": {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "a": 3, "##b": 4}}})");
}

Status load_with(const json& tokenizer, const std::string& config = "") {
  const TestFolder folder;
  write_text(folder.path() / "tokenizer.json", tokenizer.dump());
  if (!config.empty()) write_text(folder.path() / "tokenizer_config.json", config);
  return load_tokenizer(folder.path()).status();
}

std::vector<int32_t> encode(const WordPiece& pieces, std::string_view text) {
  std::vector<int32_t> ids;
  pieces.encode(text, 0, ids);
  return ids;
}

TEST(TokenizerFiles, ReadsTokenizerJson) {
  const TestFolder folder;
  write_text(folder.path() / "tokenizer.json", good_tokenizer().dump());
  const auto loaded = load_tokenizer(folder.path());
  ASSERT_TRUE(loaded.ok()) << loaded.status().to_string();
  EXPECT_EQ(encode(loaded->pieces, "Ab [SEP] q"), (std::vector<int32_t>{1, 3, 4, 2, 0, 2}));
  EXPECT_EQ(loaded->model_max_length, 0u);
}

TEST(TokenizerFiles, ReadsVocabTxt) {
  const auto loaded = load_tokenizer(test_data("tiny"));
  ASSERT_TRUE(loaded.ok()) << loaded.status().to_string();
  EXPECT_EQ(loaded->model_max_length, 40u);
  EXPECT_EQ(encode(loaded->pieces, "[MASK]"), (std::vector<int32_t>{2, 4, 3}));
}

TEST(TokenizerFiles, VocabTxtAndTokenizerJsonOfOneModelAgree) {
  if (!fs::exists(minilm_folder())) GTEST_SKIP() << minilm_folder() << " is not there";
  const TestFolder folder;
  fs::copy_file(minilm_folder() / "vocab.txt", folder.path() / "vocab.txt");
  fs::copy_file(minilm_folder() / "tokenizer_config.json", folder.path() / "tokenizer_config.json");
  const auto from_json = load_tokenizer(minilm_folder()), from_text = load_tokenizer(folder.path());
  ASSERT_TRUE(from_json.ok() && from_text.ok());
  for (const json& row : read_json_lines(test_data("tokens.jsonl")))
    EXPECT_EQ(encode(from_text->pieces, text_of(row)), encode(from_json->pieces, text_of(row))) << row.dump().substr(0, 200);
}

TEST(TokenizerFiles, ReadsWindowsLineEnds) {
  const TestFolder folder;
  write_text(folder.path() / "vocab.txt", "[PAD]\r\n[UNK]\r\n[CLS]\r\n[SEP]\r\n[MASK]\r\nword\r\n");
  const auto loaded = load_tokenizer(folder.path());
  ASSERT_TRUE(loaded.ok()) << loaded.status().to_string();
  EXPECT_EQ(encode(loaded->pieces, "Word"), (std::vector<int32_t>{2, 5, 3}));
}

TEST(TokenizerFiles, RefusesWhatItDoesNotDo) {
  json other = good_tokenizer();
  other["model"]["type"] = "BPE";
  EXPECT_THAT(load_with(other).message(), HasSubstr("tokenizer.json: the model is a BPE; only WordPiece is supported"));
  other = good_tokenizer();
  other["normalizer"]["type"] = "NFC";
  EXPECT_THAT(load_with(other).message(), HasSubstr("the normalizer is a NFC; only BertNormalizer"));
  other = good_tokenizer();
  other.erase("pre_tokenizer");
  EXPECT_THAT(load_with(other).message(), HasSubstr("'pre_tokenizer' is missing"));
  other = good_tokenizer();
  other["post_processor"]["type"] = "RobertaProcessing";
  EXPECT_THAT(load_with(other).message(), HasSubstr("RobertaProcessing, which is not supported"));
  EXPECT_THAT(load_with(good_tokenizer(), R"({"do_lower_case": false})").message(),
              HasSubstr("tokenizer_config.json: 'do_lower_case' is false, tokenizer.json says otherwise"));
}

TEST(TokenizerFiles, RefusesBrokenFiles) {
  json other = good_tokenizer();
  other["model"]["vocab"]["a"] = -1;
  EXPECT_THAT(load_with(other).message(), HasSubstr("the id of 'a' is no number"));
  other["model"]["vocab"] = json::array({1});
  EXPECT_THAT(load_with(other).message(), HasSubstr("'vocab' is no object"));
  other = good_tokenizer();
  other["model"]["vocab"].erase("[UNK]");
  EXPECT_THAT(load_with(other).message(), HasSubstr("the unknown token '[UNK]' is not in the vocabulary"));
  other = good_tokenizer();
  other["post_processor"]["special_tokens"].erase("[CLS]");
  EXPECT_THAT(load_with(other).message(), HasSubstr("'[CLS]' is missing"));
  other = good_tokenizer();
  other["added_tokens"] = "x";
  EXPECT_THAT(load_with(other).message(), HasSubstr("'added_tokens' is no list"));

  const TestFolder folder;
  EXPECT_EQ(load_tokenizer(folder.path()).status().code(), Code::kNotFound);
  write_text(folder.path() / "tokenizer.json", good_tokenizer().dump().substr(0, 300));
  EXPECT_THAT(load_tokenizer(folder.path()).status().message(), HasSubstr("tokenizer.json: is not valid JSON"));
  write_text(folder.path() / "tokenizer.json", R"({"model": 1, "model": 2})");
  EXPECT_THAT(load_tokenizer(folder.path()).status().message(), HasSubstr("the key 'model' stands twice"));
  write_text(folder.path() / "tokenizer.json", "[]");
  EXPECT_THAT(load_tokenizer(folder.path()).status().message(), HasSubstr("is no JSON object"));
}

// Any prefix of a good file is an error, and any byte changed is an error or another good file: never a crash.
TEST(TokenizerFiles, SurvivesDamage) {
  const std::string good = good_tokenizer().dump();
  const TestFolder folder;
  for (size_t i = 0; i < good.size(); i += 11) {
    write_text(folder.path() / "tokenizer.json", good.substr(0, i));
    EXPECT_FALSE(load_tokenizer(folder.path()).ok()) << i;
    std::string changed = good;
    changed[i] = static_cast<char>(changed[i] ^ 0x15);
    write_text(folder.path() / "tokenizer.json", changed);
    if (const auto loaded = load_tokenizer(folder.path()); loaded.ok()) encode(loaded->pieces, "ab [SEP] \xff é");
  }
}

}  // namespace
}  // namespace manta::models

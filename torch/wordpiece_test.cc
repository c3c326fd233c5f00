#include "torch/wordpiece.h"

#include "torch/test_support.h"
#include "torch/text_rules.h"
#include "torch/tokenizer_files.h"
#include "torch/utf8.h"

namespace manta::models {
namespace {

using Ids = std::vector<int32_t>;

WordPiece::Vocabulary vocabulary_of(const std::vector<std::string>& words) {
  WordPiece::Vocabulary out;
  for (const std::string& word : words) out.emplace_back(word, static_cast<int32_t>(out.size()));
  return out;
}

Ids encode(const WordPiece& pieces, std::string_view text, size_t max_length = 0) {
  Ids ids;
  pieces.encode(text, max_length, ids);
  return ids;
}

// 0 [UNK]  1 [CLS]  2 [SEP]  3 un  4 ##aff  5 ##able  6 a  7 ##f  8 !  9 é  10 日  11 new york  12 ##é
WordPiece small(WordPieceRules rules = {}) {
  rules.prefix_ids = {1};
  rules.suffix_ids = {2};
  return *WordPiece::make(
      vocabulary_of({"[UNK]", "[CLS]", "[SEP]", "un", "##aff", "##able", "a", "##f", "!", "é", "日", "new york", "##é"}),
      rules);
}

TEST(WordPiece, TakesTheLongestPieceEachTime) {
  EXPECT_EQ(encode(small(), "UNaffable a!"), (Ids{1, 3, 4, 5, 6, 8, 2}));
  EXPECT_EQ(encode(small(), "aff"), (Ids{1, 6, 7, 7, 2}));
  EXPECT_EQ(encode(small(), "affx a"), (Ids{1, 0, 6, 2}));  // one piece that is missing makes the word unknown
}

TEST(WordPiece, CutsBeforeTheSuffix) {
  EXPECT_EQ(encode(small(), "a a a a", 4), (Ids{1, 6, 6, 2}));
  EXPECT_EQ(encode(small(), "unaffable", 4), (Ids{1, 3, 4, 2}));
  EXPECT_EQ(encode(small(), "a a", 2), (Ids{1, 2}));
  EXPECT_EQ(encode(small(), "a a", 4), (Ids{1, 6, 6, 2}));
}

TEST(WordPiece, AppendsToWhatIsThere) {
  Ids ids{42};
  small().encode("a a a", 3, ids);
  EXPECT_EQ(ids, (Ids{42, 1, 6, 2}));
}

TEST(WordPiece, RulesAreOptions) {
  EXPECT_EQ(encode(small({.strip_accents = false}), "\u00c9"), (Ids{1, 9, 2}));
  EXPECT_EQ(encode(small(), "\u00c9"), (Ids{1, 0, 2}));  // "e" is not in the vocabulary
  EXPECT_EQ(encode(small({.split_ideographs = false}), "a日"), (Ids{1, 0, 2}));
  EXPECT_EQ(encode(small(), "a日"), (Ids{1, 6, 10, 2}));
  EXPECT_EQ(encode(small({.lowercase = false}), "A a"), (Ids{1, 0, 6, 2}));
  EXPECT_EQ(encode(small({.max_word_characters = 2}), "a un una"), (Ids{1, 6, 3, 0, 2}));
}

TEST(WordPiece, AddedTokensAreCutOutFirst) {
  WordPieceRules rules;
  rules.added_tokens = {{.content = "[SEP]", .id = 2},
                        {.content = "york", .id = 20, .single_word = true},
                        {.content = "New York", .id = 11},
                        {.content = "ÉA", .id = 21, .normalized = true}};
  const WordPiece pieces = small(rules);
  EXPECT_EQ(encode(pieces, "a[SEP]a"), (Ids{1, 6, 2, 6, 2}));
  EXPECT_EQ(encode(pieces, "[sep]"), (Ids{1, 0, 0, 0, 2}));
  EXPECT_EQ(encode(pieces, "a New York a york"), (Ids{1, 6, 11, 6, 20, 2}));
  EXPECT_EQ(encode(pieces, "a yorks xyork"), (Ids{1, 6, 0, 0, 2}));
  EXPECT_EQ(encode(pieces, "éa"), (Ids{1, 21, 2}));  // matched in its normal form, "ea"
  EXPECT_EQ(pieces.id_count(), 22);
}

TEST(WordPiece, LowercasingTheWholeTextReachesSpecialTokens) {
  WordPieceRules rules{.lowercase_whole_text = true};
  rules.added_tokens = {{.content = "[SEP]", .id = 2}};
  EXPECT_EQ(encode(small(rules), "A[SEP]"), (Ids{1, 6, 0, 0, 0, 2}));
}

TEST(WordPiece, RefusesAVocabularyWithoutTheUnknownToken) {
  const auto made = WordPiece::make(vocabulary_of({"a", "b"}), {});
  ASSERT_FALSE(made.ok());
  EXPECT_EQ(made.status().message(), "the unknown token '[UNK]' is not in the vocabulary");
  EXPECT_FALSE(WordPiece::make(vocabulary_of({"[UNK]", std::string(2000, 'x')}), {}).ok());
  EXPECT_FALSE(WordPiece::make(vocabulary_of({"[UNK]"}), {.max_word_characters = 100'000}).ok());
}

TEST(TokenTrie, FindsEveryEntryAndNothingElse) {
  std::vector<std::string> words;
  for (int i = 0; i < 20'000; ++i) words.push_back(std::to_string(i * 7919LL % 100'003));
  words.emplace_back("\xff\x01");
  words.emplace_back(std::string(1, '\0'));
  std::vector<std::pair<std::string_view, int32_t>> entries;
  for (const std::string& word : words) entries.emplace_back(word, static_cast<int32_t>(entries.size()));
  const TokenTrie trie = *TokenTrie::build(entries);
  for (const auto& [word, id] : entries) ASSERT_EQ(trie.token(trie.find(word)), id) << word;
  for (int i = 0; i < 20'000; i += 10) {
    const std::string word = std::to_string(i);
    const bool there = std::ranges::find(words, word) != words.end();
    ASSERT_EQ(trie.token(trie.find(word)) != TokenTrie::kNoToken, there) << word;
  }
  EXPECT_EQ(trie.find("1x"), TokenTrie::kNowhere);
  EXPECT_EQ(TokenTrie().find("1"), TokenTrie::kNowhere);
  EXPECT_LT(trie.size_bytes(), size_t{4} << 20);
}

TEST(TokenTrie, OfEqualEntriesTheLastCounts) {
  EXPECT_EQ(TokenTrie::build({{"a", 3}, {"a", 1}, {"a", 2}})->token(TokenTrie::build({{"a", 3}, {"a", 1}})->find("a")), 3);
}

TEST(Utf8, BrokenSequencesCountByMaximalParts) {
  const auto decode = [](std::string_view text) {
    std::u32string out;
    for (size_t at = 0; at < text.size();) {
      const Decoded c = decode_utf8(reinterpret_cast<const uint8_t*>(text.data()) + at, text.size() - at);
      out += c.value;
      at += c.size_bytes;
    }
    return out;
  };
  EXPECT_EQ(decode("\xe2\x82"
                   "a"),
            U"\uFFFDa");
  EXPECT_EQ(decode("\xed\xa0\x80"), U"\uFFFD\uFFFD\uFFFD");
  EXPECT_EQ(decode("\xf0\x9f\x98\x80\xf0\x9f\x98"), U"\U0001F600\uFFFD");
  EXPECT_EQ(decode("\xf4\x90\x80\x80"), U"\uFFFD\uFFFD\uFFFD\uFFFD");
  for (const char32_t c : {char32_t{0}, U'\x7f', U'\x80', U'\u07ff', U'\u0800', U'\ud7ff', U'\ue000', U'\uffff',
                           U'\U00010000', U'\U0010ffff'}) {
    std::string bytes;
    append_utf8(c, bytes);
    EXPECT_EQ(decode(bytes), std::u32string(1, c));
  }
}

// The reference's words for every code point there is, against ours. A vocabulary of single code points would be too large,
// so the words themselves are compared: by way of the rules the tokenizer is made of.
uint64_t fnv1a(std::string_view data) {
  uint64_t value = 0xCBF29CE484222325ull;
  for (const char byte : data) value = (value ^ static_cast<uint8_t>(byte)) * 0x100000001B3ull;
  return value;
}

std::string words_around(const WordPiece& pieces, char32_t c) {
  std::string text = "a", out;
  append_utf8(c, text);
  for (const std::string& word : pieces.words(text + "b")) out += word + '\n';
  return out;
}

TEST(TextRules, EveryCodePointIsTreatedAsByTheReference) {
  const WordPiece uncased = small(), cased = small({.strip_accents = false, .lowercase = false});
  std::istringstream expected(read_text(test_data("unicode_blocks.txt")));
  int blocks = 0;
  for (std::string block, digest; expected >> block >> digest; ++blocks) {
    const auto first = static_cast<char32_t>(std::stoul(block, nullptr, 16));
    std::string made;
    for (char32_t c = first; c < first + 4096; ++c) {
      if (c >= 0xD800 && c < 0xE000) continue;
      made += words_around(uncased, c) + words_around(cased, c) + '\0';
    }
    char text[17];
    std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(fnv1a(made)));
    EXPECT_EQ(text, digest) << "block U+" << block;
  }
  EXPECT_EQ(blocks, 272);
}

TEST(WordPiece, HostileTextsGiveTheReferencesIds) {
  if (!fs::exists(minilm_folder())) GTEST_SKIP() << minilm_folder() << " is not there";
  const auto loaded = load_tokenizer(minilm_folder());
  ASSERT_TRUE(loaded.ok()) << loaded.status().to_string();
  size_t compared = 0;
  for (const nlohmann::json& row : read_json_lines(test_data("tokens.jsonl"))) {
    const std::string text = text_of(row);
    SCOPED_TRACE(row.dump().substr(0, 300));
    if (!row["ids"].is_null()) {
      EXPECT_EQ(encode(loaded->pieces, text), row["ids"].get<Ids>());
    }
    for (const auto& [length, ids] : row["cut"].items())
      EXPECT_EQ(encode(loaded->pieces, text, std::stoul(length)), ids.get<Ids>()) << "cut to " << length;
    ++compared;
  }
  EXPECT_GT(compared, 500u);
}

}  // namespace
}  // namespace manta::models

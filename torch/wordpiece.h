// The tokenizer of BERT-family models: clean, lower-case, strip accents, split, then WordPiece by longest match.
//
// Token for token the same as the reference implementation (the `tokenizers` package) with a BertNormalizer and a
// BertPreTokenizer. Any bytes are a text: what is no UTF-8 counts as U+FFFD, as in Python's `bytes.decode("utf-8",
// "replace")`.
//
// Two paths give one result. ASCII goes through tables byte by byte; from the first byte that needs more, what stands
// between two ASCII separators goes through a table of plain characters or, where one has to be decomposed or changed,
// through ICU. Cutting there is safe: an ASCII separator neither combines with a neighbour nor moves in normalisation.
//
// Constant after construction; `encode` may be called from any number of threads. About 1.5 MB for 30,000 pieces.
#pragma once

#include <manta/status.h>

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "torch/added_tokens.h"
#include "torch/token_trie.h"

namespace manta::models {

struct WordPieceRules {
  bool clean_text = true;        ///< Drop control characters, make every white space a plain space.
  bool split_ideographs = true;  ///< Each CJK ideograph is a word.
  bool strip_accents = true;     ///< Decompose and drop the marks.
  bool lowercase = true;
  bool lowercase_whole_text = false;  ///< Before anything else, special tokens included (sentence-transformers' option).
  std::string unknown = "[UNK]";
  std::string continuation = "##";     ///< What vocabulary entries that go on a word begin with.
  uint32_t max_word_characters = 100;  ///< A longer word is one unknown token. At most kLongestWord.
  std::vector<int32_t> prefix_ids{};   ///< Such as [CLS], before each text.
  std::vector<int32_t> suffix_ids{};   ///< Such as [SEP], after each text.
  std::vector<AddedToken> added_tokens{};

  static constexpr uint32_t kLongestWord = 1000;
};

class WordPiece {
 public:
  using Vocabulary = std::vector<std::pair<std::string, int32_t>>;

  /// Refuses a vocabulary without the unknown token, and rules out of range.
  static Result<WordPiece> make(const Vocabulary& vocabulary, WordPieceRules rules);

  /// Appends the text's ids, prefix and suffix included, at most `max_length` of them: what is too much is cut off before
  /// the suffix. 0 means no limit. Precondition: max_length is 0 or at least `min_length()`.
  void encode(std::string_view text, size_t max_length, std::vector<int32_t>& ids) const;

  /// The words `text` is split into before they are cut to pieces, added tokens taken as plain text. For tests and curious
  /// users.
  [[nodiscard]] std::vector<std::string> words(std::string_view text) const;

  /// The ids of an empty text: prefix and suffix.
  [[nodiscard]] size_t min_length() const { return rules_.prefix_ids.size() + rules_.suffix_ids.size(); }
  /// One more than the largest id.
  [[nodiscard]] int32_t id_count() const { return id_count_; }

 private:
  struct Output;
  enum class Trait : uint8_t { kDrop, kSpace, kPunctuation, kWord, kComplex };
  static constexpr char32_t kTraitCount = 0x3000;

  WordPiece() = default;
  void fill_tables();
  [[nodiscard]] Trait trait_of(char32_t c) const;
  [[nodiscard]] Trait compute_trait(char32_t c) const;

  void encode_body(std::string_view text, Output& out) const;
  void encode_segment(std::string_view text, Output& out) const;
  const uint8_t* encode_word(const uint8_t* at, const uint8_t* end, Output& out) const;
  const uint8_t* encode_chunk(const uint8_t* at, const uint8_t* end, Output& out) const;
  bool encode_plain_chunk(const uint8_t* at, const uint8_t* end, Output& out) const;
  void encode_pieces(const uint8_t* word, size_t size_bytes, size_t characters, Output& out) const;
  void encode_normalized(std::string_view text, Output& out) const;
  void encode_words(std::string_view normalized, Output& out) const;
  template <typename OnWord>
  static void split_words(std::string_view normalized, OnWord&& on_word);
  [[nodiscard]] std::string normalize(std::string_view text) const;

  WordPieceRules rules_;
  TokenTrie trie_;
  AddedTokens raw_added_;
  AddedTokens normalized_added_;
  uint32_t continuation_node_ = TokenTrie::kNowhere;
  int32_t unknown_id_ = 0;
  int32_t id_count_ = 0;

  // For each ASCII byte: a class below kFirstWordByte, or the (lower-case) byte it contributes to a word.
  static constexpr uint8_t kOther = 0, kSpaceByte = 1, kPunctuationByte = 2, kFirstWordByte = 3;
  std::array<uint8_t, 256> map_{};
  std::array<int32_t, 128> punctuation_ids_{};
  std::vector<Trait> traits_;  ///< Of the code points below kTraitCount.
};

}  // namespace manta::models

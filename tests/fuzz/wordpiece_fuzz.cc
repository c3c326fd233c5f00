// Any bytes as a text for the tokenizer.
#include "torch/wordpiece.h"

#include "common/check.h"
#include "tests/fuzz/fuzz.h"

namespace manta::fuzz {
namespace {

models::WordPiece make(bool uncased) {
  const char* const words[] = {"[UNK]", "[CLS]", "[SEP]", "a", "##a", "ab",       "##bc",         "the",
                               "##the", "[",     "]",     ".", "e",   "\xc3\xa9", "\xe6\x97\xa5", "\xe1\x84\x92"};
  models::WordPiece::Vocabulary vocabulary;
  for (const char* const word : words) vocabulary.emplace_back(word, static_cast<int32_t>(vocabulary.size()));
  models::WordPieceRules rules{.strip_accents = uncased, .lowercase = uncased};
  rules.prefix_ids = {1};
  rules.suffix_ids = {2};
  rules.added_tokens = {{.content = "[SEP]", .id = 2}, {.content = "the", .id = 7, .single_word = true}};
  return *models::WordPiece::make(vocabulary, rules);
}

}  // namespace

std::vector<std::string> seeds() {
  return {"the [SEP] abc.", std::string(150, 'a') + " ab", "caf\xc3\xa9 e\xcc\x81 \xe6\x97\xa5\xe6\x9c\xac \xed\x95\x9c",
          "\xff\xe2\x82 [SEP",
          "a\x01"
          "b\t\xc2\xa0the\xe2\x80\x99the"};
}

}  // namespace manta::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const manta::models::WordPiece tokenizers[] = {manta::fuzz::make(true), manta::fuzz::make(false)};
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  for (const auto& tokenizer : tokenizers) {
    std::vector<int32_t> whole, cut;
    tokenizer.encode(text, 0, whole);
    MANTA_CHECK(whole.size() >= 2 && whole.front() == 1 && whole.back() == 2, whole.size());
    for (const int32_t id : whole) MANTA_CHECK(id >= 0 && id < tokenizer.id_count(), id);
    // Cutting gives the first ids of the whole.
    tokenizer.encode(text, 5, cut);
    MANTA_CHECK(cut.size() == std::min<size_t>(5, whole.size()), cut.size(), whole.size());
    MANTA_CHECK(std::equal(cut.begin(), cut.end() - 1, whole.begin()));
  }
  return 0;
}

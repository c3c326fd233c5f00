// Texts of any bytes through the tokenizer.
#include "common/check.h"
#include "tests/fuzz/fuzz.h"
#include "torch/wordpiece.h"

namespace manta::fuzz {
namespace {

using models::WordPiece;

const WordPiece& tokenizer(bool plain) {
  const auto make = [](models::WordPieceRules rules) {
    WordPiece::Vocabulary vocabulary;
    for (const char* piece :
         {"[UNK]", "[CLS]", "[SEP]", "un", "##aff", "##able", "a", "##f", "!", "é", "日", "e", "##e", "##日", "ss", "ß"}) {
      vocabulary.emplace_back(piece, static_cast<int32_t>(vocabulary.size()));
    }
    rules.prefix_ids = {1};
    rules.suffix_ids = {2};
    return WordPiece::make(vocabulary, std::move(rules)).value();
  };
  static const WordPiece usual = make({});
  static const WordPiece bare =
      make({.clean_text = false, .split_ideographs = false, .strip_accents = false, .lowercase = false});
  return plain ? bare : usual;
}

}  // namespace

std::vector<std::string> seeds() {
  return {"unaffable a!",
          "Été Straße ΑΣ",
          "日本語 テスト",
          "e\u0301\u0323 x",
          "\U0001F600 a\u200Db",
          "\xff\xfe a \xc3",
          std::string(300, 'a'),
          std::string("a\0b", 3),
          "   \t\n ",
          "\u1E9E\u0130\u0345",
          "가각힣",
          ""};
}

}  // namespace manta::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  for (const bool plain : {false, true}) {
    const manta::models::WordPiece& pieces = manta::fuzz::tokenizer(plain);
    std::vector<int32_t> all;
    pieces.encode(text, 0, all);
    MANTA_CHECK(all.size() >= 2 && all.front() == 1 && all.back() == 2);
    for (const int32_t id : all) MANTA_CHECK(id >= 0 && id < pieces.id_count(), id);
    // Cutting is what the contract says: the same ids, the end left out.
    const size_t limit = 2 + size % 7;
    std::vector<int32_t> cut;
    pieces.encode(text, limit, cut);
    std::vector<int32_t> expected = all;
    if (expected.size() > limit) {
      expected.resize(limit - 1);
      expected.push_back(2);
    }
    MANTA_CHECK(cut == expected, limit);
    (void)pieces.words(text);
  }
  return 0;
}

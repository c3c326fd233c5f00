// A WordPiece tokenizer out of a Hugging Face model folder: `tokenizer.json`, or else `vocab.txt` with
// `tokenizer_config.json`.
//
// Whatever the files ask for that this tokenizer does not do (another model, normaliser, pre-tokenizer or template) is
// refused with the file and the reason, since anything else would give other tokens without a word.
#pragma once

#include <manta/status.h>

#include <filesystem>

#include "torch/wordpiece.h"

namespace manta::models {

struct TokenizerOptions {
  bool lowercase_whole_text = false;  ///< `do_lower_case` of sentence_bert_config.json.
};

struct LoadedTokenizer {
  WordPiece pieces;
  size_t model_max_length = 0;  ///< `model_max_length` of tokenizer_config.json; 0 when it says none.
};

/// Milliseconds for the vocabulary of a common model.
Result<LoadedTokenizer> load_tokenizer(const std::filesystem::path& folder, const TokenizerOptions& options = {});

}  // namespace manta::models

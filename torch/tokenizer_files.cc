#include "torch/tokenizer_files.h"

#include <algorithm>
#include <optional>

#include "common/check.h"
#include "torch/json_file.h"

namespace manta::models {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

constexpr int64_t kMaxTokenId = 1 << 24;

struct Parts {
  WordPiece::Vocabulary vocabulary;
  WordPieceRules rules;
};

// --- tokenizer.json ---

Status expect_type(const JsonObject& parent, const char* key, std::string_view wanted) {
  if (!parent.has(key)) return parent.error(in_quotes(key) + " is missing; only " + std::string(wanted) + " is supported");
  MANTA_ASSIGN_OR_RETURN(const JsonObject part, parent.object(key));
  MANTA_ASSIGN_OR_RETURN(const std::string type, part.string("type"));
  if (type == wanted) return {};
  return parent.error("the " + std::string(key) + " is a " + type + "; only " + std::string(wanted) + " is supported");
}

Status read_normalizer(const JsonObject& file, WordPieceRules& rules) {
  MANTA_RETURN_IF_ERROR(expect_type(file, "normalizer", "BertNormalizer"));
  MANTA_ASSIGN_OR_RETURN(const JsonObject part, file.object("normalizer"));
  MANTA_ASSIGN_OR_RETURN(rules.clean_text, part.boolean_or("clean_text", true));
  MANTA_ASSIGN_OR_RETURN(rules.split_ideographs, part.boolean_or("handle_chinese_chars", true));
  MANTA_ASSIGN_OR_RETURN(rules.lowercase, part.boolean_or("lowercase", true));
  MANTA_ASSIGN_OR_RETURN(rules.strip_accents, part.boolean_or("strip_accents", rules.lowercase));
  return {};
}

Status read_model(const JsonObject& file, Parts& parts) {
  MANTA_RETURN_IF_ERROR(expect_type(file, "model", "WordPiece"));
  MANTA_ASSIGN_OR_RETURN(const JsonObject model, file.object("model"));
  MANTA_ASSIGN_OR_RETURN(parts.rules.unknown, model.string_or("unk_token", "[UNK]"));
  MANTA_ASSIGN_OR_RETURN(parts.rules.continuation, model.string_or("continuing_subword_prefix", "##"));
  MANTA_ASSIGN_OR_RETURN(const int64_t longest,
                         model.integer_or("max_input_chars_per_word", 1, WordPieceRules::kLongestWord, 100));
  parts.rules.max_word_characters = static_cast<uint32_t>(longest);
  MANTA_ASSIGN_OR_RETURN(const JsonObject vocabulary, model.object("vocab"));
  for (const auto& [text, id] : vocabulary.json().items()) {
    if (!id.is_number_unsigned() || id.get<uint64_t>() > kMaxTokenId)
      return vocabulary.error("the id of '" + text + "' is no number up to " + std::to_string(kMaxTokenId));
    parts.vocabulary.emplace_back(text, id.get<int32_t>());
  }
  return {};
}

Result<std::vector<AddedToken>> read_added_tokens(const JsonObject& file) {
  std::vector<AddedToken> out;
  if (!file.has("added_tokens")) return out;
  const json& list = file.json()["added_tokens"];
  if (!list.is_array()) return file.error("'added_tokens' is no list");
  for (const json& item : list) {
    MANTA_ASSIGN_OR_RETURN(const JsonObject token, JsonObject::make(item, file.source() + ": added_tokens"));
    AddedToken added;
    MANTA_ASSIGN_OR_RETURN(added.content, token.string("content"));
    MANTA_ASSIGN_OR_RETURN(const int64_t id, token.integer("id", 0, kMaxTokenId));
    added.id = static_cast<int32_t>(id);
    MANTA_ASSIGN_OR_RETURN(added.single_word, token.boolean_or("single_word", false));
    MANTA_ASSIGN_OR_RETURN(added.normalized, token.boolean_or("normalized", false));
    out.push_back(std::move(added));
  }
  return out;
}

/// The ids a template puts around sequence A.
Status read_template(const JsonObject& processor, WordPieceRules& rules) {
  MANTA_ASSIGN_OR_RETURN(const JsonObject specials, processor.object("special_tokens"));
  const json single = processor.json().value("single", json());
  if (!single.is_array()) return processor.error("'single' is no list");
  bool seen_text = false;
  for (const json& item : single) {
    if (item.is_object() && item.contains("Sequence")) {
      if (std::exchange(seen_text, true)) return processor.error("'single' holds the text twice");
      continue;
    }
    if (!item.is_object() || !item.contains("SpecialToken")) return processor.error("'single' holds something unknown");
    MANTA_ASSIGN_OR_RETURN(const JsonObject special, JsonObject::make(item["SpecialToken"], processor.source()));
    MANTA_ASSIGN_OR_RETURN(const std::string name, special.string("id"));
    MANTA_ASSIGN_OR_RETURN(const JsonObject token, specials.object(name.c_str()));
    const json ids = token.json().value("ids", json());
    if (!ids.is_array()) return token.error("'ids' is no list");
    for (const json& id : ids) {
      if (!id.is_number_unsigned() || id.get<uint64_t>() > kMaxTokenId) return token.error("'ids' holds no token id");
      (seen_text ? rules.suffix_ids : rules.prefix_ids).push_back(id.get<int32_t>());
    }
  }
  if (!seen_text) return processor.error("'single' does not hold the text");
  return {};
}

/// BertProcessing: {"sep": ["[SEP]", 102], "cls": ["[CLS]", 101]}.
Status read_pair(const JsonObject& processor, const char* key, std::vector<int32_t>& ids) {
  const json pair = processor.json().value(key, json());
  if (!pair.is_array() || pair.size() != 2 || !pair[1].is_number_unsigned() || pair[1].get<uint64_t>() > kMaxTokenId)
    return processor.error(in_quotes(key) + " is no token with its id");
  ids = {pair[1].get<int32_t>()};
  return {};
}

Status read_processor(const JsonObject& file, WordPieceRules& rules) {
  if (!file.has("post_processor")) return {};
  MANTA_ASSIGN_OR_RETURN(const JsonObject processor, file.object("post_processor"));
  MANTA_ASSIGN_OR_RETURN(const std::string type, processor.string("type"));
  if (type == "TemplateProcessing") return read_template(processor, rules);
  if (type != "BertProcessing") return file.error("the post_processor is a " + type + ", which is not supported");
  MANTA_RETURN_IF_ERROR(read_pair(processor, "cls", rules.prefix_ids));
  return read_pair(processor, "sep", rules.suffix_ids);
}

Result<Parts> read_tokenizer_json(const fs::path& path) {
  MANTA_ASSIGN_OR_RETURN(const JsonObject file, JsonObject::read(path));
  Parts parts;
  MANTA_RETURN_IF_ERROR(read_normalizer(file, parts.rules));
  MANTA_RETURN_IF_ERROR(expect_type(file, "pre_tokenizer", "BertPreTokenizer"));
  MANTA_RETURN_IF_ERROR(read_model(file, parts));
  MANTA_ASSIGN_OR_RETURN(parts.rules.added_tokens, read_added_tokens(file));
  MANTA_RETURN_IF_ERROR(read_processor(file, parts.rules));
  return parts;
}

// --- vocab.txt and tokenizer_config.json ---

Result<WordPiece::Vocabulary> read_vocabulary(const fs::path& path) {
  MANTA_ASSIGN_OR_RETURN(const std::string text, read_file(path));
  WordPiece::Vocabulary out;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    std::string line = text.substr(at, end - at);
    if (line.ends_with('\r')) line.pop_back();
    out.emplace_back(std::move(line), static_cast<int32_t>(out.size()));
    at = end + 1;
  }
  if (out.empty()) return Status(Code::kInvalid, path.string() + ": is empty");
  return out;
}

/// A special token of tokenizer_config.json: a string, or an object with the string in `content`.
Result<std::string> special_token(const std::optional<JsonObject>& config, const char* key, std::string fallback) {
  if (!config || !config->has(key)) return fallback;
  if (!config->json()[key].is_object()) return config->string(key);
  MANTA_ASSIGN_OR_RETURN(const JsonObject token, config->object(key));
  return token.string("content");
}

Result<Parts> read_vocab_txt(const fs::path& path, const std::optional<JsonObject>& config) {
  Parts parts;
  MANTA_ASSIGN_OR_RETURN(parts.vocabulary, read_vocabulary(path));
  if (fs::exists(path.parent_path() / "added_tokens.json"))
    return Status(Code::kInvalid, (path.parent_path() / "added_tokens.json").string() +
                                      ": is not supported without a tokenizer.json; save the folder with a fast tokenizer");
  WordPieceRules& rules = parts.rules;
  if (config) {
    MANTA_ASSIGN_OR_RETURN(rules.lowercase, config->boolean_or("do_lower_case", true));
    MANTA_ASSIGN_OR_RETURN(rules.strip_accents, config->boolean_or("strip_accents", rules.lowercase));
    MANTA_ASSIGN_OR_RETURN(rules.split_ideographs, config->boolean_or("tokenize_chinese_chars", true));
  }
  const std::pair<const char*, const char*> specials[] = {{"unk_token", "[UNK]"},
                                                          {"sep_token", "[SEP]"},
                                                          {"pad_token", "[PAD]"},
                                                          {"cls_token", "[CLS]"},
                                                          {"mask_token", "[MASK]"}};
  for (const auto& [key, fallback] : specials) {
    MANTA_ASSIGN_OR_RETURN(const std::string token, special_token(config, key, fallback));
    const auto found = std::ranges::find(parts.vocabulary.rbegin(), parts.vocabulary.rend(), token,
                                         &WordPiece::Vocabulary::value_type::first);
    if (found == parts.vocabulary.rend())
      return Status(Code::kInvalid, path.string() + ": the " + key + " '" + token + "' is not in it");
    if (key == std::string_view("unk_token")) rules.unknown = token;
    if (key == std::string_view("cls_token")) rules.prefix_ids = {found->second};
    if (key == std::string_view("sep_token")) rules.suffix_ids = {found->second};
    rules.added_tokens.push_back({.content = token, .id = found->second});
  }
  return parts;
}

/// Two files that disagree on the case of the text would silently embed one of two different things.
Status check_agreement(const JsonObject& config, const WordPieceRules& rules) {
  MANTA_ASSIGN_OR_RETURN(const bool lowercase, config.boolean_or("do_lower_case", rules.lowercase));
  if (lowercase == rules.lowercase) return {};
  return config.error(std::string("'do_lower_case' is ") + (lowercase ? "true" : "false") +
                      ", tokenizer.json says otherwise");
}

Result<size_t> max_length_of(const std::optional<JsonObject>& config) {
  // "No limit" is written as 1e30, an integer too large for any type.
  if (!config || !config->has("model_max_length") || !config->json()["model_max_length"].is_number()) return size_t{0};
  const double value = config->json()["model_max_length"].get<double>();
  return value >= 1 && value <= 1e9 ? static_cast<size_t>(value) : size_t{0};
}

}  // namespace

Result<LoadedTokenizer> load_tokenizer(const fs::path& folder, const TokenizerOptions& options) {
  std::optional<JsonObject> config;
  if (fs::exists(folder / "tokenizer_config.json")) {
    MANTA_ASSIGN_OR_RETURN(config, JsonObject::read(folder / "tokenizer_config.json"));
  }
  const bool has_json = fs::exists(folder / "tokenizer.json");
  const fs::path source = folder / (has_json ? "tokenizer.json" : "vocab.txt");
  if (!fs::exists(source))
    return Status(Code::kNotFound, folder.string() + ": there is no tokenizer.json and no vocab.txt in it");

  auto parts = has_json ? read_tokenizer_json(source) : read_vocab_txt(source, config);
  if (!parts.ok()) return parts.status();
  if (has_json && config) MANTA_RETURN_IF_ERROR(check_agreement(*config, parts->rules));
  parts->rules.lowercase_whole_text = options.lowercase_whole_text;

  auto pieces = WordPiece::make(parts->vocabulary, std::move(parts->rules));
  if (!pieces.ok()) return pieces.status().with_context(source.string());
  MANTA_ASSIGN_OR_RETURN(const size_t max_length, max_length_of(config));
  return LoadedTokenizer{std::move(*pieces), max_length};
}

}  // namespace manta::models

#include "torch/wordpiece.h"

#include <unicode/locid.h>
#include <unicode/unistr.h>

#include <algorithm>

#include "common/check.h"
#include "torch/text_rules.h"
#include "torch/utf8.h"

namespace manta::models {
namespace {

const uint8_t* bytes_of(std::string_view text) { return reinterpret_cast<const uint8_t*>(text.data()); }

// As Python's str.lower(), which knows the final sigma.
std::string lowercase_all(std::string_view text) {
  std::string valid;
  for (size_t at = 0; at < text.size();) {
    const Decoded c = decode_utf8(bytes_of(text) + at, text.size() - at);
    append_utf8(c.value, valid);
    at += c.size_bytes;
  }
  std::string out;
  icu::UnicodeString::fromUTF8(valid).toLower(icu::Locale::getRoot()).toUTF8String(out);
  return out;
}

}  // namespace

/// Where the ids go, and how many of them are still wanted.
struct WordPiece::Output {
  std::vector<int32_t>& ids;
  size_t limit;

  [[nodiscard]] bool full() const { return ids.size() >= limit; }
  void push(int32_t id) { ids.push_back(id); }
};

Result<WordPiece> WordPiece::make(const Vocabulary& vocabulary, WordPieceRules rules) {
  if (rules.max_word_characters == 0 || rules.max_word_characters > WordPieceRules::kLongestWord)
    return Status(Code::kInvalid, "max_input_chars_per_word is " + std::to_string(rules.max_word_characters) +
                                      ", not between 1 and " + std::to_string(WordPieceRules::kLongestWord));
  WordPiece made;
  MANTA_ASSIGN_OR_RETURN(made.trie_, TokenTrie::build({vocabulary.begin(), vocabulary.end()}));
  for (const auto& [text, id] : vocabulary) made.id_count_ = std::max(made.id_count_, id + 1);
  made.unknown_id_ = made.trie_.token(made.trie_.find(rules.unknown));
  if (made.unknown_id_ == TokenTrie::kNoToken)
    return Status(Code::kInvalid, "the unknown token '" + rules.unknown + "' is not in the vocabulary");
  made.continuation_node_ = rules.continuation.empty() ? TokenTrie::kRoot : made.trie_.find(rules.continuation);
  made.rules_ = std::move(rules);
  made.fill_tables();

  std::vector<AddedToken> raw, normalized;
  for (AddedToken token : made.rules_.added_tokens) {
    made.id_count_ = std::max(made.id_count_, token.id + 1);
    if (token.normalized) token.content = made.normalize(token.content);
    (token.normalized ? normalized : raw).push_back(std::move(token));
  }
  made.raw_added_ = AddedTokens(std::move(raw));
  made.normalized_added_ = AddedTokens(std::move(normalized));
  return made;
}

void WordPiece::fill_tables() {
  traits_.resize(kTraitCount);
  for (char32_t c = 0; c < kTraitCount; ++c) traits_[c] = compute_trait(c);
  for (uint8_t c = 0; c < 0x80; ++c) {
    const bool upper = rules_.lowercase && c >= 'A' && c <= 'Z';
    const Trait trait = traits_[c];
    if (trait == Trait::kSpace) map_[c] = kSpaceByte;
    if (trait == Trait::kPunctuation) map_[c] = kPunctuationByte;
    if (upper) map_[c] = static_cast<uint8_t>(c + 32);
    if (trait == Trait::kWord && c >= kFirstWordByte) map_[c] = c;
    const int32_t id = trie_.longest(TokenTrie::kRoot, &c, 1).token;
    punctuation_ids_[c] = id == TokenTrie::kNoToken ? unknown_id_ : id;
  }
}

// kWord and kPunctuation promise that the character comes out of normalisation as it is, whatever its neighbours.
WordPiece::Trait WordPiece::compute_trait(char32_t c) const {
  if (rules_.clean_text && is_dropped(c)) return Trait::kDrop;
  if (is_space(c)) return Trait::kSpace;
  if (rules_.strip_accents) {
    if (is_nonspacing_mark(c)) return Trait::kDrop;
    if (may_reorder(c) || decomposes(c)) return Trait::kComplex;
  }
  if (rules_.lowercase && simple_lowercase(c) != c) return Trait::kComplex;
  return is_punctuation(c) ? Trait::kPunctuation : Trait::kWord;
}

WordPiece::Trait WordPiece::trait_of(char32_t c) const { return c < kTraitCount ? traits_[c] : Trait::kComplex; }

void WordPiece::encode(std::string_view text, size_t max_length, std::vector<int32_t>& ids) const {
  MANTA_CHECK(max_length == 0 || max_length >= min_length(), max_length, min_length());
  const size_t suffix = rules_.suffix_ids.size();
  ids.insert(ids.end(), rules_.prefix_ids.begin(), rules_.prefix_ids.end());
  const size_t start = ids.size();
  Output out{ids, max_length == 0 ? SIZE_MAX : start - rules_.prefix_ids.size() + max_length - suffix};
  if (rules_.lowercase_whole_text) {
    encode_body(lowercase_all(text), out);
  } else {
    encode_body(text, out);
  }
  if (ids.size() > out.limit) ids.resize(out.limit);
  ids.insert(ids.end(), rules_.suffix_ids.begin(), rules_.suffix_ids.end());
}

void WordPiece::encode_body(std::string_view text, Output& out) const {
  for (size_t from = 0; from < text.size() && !out.full();) {
    const AddedTokens::Match match = raw_added_.find(text, from);
    const std::string_view segment = text.substr(from, match.at - from);
    if (normalized_added_.empty()) {
      encode_segment(segment, out);
    } else {
      encode_normalized(normalize(segment), out);
    }
    if (match.size_bytes > 0) out.push(match.id);
    from = match.at + match.size_bytes;
  }
}

void WordPiece::encode_segment(std::string_view text, Output& out) const {
  const uint8_t* at = bytes_of(text);
  const uint8_t* const end = at + text.size();
  while (at < end && !out.full()) {
    const uint8_t kind = map_[*at];
    if (kind >= kFirstWordByte) {
      at = encode_word(at, end, out);
    } else if (kind == kSpaceByte) {
      ++at;
    } else if (kind == kPunctuationByte) {
      out.push(punctuation_ids_[*at++]);
    } else {
      at = encode_chunk(at, end, out);
    }
  }
}

const uint8_t* WordPiece::encode_word(const uint8_t* at, const uint8_t* end, Output& out) const {
  uint8_t word[WordPieceRules::kLongestWord + 1];
  const uint8_t* const start = at;
  const uint8_t* const stop = end - at > rules_.max_word_characters ? at + rules_.max_word_characters + 1 : end;
  uint8_t mapped = kSpaceByte;
  size_t size = 0;
  while (at < stop && (mapped = map_[*at]) >= kFirstWordByte) word[size++] = mapped, ++at;
  if (at == stop && at < end)  // an overlong word, unless the rest is dropped: look for its end
    while (at < end && (mapped = map_[*at]) >= kFirstWordByte) ++at;
  if (at < end && mapped == kOther) return encode_chunk(start, end, out);
  encode_pieces(word, size, size, out);
  return at;
}

const uint8_t* WordPiece::encode_chunk(const uint8_t* at, const uint8_t* end, Output& out) const {
  const uint8_t* stop = at;
  while (stop < end && map_[*stop] != kSpaceByte && map_[*stop] != kPunctuationByte) ++stop;
  const size_t before = out.ids.size();
  if (!encode_plain_chunk(at, stop, out)) {
    out.ids.resize(before);
    encode_words(normalize({reinterpret_cast<const char*>(at), static_cast<size_t>(stop - at)}), out);
  }
  return stop;
}

// False as soon as a character needs more than its trait; what was put out so far is then to be taken back.
bool WordPiece::encode_plain_chunk(const uint8_t* at, const uint8_t* end, Output& out) const {
  uint8_t word[4 * (WordPieceRules::kLongestWord + 1)];
  size_t size = 0, characters = 0;
  const auto flush = [&] {
    if (characters > 0) encode_pieces(word, size, characters, out);
    size = characters = 0;
  };
  while (at < end && !out.full()) {
    if (const uint8_t mapped = map_[*at]; mapped >= kFirstWordByte) {
      if (characters++ <= rules_.max_word_characters) word[size++] = mapped;
      ++at;
      continue;
    }
    const Decoded c = decode_utf8(at, static_cast<size_t>(end - at));
    Trait trait = trait_of(c.value);
    const bool ideograph = rules_.split_ideographs && is_plain_ideograph(c.value);
    if (trait == Trait::kComplex && !ideograph) return false;
    at += c.size_bytes;
    if (trait == Trait::kDrop) continue;
    if (trait != Trait::kWord || ideograph) flush();
    if (trait == Trait::kSpace) continue;
    if (characters++ <= rules_.max_word_characters) size += encode_utf8(c.value, reinterpret_cast<char*>(word) + size);
    if (trait != Trait::kWord || ideograph) flush();
  }
  flush();
  return true;
}

void WordPiece::encode_pieces(const uint8_t* word, size_t size_bytes, size_t characters, Output& out) const {
  if (characters > rules_.max_word_characters) return out.push(unknown_id_);
  const size_t before = out.ids.size();
  for (size_t at = 0; at < size_bytes;) {
    const TokenTrie::Match match =
        trie_.longest(at == 0 ? TokenTrie::kRoot : continuation_node_, word + at, size_bytes - at);
    if (match.token == TokenTrie::kNoToken) {
      out.ids.resize(before);
      return out.push(unknown_id_);
    }
    out.push(match.token);
    at += match.size_bytes;
  }
}

void WordPiece::encode_normalized(std::string_view text, Output& out) const {
  for (size_t from = 0; from < text.size() && !out.full();) {
    const AddedTokens::Match match = normalized_added_.find(text, from);
    encode_words(text.substr(from, match.at - from), out);
    if (match.size_bytes > 0) out.push(match.id);
    from = match.at + match.size_bytes;
  }
}

std::string WordPiece::normalize(std::string_view text) const {
  std::u32string points;
  points.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const Decoded c = decode_utf8(bytes_of(text) + at, text.size() - at);
    at += c.size_bytes;
    if (rules_.clean_text && is_dropped(c.value)) continue;
    const bool ideograph = rules_.split_ideographs && is_ideograph(c.value);
    if (ideograph) points += U' ';
    points += rules_.clean_text && is_space(c.value) ? U' ' : c.value;
    if (ideograph) points += U' ';
  }
  if (rules_.strip_accents) {
    points = decomposed(points);
    std::erase_if(points, is_nonspacing_mark);
  }
  std::string out;
  for (const char32_t c : points) {
    if (rules_.lowercase) {
      lowercase(c, [&](char32_t lower) { append_utf8(lower, out); });
    } else {
      append_utf8(c, out);
    }
  }
  return out;
}

// Calls on_word(bytes, size_bytes, characters), until it says that it wants no more.
template <typename OnWord>
void WordPiece::split_words(std::string_view normalized, OnWord&& on_word) {
  const uint8_t* const bytes = bytes_of(normalized);
  size_t start = 0, characters = 0;
  for (size_t at = 0; at < normalized.size();) {
    const Decoded c = decode_utf8(bytes + at, normalized.size() - at);
    const size_t next = at + c.size_bytes;
    const bool space = is_space(c.value);
    if (!space && !is_punctuation(c.value)) {
      ++characters;
      at = next;
      continue;
    }
    if (characters > 0 && !on_word(bytes + start, at - start, characters)) return;
    if (!space && !on_word(bytes + at, c.size_bytes, size_t{1})) return;
    start = at = next;
    characters = 0;
  }
  if (characters > 0) on_word(bytes + start, normalized.size() - start, characters);
}

void WordPiece::encode_words(std::string_view normalized, Output& out) const {
  split_words(normalized, [&](const uint8_t* word, size_t size_bytes, size_t characters) {
    encode_pieces(word, size_bytes, characters, out);
    return !out.full();
  });
}

std::vector<std::string> WordPiece::words(std::string_view text) const {
  std::vector<std::string> out;
  split_words(normalize(text), [&](const uint8_t* word, size_t size_bytes, size_t) {
    out.emplace_back(reinterpret_cast<const char*>(word), size_bytes);
    return true;
  });
  return out;
}

}  // namespace manta::models

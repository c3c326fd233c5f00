#include "torch/added_tokens.h"

#include <algorithm>
#include <cstring>

#include "torch/text_rules.h"
#include "torch/utf8.h"

namespace manta::models {
namespace {

bool word_starts(std::string_view text) {
  return !text.empty() && is_word_character(decode_utf8(reinterpret_cast<const uint8_t*>(text.data()), text.size()).value);
}

bool word_ends(std::string_view text) {
  size_t start = text.size();
  while (start > 0 && text.size() - start < 4)
    if ((static_cast<uint8_t>(text[--start]) & 0xC0) != 0x80) break;
  return start < text.size() && word_starts(text.substr(start));
}

bool stands_alone(std::string_view text, size_t at, size_t size_bytes) {
  return !word_ends(text.substr(0, at)) && !word_starts(text.substr(at + size_bytes));
}

}  // namespace

AddedTokens::AddedTokens(std::vector<AddedToken> tokens) : tokens_(std::move(tokens)) {
  std::erase_if(tokens_, [](const AddedToken& token) { return token.content.empty(); });
  std::ranges::stable_sort(tokens_, [](const auto& a, const auto& b) { return a.content.size() > b.content.size(); });
  for (const AddedToken& token : tokens_) is_first_byte_[static_cast<uint8_t>(token.content[0])] = true;
  if (std::ranges::count(is_first_byte_, true) == 1) only_first_byte_ = static_cast<uint8_t>(tokens_[0].content[0]);
}

const AddedToken* AddedTokens::longest_at(std::string_view text, size_t at) const {
  for (const AddedToken& token : tokens_)
    if (text.substr(at).starts_with(token.content)) return &token;
  return nullptr;
}

AddedTokens::Match AddedTokens::find(std::string_view text, size_t from) const {
  while (!tokens_.empty() && from < text.size()) {
    if (only_first_byte_ >= 0) {
      const void* hit = std::memchr(text.data() + from, only_first_byte_, text.size() - from);
      if (hit == nullptr) break;
      from = static_cast<size_t>(static_cast<const char*>(hit) - text.data());
    } else if (!is_first_byte_[static_cast<uint8_t>(text[from])]) {
      ++from;
      continue;
    }
    const AddedToken* token = longest_at(text, from);
    if (token == nullptr) {
      ++from;
      continue;
    }
    if (!token->single_word || stands_alone(text, from, token->content.size()))
      return {from, token->content.size(), token->id};
    from += token->content.size();
  }
  return {text.size(), 0, 0};
}

}  // namespace manta::models

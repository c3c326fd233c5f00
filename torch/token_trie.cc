#include "torch/token_trie.h"

#include <algorithm>
#include <string>

namespace manta::models {

using Entry = std::pair<std::string_view, int32_t>;

/// Lays sorted entries out, parents before children, each family at the first base where all its slots are free.
class TrieBuilder {
 public:
  explicit TrieBuilder(const std::vector<Entry>& entries) : entries_(entries) { grow(TokenTrie::kAlphabet * 8); }

  Result<TokenTrie> build() {
    std::vector<Family> open = {{0, entries_.size(), 0, TokenTrie::kRoot}};
    while (!open.empty()) {
      const Family family = open.back();
      open.pop_back();
      if (!place(family, open)) return Status(Code::kInvalid, "the vocabulary is too large for the tokenizer's tables");
    }
    trie_.slots_.resize(last_used_ + 2 * TokenTrie::kAlphabet);
    return std::move(trie_);
  }

 private:
  /// The entries [first, last) share their first `depth` bytes and hang below `node`.
  struct Family {
    size_t first, last, depth;
    uint32_t node;
  };

  bool place(const Family& family, std::vector<Family>& open) {
    size_t at = family.first;
    // Sorted, so an entry that ends here comes first; of equal ones the last counts.
    for (; at < family.last && entries_[at].first.size() == family.depth; ++at)
      if (family.depth > 0) trie_.slots_[family.node].token = entries_[at].second;
    if (at == family.last) return true;

    labels_.clear();
    starts_.clear();
    for (size_t i = at; i < family.last; ++i) {
      const auto byte = static_cast<uint8_t>(entries_[i].first[family.depth]);
      if (!labels_.empty() && labels_.back() == byte) continue;
      labels_.push_back(byte);
      starts_.push_back(i);
    }
    starts_.push_back(family.last);

    const uint32_t base = find_base();
    if (base > TokenTrie::kMaxBase) return false;
    base_used_[base] = true;
    trie_.slots_[family.node].link |= base << TokenTrie::kLabelBits;
    for (size_t i = 0; i < labels_.size(); ++i) {
      const uint32_t slot = base + labels_[i];
      trie_.slots_[slot].link = labels_[i] + 1u;
      last_used_ = std::max(last_used_, slot);
      open.push_back({starts_[i], starts_[i + 1], family.depth + 1, slot});
    }
    return true;
  }

  static constexpr uint32_t kSearchWindow = 256;

  bool is_free(uint32_t slot) const { return (trie_.slots_[slot].link & TokenTrie::kLabelMask) == 0; }

  uint32_t find_base() {
    for (uint32_t slot = search_from_;; ++slot) {
      grow(slot);
      // Most of what lies far behind is taken: a few slots left unused there cost less than searching it each time.
      if (slot - search_from_ > kSearchWindow && labels_.size() <= 2) ++search_from_;
      if (!is_free(slot) || slot < TokenTrie::kAlphabet + labels_[0]) continue;
      const uint32_t base = slot - labels_[0];
      if (!base_used_[base] && std::ranges::all_of(labels_, [&](uint8_t label) { return is_free(base + label); }))
        return base;
    }
  }

  /// Room for a family whose base is `slot` or below.
  void grow(uint32_t slot) {
    const size_t wanted = size_t{slot} + 2 * TokenTrie::kAlphabet;
    if (trie_.slots_.size() >= wanted) return;
    trie_.slots_.resize(wanted * 2);
    base_used_.resize(wanted * 2);
  }

  const std::vector<Entry>& entries_;
  TokenTrie trie_;
  std::vector<bool> base_used_;
  std::vector<uint8_t> labels_;
  std::vector<size_t> starts_;
  // Bases start past the alphabet, so that slot 0 plus any byte is a slot nobody takes: the way to kNowhere.
  uint32_t search_from_ = TokenTrie::kAlphabet;
  uint32_t last_used_ = TokenTrie::kRoot;
};

Result<TokenTrie> TokenTrie::build(std::vector<Entry> entries) {
  for (const auto& [text, id] : entries) {
    if (text.size() > kLongestEntryBytes)
      return Status(Code::kInvalid,
                    "entry " + std::to_string(id) + " is longer than " + std::to_string(kLongestEntryBytes) + " bytes");
    if (id < 0) return Status(Code::kInvalid, "the id of '" + std::string(text) + "' is negative");
  }
  std::ranges::sort(entries);
  return TrieBuilder(entries).build();
}

uint32_t TokenTrie::find(std::string_view text) const {
  uint32_t node = kRoot;
  for (const char byte : text) node = step(node, static_cast<uint8_t>(byte));
  return node;
}

}  // namespace manta::models

// The vocabulary as a double-array trie: the longest entry that starts a given text, one memory access a byte.
//
// A vocabulary of 30,000 pieces takes about 1 MB and some milliseconds to build. Constant after construction, so any number
// of threads may read it.
#pragma once

#include <manta/status.h>

#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

namespace manta::models {

class TokenTrie {
 public:
  static constexpr uint32_t kNowhere = 0;  ///< The node that does not exist: every step from it leads back to it.
  static constexpr uint32_t kRoot = 1;
  static constexpr int32_t kNoToken = -1;
  static constexpr size_t kLongestEntryBytes = 1024;

  TokenTrie() : slots_(kAlphabet + 2) {}

  /// Entries with their ids (at least 0); where a text stands twice the later id counts, as in a Python dictionary. Refuses
  /// entries over kLongestEntryBytes, and vocabularies too large for the array (about 8 million nodes).
  static Result<TokenTrie> build(std::vector<std::pair<std::string_view, int32_t>> entries);

  /// The node `byte` leads to from `node`, or kNowhere.
  [[nodiscard]] uint32_t step(uint32_t node, uint8_t byte) const {
    const uint32_t to = (slots_[node].link >> kLabelBits) + byte;
    return (slots_[to].link & kLabelMask) == byte + 1u ? to : kNowhere;
  }

  /// The id of the entry that ends at `node`, or kNoToken.
  [[nodiscard]] int32_t token(uint32_t node) const { return slots_[node].token; }

  /// The node at the end of `text`, or kNowhere.
  [[nodiscard]] uint32_t find(std::string_view text) const;

  struct Match {
    int32_t token = kNoToken;
    uint32_t size_bytes = 0;
  };
  /// The longest entry that `text` starts with, looked for from `node` on. Never the empty entry.
  [[nodiscard]] Match longest(uint32_t node, const uint8_t* text, size_t size_bytes) const {
    Match best;
    for (size_t i = 0; i < size_bytes; ++i) {
      node = step(node, text[i]);
      if (node == kNowhere) break;
      if (const int32_t found = slots_[node].token; found != kNoToken) best = {found, static_cast<uint32_t>(i + 1)};
    }
    return best;
  }

  [[nodiscard]] size_t size_bytes() const { return slots_.size() * sizeof(Slot); }

 private:
  // A node is a slot. Its children sit at `base + byte`; `label` says of a slot which byte leads to it (plus one; 0: free).
  // Each node with children has a base of its own, so the label alone tells whose child a slot is.
  struct Slot {
    uint32_t link = 0;  ///< base << kLabelBits | label
    int32_t token = kNoToken;
  };
  static constexpr uint32_t kLabelBits = 9;
  static constexpr uint32_t kLabelMask = (1u << kLabelBits) - 1;
  static constexpr uint32_t kAlphabet = 256;
  static constexpr uint32_t kMaxBase = (1u << (32 - kLabelBits)) - 1;

  friend class TrieBuilder;
  std::vector<Slot> slots_;
};

}  // namespace manta::models

// Tokens that are cut out of a text before anything else is done to it, such as "[SEP]" written in a sentence.
//
// As the reference does it: leftmost match, the longest where several start at one place, and a token that must stand alone
// is passed over beside a word character. (Stripping of the white space beside a token is left out: the tokenizer drops it.)
//
// Constant after construction; any number of threads may search.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace manta::models {

struct AddedToken {
  std::string content{};
  int32_t id = 0;
  bool single_word = false;  ///< Only where no word character stands beside it.
  bool normalized = false;   ///< Looked for in the normalised text rather than in the raw one.
};

class AddedTokens {
 public:
  AddedTokens() = default;
  /// Tokens with empty content are left out.
  explicit AddedTokens(std::vector<AddedToken> tokens);

  [[nodiscard]] bool empty() const { return tokens_.empty(); }

  struct Match {
    size_t at = 0;  ///< text.size() when there is none.
    size_t size_bytes = 0;
    int32_t id = 0;
  };
  /// The first match in `text` at or after `from`.
  [[nodiscard]] Match find(std::string_view text, size_t from) const;

 private:
  [[nodiscard]] const AddedToken* longest_at(std::string_view text, size_t at) const;

  std::vector<AddedToken> tokens_;  ///< Longest first.
  std::array<bool, 256> is_first_byte_{};
  int only_first_byte_ = -1;  ///< The byte all of them start with, or -1.
};

}  // namespace manta::models

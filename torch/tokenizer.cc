#include <manta/torch.h>

#include "common/check.h"
#include "torch/tokenizer_files.h"

namespace manta {

struct Tokenizer::Impl {
  models::WordPiece pieces;
};

Tokenizer::Tokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Result<Tokenizer> Tokenizer::load(const std::string& folder) {
  MANTA_ASSIGN_OR_RETURN(models::LoadedTokenizer loaded, models::load_tokenizer(folder));
  return Tokenizer(std::make_unique<Impl>(Impl{std::move(loaded.pieces)}));
}

Result<std::vector<int32_t>> Tokenizer::encode(std::string_view text, size_t max_length) const {
  MANTA_ASSIGN_OR_RETURN(TokenBatch batch, encode({&text, 1}, max_length));
  return std::move(batch.ids);
}

Result<TokenBatch> Tokenizer::encode(std::span<const std::string_view> texts, size_t max_length) const {
  const size_t least = impl_->pieces.min_length();
  if (max_length != 0 && max_length < least)
    return Status(Code::kInvalid, "a text cannot be cut to " + std::to_string(max_length) +
                                      " tokens: the special ones alone are " + std::to_string(least));
  TokenBatch out{.ids = {}, .offsets = {0}};
  for (const std::string_view text : texts) {
    impl_->pieces.encode(text, max_length, out.ids);
    out.offsets.push_back(out.ids.size());
  }
  return out;
}

}  // namespace manta

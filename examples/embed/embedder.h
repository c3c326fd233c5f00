// The class behind manta-embed's map_batches: adds the column `embedding` to a batch of rows with a text column.
#pragma once

#include <arrow/type_fwd.h>
#include <manta/data.h>
#include <manta/torch.h>

#include <string>
#include <vector>

namespace embed {

inline constexpr const char* kEmbeddingColumn = "embedding";

/// Travels to the actors as their constructor's argument.
struct EmbedSettings {
  std::string model{};
  std::string column{};
  bool bfloat16 = false;
  bool is_on_gpu = false;
  int64_t max_length = 0;        ///< Tokens a text is cut to; 0: what the model says.
  bool nulls_are_empty = false;  ///< A null text is embedded as an empty one; otherwise it is an error.
};

manta::TextEncoderOptions encoder_options(const EmbedSettings& settings);

/// What there is to object to in rows of such a schema; empty when they can be embedded.
std::string objection_to(const arrow::Schema& schema, const std::string& column);

/// One in each actor, which makes it once: the model is loaded here, and used by one thread.
class Embedder {
 public:
  /// Throws manta::Error when the model cannot be loaded.
  explicit Embedder(EmbedSettings settings);

  /// The same rows with the column `embedding`, a fixed-size list of float32, behind the others.
  manta::Batch operator()(manta::Batch rows);

 private:
  EmbedSettings settings_;
  manta::TextEncoder encoder_;
  std::vector<std::string_view> texts_;  // kept between batches
};

}  // namespace embed

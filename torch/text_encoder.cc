#include <algorithm>

#include "common/check.h"
#include "torch/batch_plan.h"
#include "torch/model_folder.h"
#include "torch/module_loader.h"

namespace manta {
namespace {

// Enough to keep the matrix products at full rate, while the activations stay in a core's cache; a GPU wants more at once.
constexpr size_t kBatchTokensCpu = 1024;
constexpr size_t kBatchTokensGpu = 65'536;
constexpr size_t kMaxBatchTokens = 1 << 20;

Status check(const TextEncoderOptions& options) {
  if (options.dtype != Dtype::kFloat32 && options.dtype != Dtype::kBFloat16)
    return {Code::kInvalid, "an encoder computes in float32 or bfloat16, not in " + std::string(dtype_name(options.dtype))};
  if (options.batch_tokens > kMaxBatchTokens)
    return {Code::kInvalid,
            "batch_tokens is " + std::to_string(options.batch_tokens) + ", more than " + std::to_string(kMaxBatchTokens)};
  if (options.threads < 1 || options.threads > 1024)
    return {Code::kInvalid, "threads is " + std::to_string(options.threads) + ", not between 1 and 1024"};
  return {};
}

}  // namespace

struct TextEncoder::Impl {
  models::ModelFolder folder;
  size_t max_length;
  size_t batch_tokens;
  std::unique_ptr<models::EncoderModel> model;  ///< Reads the folder's mapped weights.
  uint64_t tokens_encoded = 0;

  Status encode(std::span<const std::string_view> texts, float* out);
  Status run_batch(const TokenBatch& tokens, std::span<const uint32_t> texts, float* out);

  // Kept between calls, so that a steady stream of batches allocates nothing here.
  std::vector<int32_t> packed_ids;
  std::vector<int64_t> packed_offsets;
  std::vector<float> rows;
};

TextEncoder::TextEncoder(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
TextEncoder::TextEncoder(TextEncoder&&) noexcept = default;
TextEncoder& TextEncoder::operator=(TextEncoder&&) noexcept = default;
TextEncoder::~TextEncoder() = default;

namespace {

/// The length texts are cut to, which the options may have made another.
Result<size_t> max_length_of(const models::ModelFolder& read, const std::string& folder, const TextEncoderOptions& options) {
  if (options.max_length == 0) return read.max_length;
  const size_t least = read.tokenizer.min_length() + 1, most = static_cast<size_t>(read.config.positions);
  if (options.max_length < least || options.max_length > most)
    return Status(Code::kInvalid, folder + ": max_length is " + std::to_string(options.max_length) + ", the model takes from " +
                                      std::to_string(least) + " to " + std::to_string(most));
  return options.max_length;
}

}  // namespace

Result<TextEncoderInfo> TextEncoder::inspect(const std::string& folder, const TextEncoderOptions& options) {
  MANTA_RETURN_IF_ERROR(check(options));
  MANTA_ASSIGN_OR_RETURN(const models::ModelFolder read, models::read_model_folder(folder));
  MANTA_ASSIGN_OR_RETURN(const size_t max_length, max_length_of(read, folder, options));
  return TextEncoderInfo{.dimension = static_cast<size_t>(read.config.hidden), .max_length = max_length};
}

Result<TextEncoder> TextEncoder::load(const std::string& folder, const TextEncoderOptions& options) {
  MANTA_RETURN_IF_ERROR(check(options));
  MANTA_ASSIGN_OR_RETURN(models::ModelFolder read, models::read_model_folder(folder));
  MANTA_ASSIGN_OR_RETURN(const size_t max_length, max_length_of(read, folder, options));
  MANTA_ASSIGN_OR_RETURN(const models::ModuleApi* module, models::torch_module());
  const models::EncoderSettings settings{.config = read.config,
                                         .pooling = read.pooling,
                                         .normalize = read.normalize,
                                         .dtype = options.dtype,
                                         .device = options.device,
                                         .threads = options.threads};
  auto model = module->make_encoder(settings, read.weights);
  if (!model.ok()) return model.status().with_context(folder);
  const size_t usual = options.device == "cpu" ? kBatchTokensCpu : kBatchTokensGpu;
  return TextEncoder(std::unique_ptr<Impl>(new Impl{.folder = std::move(read),
                                                    .max_length = max_length,
                                                    .batch_tokens = options.batch_tokens == 0 ? usual : options.batch_tokens,
                                                    .model = std::move(*model),
                                                    .packed_ids = {},
                                                    .packed_offsets = {},
                                                    .rows = {}}));
}

size_t TextEncoder::dimension() const { return static_cast<size_t>(impl_->folder.config.hidden); }
size_t TextEncoder::max_length() const { return impl_->max_length; }
uint64_t TextEncoder::tokens_encoded() const { return impl_->tokens_encoded; }

Result<std::vector<float>> TextEncoder::encode(std::span<const std::string_view> texts) {
  std::vector<float> out(texts.size() * dimension());
  MANTA_RETURN_IF_ERROR(impl_->encode(texts, out.data()));
  return out;
}

Status TextEncoder::encode(std::span<const std::string_view> texts, float* out) { return impl_->encode(texts, out); }

Status TextEncoder::Impl::encode(std::span<const std::string_view> texts, float* out) {
  TokenBatch tokens{.ids = {}, .offsets = {0}};
  std::vector<uint32_t> lengths;
  for (const std::string_view text : texts) {
    folder.tokenizer.encode(text, max_length, tokens.ids);
    lengths.push_back(static_cast<uint32_t>(tokens.ids.size() - tokens.offsets.back()));
    tokens.offsets.push_back(tokens.ids.size());
    if (lengths.back() == 0)  // a tokenizer without special tokens, and nothing in the text
      return {Code::kInvalid, "text " + std::to_string(lengths.size() - 1) + " has no tokens, so it has no embedding"};
  }
  const models::BatchPlan plan = models::plan_batches(lengths, batch_tokens);
  for (size_t i = 0; i + 1 < plan.batches.size(); ++i) {
    const std::span<const uint32_t> batch(plan.order.data() + plan.batches[i], plan.batches[i + 1] - plan.batches[i]);
    MANTA_RETURN_IF_ERROR(run_batch(tokens, batch, out));
  }
  return {};
}

Status TextEncoder::Impl::run_batch(const TokenBatch& tokens, std::span<const uint32_t> texts, float* out) {
  packed_ids.clear();
  packed_offsets.assign(1, 0);
  for (const uint32_t text : texts) {
    packed_ids.insert(packed_ids.end(), tokens.ids.begin() + static_cast<ptrdiff_t>(tokens.offsets[text]),
                      tokens.ids.begin() + static_cast<ptrdiff_t>(tokens.offsets[text + 1]));
    packed_offsets.push_back(static_cast<int64_t>(packed_ids.size()));
  }
  const auto dimension = static_cast<size_t>(folder.config.hidden);
  rows.resize(texts.size() * dimension);
  MANTA_RETURN_IF_ERROR(model->run({.ids = packed_ids, .offsets = packed_offsets}, rows.data()));
  for (size_t i = 0; i < texts.size(); ++i)
    std::copy_n(rows.data() + i * dimension, dimension, out + size_t{texts[i]} * dimension);
  tokens_encoded += packed_ids.size();
  return {};
}

}  // namespace manta

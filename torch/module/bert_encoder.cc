// A BERT encoder over packed sequences: everything but attention runs on one [tokens, hidden] matrix, so nothing is padded.
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/segment_reduce.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <c10/core/InferenceMode.h>

#include <cstring>

#include "torch/module/attention_kernel.h"
#include "torch/module/device.h"
#include "torch/module/packed_linear.h"
#include "torch/module_api.h"

namespace manta::models {
namespace {

struct Norm {
  at::Tensor weight, bias;
};

struct Layer {
  PackedLinear query_key_value, attention_output, intermediate, output;
  Norm attention_norm, output_norm;
};

/// Sequences of one length that lie one after another.
struct Run {
  int64_t first_token, count, length;
};

std::vector<Run> runs_of(std::span<const int64_t> offsets) {
  std::vector<Run> runs;
  for (size_t i = 0; i + 1 < offsets.size(); ++i) {
    const int64_t length = offsets[i + 1] - offsets[i];
    if (!runs.empty() && runs.back().length == length) {
      ++runs.back().count;
    } else {
      runs.push_back({offsets[i], 1, length});
    }
  }
  return runs;
}

LinearEnd end_of(Activation activation) {
  switch (activation) {
    case Activation::kGelu: return LinearEnd::kGelu;
    case Activation::kGeluTanh: return LinearEnd::kGeluTanh;
    case Activation::kRelu: return LinearEnd::kRelu;
  }
  return LinearEnd::kGelu;
}

// oneDNN compiles kernels for each number of rows it meets and keeps them: 0.4 MB and a millisecond a number. With some rows
// of padding at the end of a batch it meets few numbers.
constexpr int64_t kRowStep = 32;

class BertEncoder : public EncoderModel {
 public:
  BertEncoder(const EncoderSettings& settings, const BertWeights& weights, c10::Device device)
      : settings_(settings), device_(device), dtype_(scalar_type_of(settings.dtype)) {
    const auto head_size = static_cast<size_t>(settings.config.hidden / settings.config.heads);
    own_attention_ = device.is_cpu() && has_attention_kernel(head_size, settings.dtype == Dtype::kBFloat16);
    // On the CPU the table of words stays where the file is mapped: a batch touches few of its rows.
    words_ = device.is_cpu() ? borrow_aligned(weights.word_embeddings) : load(weights.word_embeddings);
    // Every token is of type 0 here, so its vector is added to the positions once.
    positions_ = load(weights.position_embeddings, c10::kFloat).add(load(weights.type_embeddings, c10::kFloat).select(0, 0));
    embedding_norm_ = norm(weights.embedding_norm, c10::kFloat);
    for (const BertLayer& layer : weights.layers) layers_.push_back(make_layer(layer));
  }

  Status run(const PackedBatch& batch, float* out) override {
    try {
      set_threads(settings_.threads);
      const c10::InferenceMode guard;
      at::Tensor x = embed(batch);
      const std::vector<Run> runs = runs_of(batch.offsets);
      for (const Layer& layer : layers_) x = apply(layer, x, batch, runs);
      const at::Tensor rows = pool(x.narrow(0, 0, batch.offsets.back()).to(c10::kFloat), batch).to(c10::kCPU).contiguous();
      std::memcpy(out, rows.const_data_ptr<float>(), static_cast<size_t>(rows.numel()) * sizeof(float));
      return {};
    } catch (...) {
      return status_of_exception(Code::kInternal).with_context("the encoder failed");
    }
  }

 private:
  // --- weights ---

  // A file may put a tensor at any byte; kernels want numbers at multiples of their size.
  static at::Tensor borrow_aligned(const TensorView& view) {
    const at::Tensor tensor = borrow(view);
    if (reinterpret_cast<uintptr_t>(view.data) % size_bytes_of(view.dtype) == 0) return tensor;
    at::Tensor copy = at::empty(tensor.sizes(), tensor.options());
    std::memcpy(copy.mutable_data_ptr(), view.data, tensor.nbytes());
    return copy;
  }
  at::Tensor load(const TensorView& view, std::optional<c10::ScalarType> type = {}) const {
    return borrow_aligned(view).to(at::TensorOptions().device(device_).dtype(type.value_or(dtype_)));
  }
  Norm norm(const Affine& affine, c10::ScalarType type) const {
    return {load(affine.weight, type), load(affine.bias, type)};
  }

  Layer make_layer(const BertLayer& layer) const {
    const auto linear = [&](const Affine& affine) { return PackedLinear(load(affine.weight), load(affine.bias)); };
    const at::Tensor weight = at::cat({load(layer.query.weight), load(layer.key.weight), load(layer.value.weight)});
    const at::Tensor bias = at::cat({load(layer.query.bias), load(layer.key.bias), load(layer.value.bias)});
    return {.query_key_value = PackedLinear(weight, bias),
            .attention_output = linear(layer.attention_output),
            .intermediate = linear(layer.intermediate),
            .output = linear(layer.output),
            .attention_norm = norm(layer.attention_norm, dtype_),
            .output_norm = norm(layer.output_norm, dtype_)};
  }

  // --- forward ---

  at::Tensor embed(const PackedBatch& batch) const {
    const auto tokens = static_cast<int64_t>(batch.ids.size());
    const int64_t rows = device_.is_cpu() ? (tokens + kRowStep - 1) / kRowStep * kRowStep : tokens;
    const auto indices = at::zeros({2, rows}, at::kLong);
    auto* const ids = indices.mutable_data_ptr<int64_t>();
    auto* const positions = ids + rows;
    for (size_t i = 0; i + 1 < batch.offsets.size(); ++i)
      for (int64_t t = batch.offsets[i]; t < batch.offsets[i + 1]; ++t) {
        ids[t] = batch.ids[static_cast<size_t>(t)];
        positions[t] = t - batch.offsets[i];
      }
    const at::Tensor there = indices.to(device_);
    at::Tensor x = at::embedding(words_, there.select(0, 0)).to(c10::kFloat);
    x.add_(at::embedding(positions_, there.select(0, 1)));
    return normalized(x, embedding_norm_).to(dtype_);
  }

  at::Tensor normalized(const at::Tensor& x, const Norm& norm) const {
    return at::layer_norm(x, {settings_.config.hidden}, norm.weight, norm.bias, settings_.config.norm_epsilon);
  }

  at::Tensor apply(const Layer& layer, const at::Tensor& x, const PackedBatch& batch, const std::vector<Run>& runs) const {
    const at::Tensor query_key_value = layer.query_key_value(x);
    at::Tensor out = at::empty({x.size(0), settings_.config.hidden}, x.options());
    out.narrow(0, batch.offsets.back(), x.size(0) - batch.offsets.back()).zero_();
    if (!own_attention_) {
      attend(query_key_value, runs, out);
    } else if (dtype_ == c10::kFloat) {
      attend_heads<float>(query_key_value, batch, out);
    } else {
      attend_heads<uint16_t>(query_key_value, batch, out);
    }
    at::Tensor y = layer.attention_output(out);
    y = normalized(y.add_(x), layer.attention_norm);
    at::Tensor z = layer.output(layer.intermediate(y, end_of(settings_.config.activation)));
    return normalized(z.add_(y), layer.output_norm);
  }

  /// [tokens, 3 * hidden] to [tokens, hidden]: each run of equal lengths in one call, with no mask since nothing is padded.
  void attend(const at::Tensor& query_key_value, const std::vector<Run>& runs, const at::Tensor& out) const {
    const int64_t heads = settings_.config.heads, size = settings_.config.hidden / heads;
    for (const Run& run : runs) {
      const int64_t tokens = run.count * run.length;
      const at::Tensor part =
          query_key_value.narrow(0, run.first_token, tokens).view({run.count, run.length, 3, heads, size});
      const auto head_first = [&](int64_t which) { return part.select(2, which).transpose(1, 2); };
      const at::Tensor made = at::scaled_dot_product_attention(head_first(0), head_first(1), head_first(2));
      out.narrow(0, run.first_token, tokens).view({run.count, run.length, heads, size}).copy_(made.transpose(1, 2));
    }
  }

  /// The same by our own kernel, head by head.
  template <typename Number>
  void attend_heads(const at::Tensor& query_key_value, const PackedBatch& batch, const at::Tensor& out) const {
    const auto heads = static_cast<size_t>(settings_.config.heads), hidden = static_cast<size_t>(settings_.config.hidden);
    const auto* const from = static_cast<const Number*>(query_key_value.const_data_ptr());
    auto* const to = static_cast<Number*>(out.mutable_data_ptr());
    const auto work = static_cast<int64_t>((batch.offsets.size() - 1) * heads);
    at::parallel_for(0, work, 1, [&](int64_t first, int64_t last) {
      AttentionWorkspace workspace;
      for (auto item = static_cast<size_t>(first); item < static_cast<size_t>(last); ++item) {
        const size_t sequence = item / heads, column = item % heads * (hidden / heads);
        const auto begin = static_cast<size_t>(batch.offsets[sequence]),
                   end = static_cast<size_t>(batch.offsets[sequence + 1]);
        const Number* const row = from + begin * 3 * hidden + column;
        attend_head(HeadView<Number>{.query = row,
                                     .key = row + hidden,
                                     .value = row + 2 * hidden,
                                     .row_stride = 3 * hidden,
                                     .out = to + begin * hidden + column,
                                     .out_stride = hidden,
                                     .length = end - begin,
                                     .head_size = hidden / heads},
                    workspace);
      }
    });
  }

  at::Tensor pool(const at::Tensor& x, const PackedBatch& batch) const {
    const auto count = static_cast<int64_t>(batch.offsets.size()) - 1;
    const at::Tensor offsets =
        at::tensor(at::ArrayRef<int64_t>(batch.offsets.data(), batch.offsets.size()), at::kLong).to(device_);
    at::Tensor pooled;
    switch (settings_.pooling) {
      case Pooling::kCls: pooled = x.index_select(0, offsets.narrow(0, 0, count)); break;
      case Pooling::kMean: pooled = at::segment_reduce(x, "mean", offsets.diff()); break;
      case Pooling::kMax: pooled = at::segment_reduce(x, "max", offsets.diff()); break;
    }
    if (!settings_.normalize) return pooled;
    return pooled.div(pooled.norm(2, {1}, /*keepdim=*/true).clamp_min(1e-12));
  }

  EncoderSettings settings_;
  c10::Device device_;
  c10::ScalarType dtype_;
  at::Tensor words_, positions_;
  Norm embedding_norm_;
  std::vector<Layer> layers_;
  bool own_attention_ = false;
};

}  // namespace

Result<std::unique_ptr<EncoderModel>> make_bert_encoder(const EncoderSettings& settings, const BertWeights& weights) {
  auto device = open_device(settings.device);
  if (!device.ok()) return device.status();
  try {
    set_threads(settings.threads);
    const c10::InferenceMode guard;
    return std::unique_ptr<EncoderModel>(std::make_unique<BertEncoder>(settings, weights, *device));
  } catch (...) {
    return status_of_exception(Code::kInternal).with_context("the encoder could not be made");
  }
}

}  // namespace manta::models

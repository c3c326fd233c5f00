// The border between this library and the module that links LibTorch: plain structs and two interfaces, no torch type.
//
// Both sides are built from one tree by one compiler, which `kModuleVersion` guards; the module is never unloaded.
// Nothing here throws: the module turns LibTorch's exceptions into a Status.
#pragma once

#include <manta/status.h>
#include <manta/torch.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace manta::models {

enum class Activation : uint8_t { kGelu, kGeluTanh, kRelu };
enum class Pooling : uint8_t { kMean, kCls, kMax };

struct BertConfig {
  int64_t vocabulary = 0, hidden = 0, layers = 0, heads = 0, intermediate = 0, positions = 0, types = 0;
  double norm_epsilon = 1e-12;
  Activation activation = Activation::kGelu;
};

struct Affine {
  TensorView weight, bias;  ///< A linear layer: [out, in] and [out]. A LayerNorm: both [hidden].
};

struct BertLayer {
  Affine query, key, value, attention_output, attention_norm, intermediate, output, output_norm;
};

/// Shapes checked against the config, dtypes all floating. The views belong to the caller and outlive the model.
struct BertWeights {
  TensorView word_embeddings, position_embeddings, type_embeddings;
  Affine embedding_norm;
  std::vector<BertLayer> layers;
};

struct EncoderSettings {
  BertConfig config;
  Pooling pooling = Pooling::kMean;
  bool normalize = false;
  Dtype dtype = Dtype::kFloat32;
  std::string device;
  int threads = 1;
};

/// Token ids of some sequences without padding: sequence i is ids[offsets[i]] to ids[offsets[i + 1]], none of them empty,
/// all ids and lengths within the config's bounds.
struct PackedBatch {
  std::span<const int32_t> ids;
  std::span<const int64_t> offsets;
};

class EncoderModel {
 public:
  virtual ~EncoderModel() = default;
  /// Writes the pooled embedding of each sequence, float32, row after row.
  virtual Status run(const PackedBatch& batch, float* out) = 0;
};

class ScriptModel {
 public:
  virtual ~ScriptModel() = default;
  virtual Result<std::vector<Tensor>> run(std::span<const TensorView> inputs, const std::string& method) = 0;
};

inline constexpr uint32_t kModuleVersion = 1;
inline constexpr const char* kModuleEntry = "manta_torch_module";

struct ModuleApi {
  uint32_t version = kModuleVersion;
  Result<std::unique_ptr<EncoderModel>> (*make_encoder)(const EncoderSettings& settings,
                                                        const BertWeights& weights) = nullptr;
  Result<std::unique_ptr<ScriptModel>> (*load_script)(const std::string& path, const ScriptOptions& options) = nullptr;
};

}  // namespace manta::models

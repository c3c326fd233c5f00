// Models: sentence encoders out of Hugging Face folders, their tokenizer, and TorchScript modules.
//
// No LibTorch header is included here and no program that links `manta::torch` links LibTorch: the first model that is made
// in a process loads the module `libmanta_torch_module.so`, which does (about 0.3 s and 170 MB). A tokenizer alone never
// does. The module is looked for where the variable MANTA_TORCH_LIBRARY says; without it beside the program, in `../lib`
// from there, and where it was built or installed with this library.
//
// Thread safety: a Tokenizer may be used by any number of threads at once; an encoder or a scripted model by one at a time
// (one model an actor; for more cores use more actors, which beats more threads in one).
#pragma once

#include <manta/status.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace manta {

enum class Dtype : uint8_t { kFloat32, kFloat16, kBFloat16, kFloat64, kInt64, kInt32, kInt16, kInt8, kUInt8, kBool };

/// "float32" and so on.
[[nodiscard]] std::string_view dtype_name(Dtype dtype);
[[nodiscard]] size_t size_bytes_of(Dtype dtype);

/// Somebody else's numbers, row-major and without gaps, in this process's memory.
struct TensorView {
  Dtype dtype = Dtype::kFloat32;
  std::vector<int64_t> shape{};  ///< Empty: one number.
  const void* data = nullptr;    ///< May be null when the shape holds no numbers.
};

/// A result: a view, and what keeps its memory alive.
struct Tensor : TensorView {
  std::shared_ptr<const void> owner{};  ///< Shared, because results may alias one buffer inside LibTorch.

  template <typename T>
  [[nodiscard]] std::span<const T> values() const {
    return {static_cast<const T*>(data), count()};
  }
  [[nodiscard]] size_t count() const {
    size_t product = 1;
    for (const int64_t size : shape) product *= static_cast<size_t>(size);
    return product;
  }
};

/// Token ids of several texts, one after another: text i has ids[offsets[i]] up to ids[offsets[i + 1]].
struct TokenBatch {
  std::vector<int32_t> ids;
  std::vector<size_t> offsets;  ///< One more than there are texts.
};

/// The WordPiece tokenizer of a model folder (`tokenizer.json`, or `vocab.txt` with `tokenizer_config.json`). Its ids equal
/// those of the reference implementation for any bytes: what is no UTF-8 counts as U+FFFD.
class Tokenizer {
 public:
  /// Some 10 ms. kNotFound without the files, kInvalid when they are damaged or ask for something this tokenizer does not
  /// do.
  static Result<Tokenizer> load(const std::string& folder);

  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  /// The ids with [CLS] and [SEP], at most `max_length` of them (0: no limit). kInvalid where not even those two fit.
  [[nodiscard]] Result<std::vector<int32_t>> encode(std::string_view text, size_t max_length = 0) const;
  [[nodiscard]] Result<TokenBatch> encode(std::span<const std::string_view> texts, size_t max_length = 0) const;

 private:
  struct Impl;
  explicit Tokenizer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

struct TextEncoderOptions {
  Dtype dtype =
      Dtype::kFloat32;         ///< What is computed in: kFloat32 or kBFloat16 (faster where the CPU has the instructions).
  size_t max_length = 0;       ///< Texts are cut to so many tokens; 0: what the model folder says.
  size_t batch_tokens = 0;     ///< Tokens that go through the model at once: memory against speed. 0: a good value.
  std::string device = "cpu";  ///< "cpu", "cuda" or "cuda:N".
  int threads = 1;             ///< LibTorch's threads in this process, for all models of it.
};

/// What a model folder says of its encoder.
struct TextEncoderInfo {
  size_t dimension = 0;   ///< Numbers in one embedding.
  size_t max_length = 0;  ///< Tokens, [CLS] and [SEP] included, a text is cut to.
};

/// A sentence encoder: text to a vector. Reads a Hugging Face folder of a BERT model as it is: config.json, the tokenizer's
/// files, model.safetensors, and what sentence-transformers adds (modules.json with pooling and normalisation). The weights
/// are mapped from the file, so it must not be changed while the encoder lives.
class TextEncoder {
 public:
  /// kNotFound for a missing folder or file, kInvalid for damaged, inconsistent or unsupported ones, each naming the file
  /// and the reason; kUnavailable when LibTorch or the device cannot be had.
  static Result<TextEncoder> load(const std::string& folder, const TextEncoderOptions& options = {});

  /// Everything `load` checks of folder and options, without LibTorch and without reading the weights: for a program that
  /// loads the model in other processes and wants to know first. Some 20 ms. Errors as `load`.
  static Result<TextEncoderInfo> inspect(const std::string& folder, const TextEncoderOptions& options = {});

  TextEncoder(TextEncoder&&) noexcept;
  TextEncoder& operator=(TextEncoder&&) noexcept;
  ~TextEncoder();

  [[nodiscard]] size_t dimension() const;   ///< Numbers in one embedding.
  [[nodiscard]] size_t max_length() const;  ///< Tokens, [CLS] and [SEP] included, a text is cut to.

  /// One row of `dimension()` numbers per text, in the order given. An empty text has an embedding like any other. Texts of
  /// any lengths may be mixed: nothing is padded. The second form writes to `out`, which has room for all rows.
  Result<std::vector<float>> encode(std::span<const std::string_view> texts);
  Status encode(std::span<const std::string_view> texts, float* out);

  /// Tokens that went through the model so far.
  [[nodiscard]] uint64_t tokens_encoded() const;

 private:
  struct Impl;
  explicit TextEncoder(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

struct ScriptOptions {
  std::string device = "cpu";
  int threads = 1;
};

/// A module exported by torch.jit.script or torch.jit.trace.
class TorchScriptModel {
 public:
  /// kNotFound without the file, kInvalid when it holds no TorchScript module, kUnavailable as above.
  static Result<TorchScriptModel> load(const std::string& path, const ScriptOptions& options = {});

  TorchScriptModel(TorchScriptModel&&) noexcept;
  TorchScriptModel& operator=(TorchScriptModel&&) noexcept;
  ~TorchScriptModel();

  /// Calls `method` with tensors; gives back its result, or the parts of a tuple or list of tensors, in host memory. Inputs
  /// are not copied on the CPU. kInvalid when a shape does not fit its data, kTaskFailed with the module's own message when
  /// it raises, or when the result holds anything but tensors.
  Result<std::vector<Tensor>> forward(std::span<const TensorView> inputs, const std::string& method = "forward");

 private:
  struct Impl;
  explicit TorchScriptModel(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

namespace detail {
/// Where the module lies beside the libraries this program was built with. Kept until the first model is made.
bool set_torch_module_path(const char* path);
#ifdef MANTA_TORCH_MODULE_PATH  // defined for whoever links manta::torch, in the build tree or installed
inline const bool torch_module_path_is_set = set_torch_module_path(MANTA_TORCH_MODULE_PATH);
#endif
}  // namespace detail

}  // namespace manta

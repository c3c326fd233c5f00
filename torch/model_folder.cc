#include "torch/model_folder.h"

#include <algorithm>

#include "common/check.h"
#include "torch/json_file.h"
#include "torch/tokenizer_files.h"

namespace manta::models {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

/// The three parts sentence-transformers builds an encoder of, by folder.
struct Modules {
  fs::path transformer;
  std::optional<fs::path> pooling;
  bool normalize = false;
};

/// A folder named inside a model folder, which may not lead out of it.
Result<fs::path> inner_folder(const JsonObject& module, const fs::path& root) {
  MANTA_ASSIGN_OR_RETURN(const fs::path inner, module.string_or("path", ""));
  if (inner.is_absolute() || std::ranges::find(inner, fs::path("..")) != inner.end())
    return module.error("the path " + in_quotes(inner.string()) + " leads out of the model folder");
  return inner.empty() ? root : root / inner;
}

Result<Modules> read_modules(const fs::path& folder) {
  const fs::path path = folder / "modules.json";
  if (!fs::exists(path)) return Modules{folder, std::nullopt, false};
  MANTA_ASSIGN_OR_RETURN(const std::string text, read_file(path));
  MANTA_ASSIGN_OR_RETURN(const json list, parse_json(text, path.string()));
  const std::string source = path.string();
  if (!list.is_array()) return Status(Code::kInvalid, source + ": is no list of modules");

  constexpr std::string_view kOrder[] = {"Transformer", "Pooling", "Normalize"};
  Modules out;
  for (size_t i = 0; i < list.size(); ++i) {
    MANTA_ASSIGN_OR_RETURN(const JsonObject module, JsonObject::make(list[i], source));
    MANTA_ASSIGN_OR_RETURN(std::string type, module.string("type"));
    type = type.substr(type.rfind('.') + 1);
    if (i >= std::size(kOrder) || type != kOrder[i])
      return module.error("module " + std::to_string(i) + " is a " + type +
                          "; supported are Transformer, Pooling and then perhaps Normalize");
    MANTA_ASSIGN_OR_RETURN(const fs::path inner, inner_folder(module, folder));
    if (i == 0) out.transformer = inner;
    if (i == 1) out.pooling = inner;
    if (i == 2) out.normalize = true;
  }
  if (list.size() < 2) return Status(Code::kInvalid, source + ": names no pooling");
  return out;
}

Result<Pooling> read_pooling(const fs::path& folder, int64_t hidden) {
  MANTA_ASSIGN_OR_RETURN(const JsonObject file, JsonObject::read(folder / "config.json"));
  MANTA_ASSIGN_OR_RETURN(const int64_t dimension, file.integer_or("word_embedding_dimension", 1, 1 << 20, hidden));
  if (dimension != hidden)
    return file.error("'word_embedding_dimension' is " + std::to_string(dimension) + ", the model's hidden size " +
                      std::to_string(hidden));
  constexpr std::pair<std::string_view, Pooling> kModes[] = {{"mean", Pooling::kMean}, {"mean_tokens", Pooling::kMean},
                                                             {"cls", Pooling::kCls},   {"cls_token", Pooling::kCls},
                                                             {"max", Pooling::kMax},   {"max_tokens", Pooling::kMax}};
  std::vector<std::string> chosen;
  for (const auto& [key, value] : file.json().items()) {
    if (key == "pooling_mode" && value.is_string()) chosen.push_back(value.get<std::string>());
    if (key.starts_with("pooling_mode_") && value.is_boolean() && value.get<bool>()) chosen.push_back(key.substr(13));
  }
  if (chosen.size() != 1)
    return file.error("asks for " + std::to_string(chosen.size()) + " pooling modes; one is supported");
  for (const auto& [name, mode] : kModes)
    if (name == chosen[0]) return mode;
  return file.error("the pooling mode " + in_quotes(chosen[0]) + " is not supported; mean, cls and max are");
}

Result<BertConfig> read_config(const JsonObject& file) {
  MANTA_ASSIGN_OR_RETURN(const std::string type, file.string("model_type"));
  if (type != "bert") return file.error("the model is a " + in_quotes(type) + "; only 'bert' is supported");
  MANTA_ASSIGN_OR_RETURN(const std::string positions, file.string_or("position_embedding_type", "absolute"));
  if (positions != "absolute")
    return file.error("position embeddings are " + in_quotes(positions) + "; only 'absolute' ones are supported");
  BertConfig out;
  MANTA_ASSIGN_OR_RETURN(out.vocabulary, file.integer("vocab_size", 1, 1 << 24));
  MANTA_ASSIGN_OR_RETURN(out.hidden, file.integer("hidden_size", 1, 1 << 16));
  MANTA_ASSIGN_OR_RETURN(out.layers, file.integer("num_hidden_layers", 1, 1 << 10));
  MANTA_ASSIGN_OR_RETURN(out.heads, file.integer("num_attention_heads", 1, 1 << 10));
  MANTA_ASSIGN_OR_RETURN(out.intermediate, file.integer("intermediate_size", 1, 1 << 18));
  MANTA_ASSIGN_OR_RETURN(out.positions, file.integer("max_position_embeddings", 2, 1 << 20));
  MANTA_ASSIGN_OR_RETURN(out.types, file.integer_or("type_vocab_size", 1, 1 << 10, 2));
  MANTA_ASSIGN_OR_RETURN(out.norm_epsilon, file.number_or("layer_norm_eps", 0, 1, 1e-12));
  if (out.hidden % out.heads != 0)
    return file.error("'hidden_size' " + std::to_string(out.hidden) + " is no multiple of 'num_attention_heads' " +
                      std::to_string(out.heads));
  MANTA_ASSIGN_OR_RETURN(const std::string act, file.string_or("hidden_act", "gelu"));
  if (act == "gelu") {
    out.activation = Activation::kGelu;
  } else if (act == "gelu_new" || act == "gelu_pytorch_tanh") {
    out.activation = Activation::kGeluTanh;
  } else if (act == "relu") {
    out.activation = Activation::kRelu;
  } else {
    return file.error("the activation " + in_quotes(act) + " is not supported");
  }
  return out;
}

/// Finds the weights of one model by name and checks each against what the config says.
class WeightFinder {
 public:
  WeightFinder(const SafeTensors& tensors, const BertConfig& config) : tensors_(tensors), config_(config) {
    if (tensors.find("bert.embeddings.word_embeddings.weight") != nullptr) prefix_ = "bert.";
  }

  Result<BertWeights> find_all() {
    const BertConfig& c = config_;
    BertWeights out;
    take("embeddings.word_embeddings.weight", {c.vocabulary, c.hidden}, out.word_embeddings);
    take("embeddings.position_embeddings.weight", {c.positions, c.hidden}, out.position_embeddings);
    take("embeddings.token_type_embeddings.weight", {c.types, c.hidden}, out.type_embeddings);
    take_norm("embeddings.LayerNorm", out.embedding_norm);
    // One bad layer is reason enough: a hostile count of layers costs one failed look-up.
    for (int64_t i = 0; i < c.layers && status_.ok(); ++i)
      take_layer("encoder.layer." + std::to_string(i) + ".", out.layers.emplace_back());
    if (!status_.ok()) return status_;
    return out;
  }

 private:
  void take_layer(const std::string& at, BertLayer& layer) {
    const int64_t h = config_.hidden;
    take_linear(at + "attention.self.query", h, h, layer.query);
    take_linear(at + "attention.self.key", h, h, layer.key);
    take_linear(at + "attention.self.value", h, h, layer.value);
    take_linear(at + "attention.output.dense", h, h, layer.attention_output);
    take_norm(at + "attention.output.LayerNorm", layer.attention_norm);
    take_linear(at + "intermediate.dense", config_.intermediate, h, layer.intermediate);
    take_linear(at + "output.dense", h, config_.intermediate, layer.output);
    take_norm(at + "output.LayerNorm", layer.output_norm);
  }

  void take_linear(const std::string& name, int64_t out, int64_t in, Affine& affine) {
    take(name + ".weight", {out, in}, affine.weight);
    take(name + ".bias", {out}, affine.bias);
  }
  void take_norm(const std::string& name, Affine& affine) {
    take(name + ".weight", {config_.hidden}, affine.weight);
    take(name + ".bias", {config_.hidden}, affine.bias);
  }

  void take(const std::string& name, const std::vector<int64_t>& shape, TensorView& view) {
    if (!status_.ok()) return;
    const TensorView* found = tensors_.find(prefix_ + name);
    if (found == nullptr) return fail("the tensor " + in_quotes(prefix_ + name) + " is missing");
    if (found->shape != shape)
      return fail("the tensor " + in_quotes(prefix_ + name) + " has the shape " + text(found->shape) +
                  ", config.json asks for " + text(shape));
    if (found->dtype != Dtype::kFloat32 && found->dtype != Dtype::kFloat16 && found->dtype != Dtype::kBFloat16)
      return fail("the tensor " + in_quotes(prefix_ + name) + " is of dtype " + std::string(dtype_name(found->dtype)) +
                  "; float32, float16 and bfloat16 are supported");
    view = *found;
  }

  static std::string text(const std::vector<int64_t>& shape) {
    std::string out = "[";
    for (const int64_t size : shape) out += (out.size() > 1 ? ", " : "") + std::to_string(size);
    return out + "]";
  }
  void fail(const std::string& what) { status_ = Status(Code::kInvalid, tensors_.path() + ": " + what); }

  const SafeTensors& tensors_;
  const BertConfig& config_;
  std::string prefix_;
  Status status_;
};

/// sentence_bert_config.json, and the prompt a model may want before each text.
struct SentenceSettings {
  size_t max_length = 0;  ///< 0: not said.
  bool lowercase_whole_text = false;
};

Result<SentenceSettings> read_sentence_settings(const fs::path& folder, const fs::path& transformer) {
  SentenceSettings out;
  if (fs::exists(transformer / "sentence_bert_config.json")) {
    MANTA_ASSIGN_OR_RETURN(const JsonObject file, JsonObject::read(transformer / "sentence_bert_config.json"));
    MANTA_ASSIGN_OR_RETURN(const int64_t length, file.integer_or("max_seq_length", 1, 1 << 20, 0));
    out.max_length = static_cast<size_t>(length);
    MANTA_ASSIGN_OR_RETURN(out.lowercase_whole_text, file.boolean_or("do_lower_case", false));
  }
  if (fs::exists(folder / "config_sentence_transformers.json")) {
    MANTA_ASSIGN_OR_RETURN(const JsonObject file, JsonObject::read(folder / "config_sentence_transformers.json"));
    if (file.has("default_prompt_name")) return file.error("'default_prompt_name' is set; prompts are not supported");
  }
  return out;
}

}  // namespace

Result<ModelFolder> read_model_folder(const fs::path& folder) {
  std::error_code ignored;
  if (!fs::is_directory(folder, ignored))
    return Status(Code::kNotFound, folder.string() + ": there is no such model folder");
  MANTA_ASSIGN_OR_RETURN(const Modules modules, read_modules(folder));
  const fs::path& core = modules.transformer;
  MANTA_ASSIGN_OR_RETURN(const JsonObject config_file, JsonObject::read(core / "config.json"));
  MANTA_ASSIGN_OR_RETURN(const BertConfig config, read_config(config_file));
  Pooling pooling = Pooling::kMean;
  if (modules.pooling) {
    MANTA_ASSIGN_OR_RETURN(pooling, read_pooling(*modules.pooling, config.hidden));
  }
  MANTA_ASSIGN_OR_RETURN(const SentenceSettings settings, read_sentence_settings(folder, core));
  MANTA_ASSIGN_OR_RETURN(LoadedTokenizer tokenizer,
                         load_tokenizer(core, {.lowercase_whole_text = settings.lowercase_whole_text}));
  if (tokenizer.pieces.id_count() > config.vocabulary)
    return config_file.error("'vocab_size' is " + std::to_string(config.vocabulary) + ", the tokenizer has ids up to " +
                             std::to_string(tokenizer.pieces.id_count() - 1));

  size_t max_length = settings.max_length != 0 ? settings.max_length : tokenizer.model_max_length;
  const auto positions = static_cast<size_t>(config.positions);
  if (max_length == 0 || max_length > positions) max_length = positions;
  if (max_length <= tokenizer.pieces.min_length())
    return config_file.error("texts would be cut to " + std::to_string(max_length) +
                             " tokens, which leaves no room for text");

  MANTA_ASSIGN_OR_RETURN(SafeTensors tensors, SafeTensors::open(core / "model.safetensors"));
  MANTA_ASSIGN_OR_RETURN(BertWeights weights, WeightFinder(tensors, config).find_all());
  return ModelFolder{.config = config,
                     .weights = std::move(weights),
                     .pooling = pooling,
                     .normalize = modules.normalize,
                     .max_length = max_length,
                     .tensors = std::move(tensors),
                     .tokenizer = std::move(tokenizer.pieces)};
}

}  // namespace manta::models

#include "torch/model_folder.h"

#include <gmock/gmock.h>

#include "torch/test_support.h"

namespace manta::models {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;

/// A copy of the committed model folder that a test may damage.
class DamagedFolder {
 public:
  DamagedFolder() { fs::copy(test_data("tiny"), folder_.path(), fs::copy_options::recursive); }

  [[nodiscard]] fs::path path(const std::string& name = "") const {
    return name.empty() ? folder_.path() : folder_.path() / name;
  }
  [[nodiscard]] Status status() const { return read_model_folder(folder_.path()).status(); }
  [[nodiscard]] json get(const std::string& name) const { return json::parse(read_text(path(name))); }

  void set(const std::string& file, const std::string& key, const json& value) const {
    json changed = get(file);
    changed[key] = value;
    write_text(path(file), changed.dump());
  }

 private:
  TestFolder folder_;
};

Status after_setting(const std::string& file, const std::string& key, const json& value) {
  const DamagedFolder folder;
  folder.set(file, key, value);
  return folder.status();
}

Status after_removing(const std::string& file) {
  const DamagedFolder folder;
  fs::remove_all(folder.path(file));
  return folder.status();
}

/// The header of the safetensors file changed by `change`, its data as they were.
template <typename Change>
Status after_changing_header(const Change& change) {
  const DamagedFolder folder;
  const std::string file = read_text(folder.path("model.safetensors"));
  uint64_t size = 0;
  std::memcpy(&size, file.data(), sizeof size);
  json header = json::parse(file.substr(8, size));
  change(header);
  const std::string text = header.dump();
  size = text.size();
  write_text(folder.path("model.safetensors"),
             std::string(reinterpret_cast<const char*>(&size), 8) + text +
                 file.substr(8 + static_cast<size_t>(*reinterpret_cast<const uint64_t*>(file.data()))));
  return folder.status();
}

TEST(ModelFolder, ReadsWhatIsThere) {
  const auto read = read_model_folder(test_data("tiny"));
  ASSERT_TRUE(read.ok()) << read.status().to_string();
  EXPECT_EQ(read->config.hidden, 32);
  EXPECT_EQ(read->config.layers, 2);
  EXPECT_EQ(read->weights.layers.size(), 2u);
  EXPECT_EQ(read->max_length, 24u);
  EXPECT_TRUE(read->normalize);
  EXPECT_EQ(read->pooling, Pooling::kMean);
}

TEST(ModelFolder, DefaultsAreThoseOfTheReference) {
  const DamagedFolder folder;
  fs::remove(folder.path("modules.json"));
  fs::remove_all(folder.path("1_Pooling"));
  fs::remove(folder.path("sentence_bert_config.json"));
  const auto read = read_model_folder(folder.path());
  ASSERT_TRUE(read.ok()) << read.status().to_string();
  EXPECT_FALSE(read->normalize);
  EXPECT_EQ(read->max_length, 40u);
}

TEST(ModelFolder, NamesTheFileThatIsMissing) {
  EXPECT_THAT(read_model_folder("/nowhere/model").status().message(),
              HasSubstr("/nowhere/model: there is no such model folder"));
  for (const char* file : {"config.json", "model.safetensors", "1_Pooling/config.json"}) {
    const Status status = after_removing(file);
    EXPECT_EQ(status.code(), Code::kNotFound) << file;
    EXPECT_THAT(status.message(), HasSubstr(file));
  }
  EXPECT_THAT(after_removing("vocab.txt").message(), HasSubstr("there is no tokenizer.json and no vocab.txt"));
}

TEST(ModelFolder, RefusesConfigsItCannotFollow) {
  EXPECT_THAT(after_setting("config.json", "model_type", "roberta").message(),
              HasSubstr("config.json: the model is a 'roberta'"));
  EXPECT_THAT(after_setting("config.json", "hidden_act", "swish").message(),
              HasSubstr("the activation 'swish' is not supported"));
  EXPECT_THAT(after_setting("config.json", "position_embedding_type", "relative_key").message(),
              HasSubstr("'relative_key'"));
  EXPECT_THAT(after_setting("config.json", "num_attention_heads", 5).message(),
              HasSubstr("'hidden_size' 32 is no multiple"));
  EXPECT_THAT(after_setting("config.json", "hidden_size", "32").message(), HasSubstr("'hidden_size' is no integer"));
  EXPECT_THAT(after_setting("config.json", "num_hidden_layers", -1).message(), HasSubstr("'num_hidden_layers' is -1"));
  EXPECT_THAT(after_setting("config.json", "vocab_size", 10).message(), HasSubstr("the tokenizer has ids up to"));
  EXPECT_THAT(after_setting("1_Pooling/config.json", "pooling_mode_cls_token", true).message(),
              HasSubstr("asks for 2 pooling modes"));
  EXPECT_THAT(after_setting("1_Pooling/config.json", "word_embedding_dimension", 8).message(),
              HasSubstr("the model's hidden size 32"));
  EXPECT_THAT(after_setting("sentence_bert_config.json", "max_seq_length", 2).message(),
              HasSubstr("leaves no room for text"));
  const DamagedFolder folder;
  json modules = folder.get("modules.json");
  modules[2]["type"] = "sentence_transformers.models.Dense";
  write_text(folder.path("modules.json"), modules.dump());
  EXPECT_THAT(folder.status().message(), HasSubstr("module 2 is a Dense"));
  modules[1]["path"] = "../elsewhere";
  write_text(folder.path("modules.json"), modules.dump());
  EXPECT_THAT(folder.status().message(), HasSubstr("leads out of the model folder"));
}

TEST(ModelFolder, RefusesWeightsThatDoNotFit) {
  EXPECT_THAT(
      after_setting("config.json", "intermediate_size", 64).message(),
      AllOf(HasSubstr("model.safetensors: the tensor 'encoder.layer.0.intermediate.dense.weight' has the shape [48, 32]"),
            HasSubstr("config.json asks for [64, 32]")));
  EXPECT_THAT(after_setting("config.json", "num_hidden_layers", 1000).message(),
              HasSubstr("'encoder.layer.2.attention.self.query.weight' is missing"));
  EXPECT_THAT(after_changing_header([](json& header) { header["embeddings.LayerNorm.bias"]["dtype"] = "I32"; }).message(),
              HasSubstr("'embeddings.LayerNorm.bias' is of dtype int32; float32, float16 and bfloat16 are supported"));
  EXPECT_TRUE(after_changing_header([](json&) {}).ok());
  const DamagedFolder folder;
  fs::resize_file(folder.path("model.safetensors"), fs::file_size(folder.path("model.safetensors")) - 1000);
  EXPECT_THAT(folder.status().message(), AllOf(HasSubstr("model.safetensors"), HasSubstr("is it truncated?")));
}

}  // namespace
}  // namespace manta::models

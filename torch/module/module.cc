#include "torch/module_api.h"

namespace manta::models {

Result<std::unique_ptr<EncoderModel>> make_bert_encoder(const EncoderSettings& settings, const BertWeights& weights);
Result<std::unique_ptr<ScriptModel>> load_script_model(const std::string& path, const ScriptOptions& options);

}  // namespace manta::models

extern "C" __attribute__((visibility("default"))) const manta::models::ModuleApi* manta_torch_module() {
  static const manta::models::ModuleApi api{.make_encoder = &manta::models::make_bert_encoder,
                                            .load_script = &manta::models::load_script_model};
  return &api;
}

// What a model folder says: the encoder's shape, its weights, pooling, normalisation and length, checked against each other.
//
// Reads Hugging Face's config.json and model.safetensors, and where they are there, sentence-transformers' modules.json,
// sentence_bert_config.json and the pooling's config.json. Without modules.json the defaults of that library hold: the mean
// of all tokens, not normalised. Whatever is missing, damaged, inconsistent or not supported is an error with file and
// reason.
#pragma once

#include <manta/status.h>

#include <filesystem>

#include "torch/module_api.h"
#include "torch/safetensors.h"
#include "torch/wordpiece.h"

namespace manta::models {

struct ModelFolder {
  BertConfig config;
  BertWeights weights;
  Pooling pooling = Pooling::kMean;
  bool normalize = false;
  size_t max_length = 0;  ///< At most the positions the model has.
  SafeTensors tensors;    ///< What `weights` looks at.
  WordPiece tokenizer;
};

Result<ModelFolder> read_model_folder(const std::filesystem::path& folder);

}  // namespace manta::models

// The files of a model folder: safetensors and JSON.
#include <sys/mman.h>
#include <unistd.h>

#include <span>

#include "common/check.h"
#include "tests/fuzz/fuzz.h"
#include "torch/json_file.h"
#include "torch/safetensors.h"

namespace manta::fuzz {
namespace {

std::string safetensors(const std::string& header, size_t data_bytes) {
  const uint64_t size = header.size();
  std::string file(reinterpret_cast<const char*>(&size), sizeof size);
  return file.append(header).append(data_bytes, 'x');
}

/// Reads every byte of every tensor: what `open` accepts must lie inside the file.
void check_safetensors(const uint8_t* data, size_t size) {
  const int file = memfd_create("fuzz", MFD_CLOEXEC);
  MANTA_CHECK(file >= 0 && write(file, data, size) == static_cast<ssize_t>(size));
  const Result<models::SafeTensors> opened = models::SafeTensors::open("/proc/self/fd/" + std::to_string(file));
  if (opened.ok()) {
    unsigned sum = 0;
    for (const auto& [name, tensor] : opened->tensors()) {
      MANTA_CHECK(opened->find(name) == &tensor);
      size_t bytes = size_bytes_of(tensor.dtype);
      for (const int64_t extent : tensor.shape) bytes *= static_cast<size_t>(extent);
      for (const std::byte byte : std::span(static_cast<const std::byte*>(tensor.data), bytes))
        sum += std::to_integer<unsigned>(byte);
    }
    volatile unsigned used = sum;
    (void)used;
  }
  close(file);
}

void check_json(std::string_view text) {
  Result<nlohmann::json> json = models::parse_json(text, "fuzz");
  if (!json.ok()) return;
  const Result<models::JsonObject> object = models::JsonObject::make(*std::move(json), "fuzz");
  if (!object.ok()) return;
  (void)object->integer("hidden_size", 1, 100'000).ok();
  (void)object->number_or("layer_norm_eps", 0, 1, 1e-12).ok();
  (void)object->string("model_type").ok();
  (void)object->boolean_or("do_lower_case", true).ok();
  (void)object->object("normalizer").ok();
}

}  // namespace

std::vector<std::string> seeds() {
  const auto file = [](const std::string& header, size_t data_bytes) {
    return std::string("s").append(safetensors(header, data_bytes));
  };
  return {
      file(R"({"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}})", 16),
      file(R"({"__metadata__":{"k":"v"},"a":{"dtype":"I64","shape":[1],"data_offsets":[0,8]},)"
           R"("b":{"dtype":"F16","shape":[3],"data_offsets":[8,14]}})",
           14),
      file("{}", 0),
      R"(j{"hidden_size":384,"layer_norm_eps":1e-12,"model_type":"bert","do_lower_case":true,"normalizer":{"type":"B"}})",
      "j[[[[]]]]",
  };
}

}  // namespace manta::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  if (data[0] == 'j') {
    manta::fuzz::check_json({reinterpret_cast<const char*>(data) + 1, size - 1});
  } else {
    manta::fuzz::check_safetensors(data + 1, size - 1);
  }
  return 0;
}

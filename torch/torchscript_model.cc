#include <filesystem>

#include "common/check.h"
#include "torch/module_loader.h"

namespace manta {
namespace {

constexpr size_t kMaxRank = 64;

Status check(const TensorView& view, size_t index) {
  const std::string which = "input " + std::to_string(index);
  if (view.shape.size() > kMaxRank)
    return {Code::kInvalid, which + " has more than " + std::to_string(kMaxRank) + " dimensions"};
  uint64_t bytes = size_bytes_of(view.dtype);
  for (const int64_t size : view.shape)
    if (size < 0 || __builtin_mul_overflow(bytes, static_cast<uint64_t>(size), &bytes))
      return {Code::kInvalid, which + " has a size that is negative or too large"};
  if (view.data == nullptr && bytes > 0) return {Code::kInvalid, which + " has no data"};
  return {};
}

}  // namespace

struct TorchScriptModel::Impl {
  std::unique_ptr<models::ScriptModel> model;
};

TorchScriptModel::TorchScriptModel(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
TorchScriptModel::TorchScriptModel(TorchScriptModel&&) noexcept = default;
TorchScriptModel& TorchScriptModel::operator=(TorchScriptModel&&) noexcept = default;
TorchScriptModel::~TorchScriptModel() = default;

Result<TorchScriptModel> TorchScriptModel::load(const std::string& path, const ScriptOptions& options) {
  std::error_code ignored;
  if (!std::filesystem::is_regular_file(path, ignored)) return Status(Code::kNotFound, path + ": there is no such file");
  if (options.threads < 1 || options.threads > 1024)
    return Status(Code::kInvalid, "threads is " + std::to_string(options.threads) + ", not between 1 and 1024");
  MANTA_ASSIGN_OR_RETURN(const models::ModuleApi* module, models::torch_module());
  auto model = module->load_script(path, options);
  if (!model.ok()) return model.status().with_context(path);
  return TorchScriptModel(std::make_unique<Impl>(Impl{std::move(*model)}));
}

Result<std::vector<Tensor>> TorchScriptModel::forward(std::span<const TensorView> inputs, const std::string& method) {
  for (size_t i = 0; i < inputs.size(); ++i) MANTA_RETURN_IF_ERROR(check(inputs[i], i));
  return impl_->model->run(inputs, method);
}

}  // namespace manta

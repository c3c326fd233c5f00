// TorchScript modules behind the border's interface.
#include <c10/core/InferenceMode.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/serialization/import.h>

#include "torch/module/device.h"
#include "torch/module_api.h"

namespace manta::models {
namespace {

class TorchScript : public ScriptModel {
 public:
  TorchScript(::torch::jit::Module module, c10::Device device, int threads)
      : module_(std::move(module)), device_(device), threads_(threads) {}

  Result<std::vector<Tensor>> run(std::span<const TensorView> inputs, const std::string& method) override {
    try {
      set_threads(threads_);
      const c10::InferenceMode guard;
      const auto found = module_.find_method(method);
      if (!found) return Status(Code::kInvalid, "the module has no method '" + method + "'");
      std::vector<c10::IValue> arguments;
      for (const TensorView& input : inputs) arguments.emplace_back(borrow(input).to(device_));
      return collect((*found)(std::move(arguments)));
    } catch (...) {
      return status_of_exception(Code::kTaskFailed);
    }
  }

 private:
  static Result<std::vector<Tensor>> collect(const c10::IValue& value) {
    std::vector<Tensor> out;
    const auto add = [&](const c10::IValue& part) -> Status {
      if (!part.isTensor())
        return {Code::kTaskFailed, "the module returned a " + part.tagKind() + " where a tensor was wanted"};
      auto tensor = hand_out(part.toTensor());
      if (tensor.ok()) out.push_back(std::move(*tensor));
      return tensor.status();
    };
    Status status;
    if (value.isTuple()) {
      for (const c10::IValue& part : value.toTupleRef().elements())
        if (status.ok()) status = add(part);
    } else if (value.isTensorList()) {
      for (const at::Tensor& part : value.toTensorVector())
        if (status.ok()) status = add(part);
    } else {
      status = add(value);
    }
    if (!status.ok()) return status;
    return out;
  }

  static Result<Tensor> hand_out(const at::Tensor& tensor) {
    const auto dtype = dtype_of(tensor.scalar_type());
    if (!dtype.ok()) return dtype.status();
    const auto kept = std::make_shared<at::Tensor>(tensor.to(c10::kCPU).contiguous());
    Tensor out;
    out.dtype = *dtype;
    out.shape = kept->sizes().vec();
    out.data = kept->const_data_ptr();
    out.owner = kept;
    return out;
  }

  ::torch::jit::Module module_;
  c10::Device device_;
  int threads_;
};

}  // namespace

Result<std::unique_ptr<ScriptModel>> load_script_model(const std::string& path, const ScriptOptions& options) {
  auto device = open_device(options.device);
  if (!device.ok()) return device.status();
  try {
    auto module = ::torch::jit::load(path, *device);
    module.eval();
    return std::unique_ptr<ScriptModel>(std::make_unique<TorchScript>(std::move(module), *device, options.threads));
  } catch (...) {
    return status_of_exception(Code::kInvalid).with_context("is no TorchScript module that can be loaded");
  }
}

}  // namespace manta::models

#include "torch/module/device.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <dlfcn.h>

#include <charconv>
#include <filesystem>
#include <mutex>
#include <new>

namespace manta::models {
namespace {

/// Loads the CUDA half of LibTorch, which registers itself with the half that is there. The registry is read once, by the
/// first who asks for CUDA in any way: nothing here may ask before the library is loaded.
Status load_cuda() {
  static std::mutex mutex;
  static bool loaded = false;
  const std::lock_guard lock(mutex);
  if (!loaded) {
    Dl_info about{};
    if (::dladdr(reinterpret_cast<const void*>(static_cast<void (*)(int)>(&at::set_num_threads)), &about) == 0)
      return {Code::kInternal, "cannot tell where LibTorch lies"};
    const auto library = std::filesystem::path(about.dli_fname).parent_path() / "libtorch_cuda.so";
    if (::dlopen(library.c_str(), RTLD_NOW | RTLD_GLOBAL) == nullptr)
      return {Code::kUnavailable, std::string("CUDA cannot be used: ") + ::dlerror()};
    loaded = true;
  }
  if (!at::globalContext().hasCUDA()) return {Code::kUnavailable, "CUDA cannot be used: LibTorch sees no working GPU"};
  return {};
}

}  // namespace

Result<c10::Device> open_device(const std::string& name) {
  if (name == "cpu") return c10::Device(c10::kCPU);
  int index = 0;
  if (name != "cuda") {
    const char* const end = name.data() + name.size();
    const bool named = name.starts_with("cuda:");
    const auto parsed = named ? std::from_chars(name.data() + 5, end, index) : std::from_chars_result{};
    if (!named || parsed.ec != std::errc() || parsed.ptr != end || index < 0 || index > 127)
      return Status(Code::kInvalid, "'" + name + "' is no device: use cpu, cuda or cuda:N");
  }
  if (Status loaded = load_cuda(); !loaded.ok()) return loaded;
  const auto count = at::detail::getCUDAHooks().deviceCount();
  if (index >= count)
    return Status(Code::kUnavailable, "there is no device " + name + ": LibTorch sees " + std::to_string(count));
  return c10::Device(c10::kCUDA, static_cast<c10::DeviceIndex>(index));
}

void set_threads(int threads) {
  if (at::get_num_threads() != threads) at::set_num_threads(threads);
}

c10::ScalarType scalar_type_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::kFloat32: return c10::kFloat;
    case Dtype::kFloat16: return c10::kHalf;
    case Dtype::kBFloat16: return c10::kBFloat16;
    case Dtype::kFloat64: return c10::kDouble;
    case Dtype::kInt64: return c10::kLong;
    case Dtype::kInt32: return c10::kInt;
    case Dtype::kInt16: return c10::kShort;
    case Dtype::kInt8: return c10::kChar;
    case Dtype::kUInt8: return c10::kByte;
    case Dtype::kBool: return c10::kBool;
  }
  return c10::kFloat;
}

Result<Dtype> dtype_of(c10::ScalarType type) {
  for (int i = 0; i <= static_cast<int>(Dtype::kBool); ++i)
    if (scalar_type_of(static_cast<Dtype>(i)) == type) return static_cast<Dtype>(i);
  return Status(Code::kInvalid, std::string("a tensor is of type ") + c10::toString(type) + ", which cannot be handed out");
}

Status status_of_exception(Code fallback) {
  try {
    throw;
  } catch (const c10::OutOfMemoryError& error) {
    return {Code::kFull, std::string("out of device memory: ") + error.what_without_backtrace()};
  } catch (const c10::Error& error) {
    return {fallback, error.what_without_backtrace()};
  } catch (const std::bad_alloc&) {
    return {Code::kFull, "out of memory"};
  } catch (const std::exception& error) {
    return {fallback, error.what()};
  } catch (...) {
    return {fallback, "an exception of unknown type"};
  }
}

at::Tensor borrow(const TensorView& view) {
  const auto options = at::TensorOptions().dtype(scalar_type_of(view.dtype));
  if (view.data == nullptr) return at::empty(view.shape, options);
  return at::from_blob(const_cast<void*>(view.data), view.shape, options);
}

}  // namespace manta::models

#include "gpu/cuda_library.h"

#include <dlfcn.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

namespace manta::gpu {
namespace {

// Values of cudaError_t that mean more than "the driver reports": stable, they are part of CUDA's interface.
constexpr int kCudaInvalidValue = 1;
constexpr int kCudaOutOfMemory = 2;
constexpr int kCudaInsufficientDriver = 35;
constexpr int kCudaNoDevice = 100;
constexpr int kCudaInvalidDevice = 101;
constexpr int kCudaNotReady = 600;

std::vector<std::string> candidates() {
  if (const char* given = std::getenv("MANTA_CUDA_LIBRARY")) return {given};
  std::vector<std::string> paths;
  std::error_code error;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", error);
  if (!error) {
    paths.push_back(program.parent_path() / "libmanta_cuda.so");
    paths.push_back(program.parent_path() / "../lib/libmanta_cuda.so");
  }
  for (const char* path : {MANTA_CUDA_BUILT_AT, MANTA_CUDA_INSTALLED_AT}) paths.emplace_back(path);
  return paths;
}

}  // namespace

Result<const MantaCudaTable*> load_cuda_library(const std::vector<std::string>& paths) {
  std::string reason = "libmanta_cuda.so is not there";
  for (const std::string& path : paths) {
    if (!std::filesystem::exists(path)) continue;
    void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);  // never closed: CUDA does not survive it
    if (!library) {
      reason = dlerror();
      continue;
    }
    auto entry = reinterpret_cast<MantaCudaEntry>(dlsym(library, MANTA_CUDA_ENTRY));
    if (const MantaCudaTable* table = entry ? entry(MANTA_CUDA_ABI) : nullptr) return table;
    reason = path + " speaks another version of the interface";
  }
  return Status(Code::kUnavailable, "no CUDA backend: " + reason);
}

Result<const MantaCudaTable*> cuda_library() {
  static const Result<const MantaCudaTable*> loaded = load_cuda_library(candidates());
  return loaded;
}

Status cuda_status(const MantaCudaTable& cuda, int error, const char* what) {
  if (error == 0) return {};
  const std::string message = std::string(what) + ": " + cuda.error_text(error);
  switch (error) {
    case kCudaInvalidValue: return {Code::kInvalid, message};
    case kCudaOutOfMemory: return {Code::kFull, message};
    case kCudaInsufficientDriver:
    case kCudaNoDevice:
    case kCudaInvalidDevice:
    case kCudaNotReady: return {Code::kUnavailable, message};
    default: return {Code::kIo, message};
  }
}

}  // namespace manta::gpu

#include "torch/module_loader.h"

#include <dlfcn.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <mutex>
#include <vector>

#include "common/check.h"

namespace manta::models {
namespace {

namespace fs = std::filesystem;

std::atomic<const char*> built_path = nullptr;

constexpr const char* kModuleFile = "libmanta_torch_module.so";

std::vector<fs::path> candidates() {
  // An explicit choice is the only one: falling back to another build would hide the mistake.
  if (const char* chosen = std::getenv("MANTA_TORCH_LIBRARY"); chosen != nullptr && *chosen != '\0') return {chosen};
  std::vector<fs::path> out;
  std::error_code unknown;
  if (const fs::path program = fs::read_symlink("/proc/self/exe", unknown); !unknown) {
    out.push_back(program.parent_path() / kModuleFile);
    out.push_back(program.parent_path().parent_path() / "lib" / kModuleFile);
  }
  if (const char* built = built_path.load(); built != nullptr) out.emplace_back(built);
  return out;
}

Result<const ModuleApi*> load(const fs::path& path) {
  void* const module = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (module == nullptr) return Status(Code::kUnavailable, std::string("LibTorch cannot be loaded: ") + ::dlerror());
  const auto entry = reinterpret_cast<const ModuleApi* (*)()>(::dlsym(module, kModuleEntry));
  if (entry == nullptr) return Status(Code::kUnavailable, path.string() + ": is no module of Manta's");
  const ModuleApi* api = entry();
  if (api->version != kModuleVersion)
    return Status(Code::kUnavailable, path.string() + ": is of another version of Manta than this program");
  return api;
}

}  // namespace

Result<const ModuleApi*> torch_module() {
  static std::mutex mutex;
  static const ModuleApi* loaded = nullptr;
  const std::lock_guard lock(mutex);
  if (loaded != nullptr) return loaded;
  std::string tried;
  for (const fs::path& path : candidates()) {
    tried += (tried.empty() ? "" : ", ") + path.string();
    std::error_code ignored;
    if (!fs::exists(path, ignored)) continue;
    MANTA_ASSIGN_OR_RETURN(loaded, load(path));
    return loaded;
  }
  return Status(Code::kUnavailable, std::string(kModuleFile) + ", which brings LibTorch, was not found; looked for " +
                                        tried + "; MANTA_TORCH_LIBRARY can name it");
}

}  // namespace manta::models

bool manta::detail::set_torch_module_path(const char* path) {
  manta::models::built_path = path;
  return true;
}

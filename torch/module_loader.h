// Finds and loads the module that links LibTorch, once in a process.
#pragma once

#include <manta/status.h>

#include "torch/module_api.h"

namespace manta::models {

/// The module's functions. The first call loads it (about 0.3 s); a failure is tried anew by the next call.
/// kUnavailable, with the places looked at or the loader's own message. Any thread may call it.
Result<const ModuleApi*> torch_module();

}  // namespace manta::models

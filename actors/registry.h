// Looks up the program's remote functions. Constant after static initialisation; any thread.
#pragma once

#include <manta/detail/runtime.h>

#include <string>
#include <string_view>

namespace manta {

/// By identity; null when this binary has none such.
[[nodiscard]] const detail::Function* find_function(std::string_view key);

/// As people wrote it: "add", "shop::price", "Counter::add", "Counter" for a constructor. Demangles: not for hot paths.
[[nodiscard]] std::string function_name(const detail::Function& function);

}  // namespace manta

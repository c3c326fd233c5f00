// A number of bytes that the environment may set.
#pragma once

#include <manta/error.h>

#include <charconv>
#include <cstdlib>
#include <string>
#include <string_view>

namespace manta {

/// The variable's value, or `otherwise` when it is not set. Throws Error(kInvalid) when it is no whole number from `least`
/// on.
inline size_t bytes_setting(const char* variable, size_t otherwise, size_t least) {
  const char* const text = std::getenv(variable);
  if (text == nullptr || *text == '\0') return otherwise;
  const std::string_view given = text;
  size_t bytes = 0;
  const auto [end, error] = std::from_chars(given.data(), given.data() + given.size(), bytes);
  if (error != std::errc() || end != given.data() + given.size() || bytes < least) {
    throw Error(Status(Code::kInvalid, std::string(variable) + " is \"" + std::string(given) +
                                           "\"; it must be a whole number of bytes from " + std::to_string(least) + " on"));
  }
  return bytes;
}

}  // namespace manta

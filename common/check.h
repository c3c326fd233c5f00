// Checks that stay on in release builds: a broken invariant stops the process and says the values.
// MANTA_RETURN_IF_ERROR and MANTA_ASSIGN_OR_RETURN pass a failure up; they live here, never in a public header.
#pragma once

#include <manta/status.h>

#include <string>

#define MANTA_CHECK(condition, ...)                                                                                \
  do {                                                                                                             \
    if (!(condition)) [[unlikely]]                                                                                 \
      ::manta::die(::std::string(__FILE__) + ":" + ::std::to_string(__LINE__) + ": " #condition " does not hold" + \
                   ::manta::detail::values(__VA_ARGS__));                                                          \
  } while (false)

#define MANTA_RETURN_IF_ERROR(expression)                                                        \
  do {                                                                                           \
    if (::manta::Status manta_status_ = (expression); !manta_status_.ok()) return manta_status_; \
  } while (false)

#define MANTA_CONCAT_INNER(a, b) a##b
#define MANTA_CONCAT(a, b) MANTA_CONCAT_INNER(a, b)
#define MANTA_ASSIGN_OR_RETURN(declaration, expression) \
  MANTA_ASSIGN_OR_RETURN_AS(MANTA_CONCAT(manta_result_, __LINE__), declaration, expression)
#define MANTA_ASSIGN_OR_RETURN_AS(name, declaration, expression) \
  auto name = (expression);                                      \
  if (!name.ok()) return name.status();                          \
  declaration = std::move(name).value()

namespace manta::detail {

inline std::string text(const std::string& value) { return value; }
inline std::string text(const char* value) { return value; }
template <typename T>
requires requires(T value) { std::to_string(value); }
std::string text(T value) { return std::to_string(value); }

template <typename... Values>
std::string values(const Values&... given) {
  std::string out;
  ((out += (out.empty() ? " (" : ", ") + text(given)), ...);
  return out.empty() ? out : out + ")";
}

}  // namespace manta::detail

// The one exception a user of Manta sees.
#pragma once

#include <manta/status.h>

#include <exception>
#include <string>

namespace manta {

/// What went wrong, why, and the evidence. Thrown by `get`, `co_await ref` and the data API; `ref.result()` gives the Status
/// instead.
///
/// A remote exception arrives with kTaskFailed, the C++ type it had there, its message, and the task and process it came
/// from.
class Error : public std::exception {
 public:
  explicit Error(Status status) : status_(std::move(status)), what_(status_.to_string()) {}

  [[nodiscard]] const char* what() const noexcept override { return what_.c_str(); }
  [[nodiscard]] Code code() const { return status_.code(); }
  [[nodiscard]] const Status& status() const { return status_; }
  [[nodiscard]] const std::string& origin_type() const { return status_.origin_type(); }

 private:
  Status status_;
  std::string what_;
};

/// The value, or its status thrown as an Error.
template <typename T>
T value_or_throw(Result<T> result) {
  if (!result.ok()) throw Error(result.status());
  return std::move(result).value();
}
inline void throw_if_error(const Status& status) {
  if (!status.ok()) throw Error(status);
}

}  // namespace manta

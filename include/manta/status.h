// Status: the outcome of an operation that can fail, and Result<T>: a value or the Status that says why there is none.
//
// Used everywhere inside the runtime; nothing there throws across a module boundary. At the user's boundary a Status becomes
// a manta::Error (see error.h). Codes are chosen by what the caller does next, not by what went wrong inside.
//
// Thread safety: values, like std::string. Cost: an OK Status is one null pointer, with no allocation.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace manta {

enum class Code : uint8_t {
  kOk = 0,
  kInvalid = 1,      ///< The request or the data is wrong: fix it; trying again as it is will not help.
  kNotFound = 2,     ///< What was named does not exist.
  kExists = 3,       ///< What was to be made is there already.
  kTimeout = 4,      ///< The deadline passed first; the work may or may not have happened.
  kCancelled = 5,    ///< Somebody asked for it to stop.
  kUnavailable = 6,  ///< A peer is away or not ready: try again later.
  kFull = 7,         ///< A bounded resource (store, queue, disk) is used up: free some, or wait.
  kDied = 8,         ///< The process that held the work ended; the message says by what.
  kLost = 9,         ///< An object cannot be had any more and cannot be rebuilt.
  kTaskFailed = 10,  ///< The user's own code threw; the message and type are the user's.
  kIo = 11,          ///< The operating system refused: disk, permission, network.
  kInternal = 12,    ///< A defect in Manta.
};

/// The code's name as it stands in messages, metrics and JSON, such as "not_found".
[[nodiscard]] std::string_view code_name(Code code);

class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(Code code, std::string message) : rep_(std::make_unique<Rep>(Rep{code, std::move(message), {}})) {}
  Status(const Status& other) : rep_(other.rep_ ? std::make_unique<Rep>(*other.rep_) : nullptr) {}
  Status(Status&&) noexcept = default;
  Status& operator=(const Status& other) { return *this = Status(other); }
  Status& operator=(Status&&) noexcept = default;
  ~Status() = default;

  [[nodiscard]] bool ok() const { return rep_ == nullptr; }
  [[nodiscard]] Code code() const { return rep_ ? rep_->code : Code::kOk; }
  [[nodiscard]] const std::string& message() const;

  /// The C++ type of the exception a task threw (demangled), or empty.
  [[nodiscard]] const std::string& origin_type() const;
  Status&& with_origin_type(std::string type) &&;

  /// The same status with `context` and ": " put before its message: each hop says which object, node or attempt it was.
  [[nodiscard]] Status with_context(std::string_view context) const;

  /// "ok", or "<code name>: <message>".
  [[nodiscard]] std::string to_string() const;

 private:
  struct Rep {
    Code code;
    std::string message;
    std::string origin_type;
  };
  std::unique_ptr<Rep> rep_;
};

/// A T, or the Status that says why there is none. Reading the value of a failed Result is a bug and aborts with the status.
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}         // NOLINT(google-explicit-constructor): `return value;` is the point
  Result(Status status) : status_(std::move(status)) {  // NOLINT(google-explicit-constructor)
    if (status_.ok()) status_ = Status(Code::kInternal, "a Result was made from an OK status without a value");
  }

  [[nodiscard]] bool ok() const { return value_.has_value(); }
  explicit operator bool() const { return ok(); }
  [[nodiscard]] const Status& status() const { return status_; }

  [[nodiscard]] T& value() & { return check(), *value_; }
  [[nodiscard]] const T& value() const& { return check(), *value_; }
  [[nodiscard]] T&& value() && { return check(), std::move(*value_); }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

 private:
  void check() const;

  Status status_;
  std::optional<T> value_;
};

/// Prints `what` and aborts. For broken invariants only: never for bad input or a dead peer.
[[noreturn]] void die(const std::string& what);

template <typename T>
void Result<T>::check() const {
  if (!value_) die("value() of a failed Result: " + status_.to_string());
}

}  // namespace manta

// Prints what workers printed on the driver's terminal: "(embed pid 4711) text", repeated lines folded.
//
// The same line from several processes or many times is printed once, and then, after 2 s or when another line comes from
// it,
// "... repeated N more times". Thread safety: one thread calls `print`, and `flush` at the end.
#pragma once

#include "wire/messages.h"

#include <chrono>
#include <string>
#include <unordered_map>

namespace manta {

class LogPrinter {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;
  void print(const wire::LogLines& message, TimePoint now);
  void flush();

 private:
  struct Repeated {
    TimePoint first;
    uint64_t more = 0;
    bool is_error = false;
    std::string prefix;
  };
  void print_line(bool is_error, const std::string& prefix, const std::string& line);
  void expire(TimePoint now);

  static constexpr auto kFold = std::chrono::seconds(2);
  static constexpr size_t kMostRemembered = 1'000;
  std::unordered_map<std::string, Repeated> seen_;
};

}  // namespace manta

#include "actors/log_printer.h"

#include <cstdio>

namespace manta {

void LogPrinter::print_line(bool is_error, const std::string& prefix, const std::string& line) {
  const std::string whole = prefix + line + "\n";
  std::fwrite(whole.data(), 1, whole.size(), is_error ? stderr : stdout);
}

void LogPrinter::print(const wire::LogLines& message, TimePoint now) {
  expire(now);
  const std::string prefix =
      "(" + (message.label.empty() ? std::string("worker") : message.label) + " pid " + std::to_string(message.pid) + ") ";
  for (const std::string& line : message.lines) {
    // Blank lines and the like are layout, not repetition.
    const bool folds = line.size() > 3;
    if (const auto at = seen_.find(line); folds && at != seen_.end()) {
      ++at->second.more;
      continue;
    }
    print_line(message.is_error_stream, prefix, line);
    if (folds && seen_.size() < kMostRemembered) seen_[line] = {now, 0, message.is_error_stream, prefix};
  }
  std::fflush(message.is_error_stream ? stderr : stdout);
}

void LogPrinter::expire(TimePoint now) {
  for (auto at = seen_.begin(); at != seen_.end();) {
    if (now - at->second.first < kFold) {
      ++at;
      continue;
    }
    if (at->second.more > 0) {
      print_line(at->second.is_error, at->second.prefix,
                 at->first + "  [repeated " + std::to_string(at->second.more) + " more times]");
    }
    at = seen_.erase(at);
  }
}

void LogPrinter::flush() {
  expire(TimePoint::max());
  std::fflush(stdout);
  std::fflush(stderr);
}

}  // namespace manta

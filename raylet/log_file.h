// What a worker printed, kept in a file beside the logs: made at the first line, bounded by starting over with the old one
// beside it. Failures are swallowed: a full disk must not stop the work whose output this is only a copy of.
#pragma once

#include "wire/messages.h"

#include <cstdio>
#include <memory>
#include <string>

namespace manta::raylet {

class LogFile {
 public:
  static constexpr int64_t kMaxBytes = int64_t{16} << 20;

  LogFile() = default;
  explicit LogFile(std::string path) : path_(std::move(path)) {}

  void append(const wire::LogLines& lines);

 private:
  struct Closer {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };

  void open();

  std::string path_;
  std::unique_ptr<std::FILE, Closer> file_;
  int64_t written_bytes_ = 0;
  bool has_failed_ = false;
};

}  // namespace manta::raylet

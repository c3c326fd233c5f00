// What a worker prints on one stream, cut into lines with labels, within a rate.
//
// Text comes raw, or as records <RS> label <US> text ... <RS> label <US> text: the label (which task or actor printed it)
// holds until the next record. A flood slows nothing: beyond the rate lines are dropped and counted, and the count is a line
// of its own.
//
// Pure; owned by node_server's loop.
#pragma once

#include "wire/messages.h"

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

namespace manta::raylet {

class LogStream {
 public:
  static constexpr char kRecord = '\x1e';
  static constexpr char kText = '\x1f';
  static constexpr size_t kMaxLineBytes = 16 << 10;
  static constexpr size_t kMaxLabelBytes = 256;
  static constexpr int64_t kMaxLinesPerSecond = 50'000;
  static constexpr size_t kLastLines = 10;

  LogStream(int32_t pid, bool is_error_stream) : pid_(pid), is_error_stream_(is_error_stream) {}

  /// The batches that these bytes complete: consecutive lines of one label each.
  std::vector<wire::LogLines> feed(std::string_view bytes, int64_t now_us);
  /// The stream ended: also the line that has no end.
  std::vector<wire::LogLines> finish(int64_t now_us);

  [[nodiscard]] int64_t bytes_fed() const { return bytes_fed_; }

  /// The last lines, joined by " | ", for the report of a worker that could not start.
  [[nodiscard]] std::string last_words() const;

 private:
  void end_line();
  void put_text(std::string_view text);
  void set_label(std::string label);
  bool may_pass();
  void report_dropped();
  void append(std::string line);

  int32_t pid_;
  bool is_error_stream_;
  std::string label_;
  std::string line_;
  std::string label_in_progress_;
  bool in_label_ = false;
  std::deque<std::string> last_;
  std::vector<wire::LogLines> batches_;
  int64_t bytes_fed_ = 0;
  int64_t now_us_ = 0;
  int64_t window_start_us_ = 0;
  int64_t lines_in_window_ = 0;
  int64_t dropped_ = 0;
};

}  // namespace manta::raylet

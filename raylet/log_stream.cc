#include "raylet/log_stream.h"

#include <algorithm>
#include <utility>

namespace manta::raylet {
namespace {
constexpr int64_t kWindowUs = 100'000;
constexpr int64_t kLinesPerWindow = LogStream::kMaxLinesPerSecond * kWindowUs / 1'000'000;
}  // namespace

std::vector<wire::LogLines> LogStream::feed(std::string_view bytes, int64_t now_us) {
  now_us_ = now_us;
  bytes_fed_ += static_cast<int64_t>(bytes.size());
  while (!bytes.empty()) {
    if (in_label_) {
      const size_t end = std::min(bytes.find(kText), bytes.size());
      label_in_progress_.append(
          bytes.substr(0, std::min(end, kMaxLabelBytes - std::min(kMaxLabelBytes, label_in_progress_.size()))));
      if (end == bytes.size()) break;
      bytes.remove_prefix(end + 1);
      in_label_ = false;
      set_label(std::exchange(label_in_progress_, {}));
      continue;
    }
    const size_t end = std::min(bytes.find(kRecord), bytes.size());
    put_text(bytes.substr(0, end));
    if (end == bytes.size()) break;
    bytes.remove_prefix(end + 1);
    in_label_ = true;
  }
  return std::exchange(batches_, {});
}

std::vector<wire::LogLines> LogStream::finish(int64_t now_us) {
  now_us_ = now_us;
  if (!line_.empty()) end_line();
  report_dropped();
  return std::exchange(batches_, {});
}

void LogStream::set_label(std::string label) {
  if (label == label_) return;
  if (!line_.empty()) end_line();
  label_ = std::move(label);
}

void LogStream::put_text(std::string_view text) {
  while (!text.empty()) {
    const size_t newline = text.find('\n');
    const size_t piece = std::min({newline, text.size(), kMaxLineBytes - line_.size()});
    line_.append(text.substr(0, piece));
    text.remove_prefix(piece);
    if (piece == newline) text.remove_prefix(1);
    if (piece == newline || line_.size() >= kMaxLineBytes) end_line();
  }
}

void LogStream::end_line() {
  std::string line = std::exchange(line_, {});
  if (!may_pass()) {
    ++dropped_;
    return;
  }
  report_dropped();
  last_.push_back(line);
  if (last_.size() > kLastLines) last_.pop_front();
  append(std::move(line));
}

bool LogStream::may_pass() {
  if (now_us_ - window_start_us_ >= kWindowUs) {
    window_start_us_ = now_us_;
    lines_in_window_ = 0;
  }
  return ++lines_in_window_ <= kLinesPerWindow;
}

void LogStream::report_dropped() {
  if (const int64_t count = std::exchange(dropped_, 0); count > 0)
    append(std::to_string(count) + " lines dropped: too many a second");
}

void LogStream::append(std::string line) {
  if (batches_.empty() || batches_.back().label != label_)
    batches_.push_back({.pid = pid_, .is_error_stream = is_error_stream_, .label = label_, .lines = {}});
  batches_.back().lines.push_back(std::move(line));
}

std::string LogStream::last_words() const {
  std::string words;
  for (const std::string& line : last_) words += (words.empty() ? "" : " | ") + line;
  return words;
}

}  // namespace manta::raylet

#include "raylet/log_file.h"

namespace manta::raylet {

void LogFile::open() {
  file_.reset(std::fopen(path_.c_str(), "ae"));
  has_failed_ = file_ == nullptr;
}

void LogFile::append(const wire::LogLines& lines) {
  if (path_.empty() || has_failed_) return;
  if (!file_) open();
  std::string text;
  for (const std::string& line : lines.lines) {
    if (!lines.label.empty()) text += "[" + lines.label + "] ";
    text += line + "\n";
  }
  if (!file_) return;
  std::fwrite(text.data(), 1, text.size(), file_.get());
  std::fflush(file_.get());
  written_bytes_ += static_cast<int64_t>(text.size());
  if (written_bytes_ < kMaxBytes) return;
  file_.reset();
  std::rename(path_.c_str(), (path_ + ".old").c_str());
  written_bytes_ = 0;
}

}  // namespace manta::raylet

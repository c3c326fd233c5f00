// What a running pipeline tells the person in front of it: a bar on a terminal, else one line every ten seconds, on standard
// error.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <string>
#include <thread>

namespace manta::data {

struct ProgressState {
  std::string label;
  int64_t rows_done = 0;
  int64_t rows_total = -1;  ///< -1: not known.
  int actors = 0;
  int64_t held_bytes = 0;
};

/// "embed: 1,234 of 5,000 rows (25%), 310 rows/s, 12 s left, 2 actors".
std::string progress_text(const ProgressState& state, double rows_per_second);
/// The same with a bar in front as far as there is room, cut to `columns`.
std::string progress_bar(const ProgressState& state, double rows_per_second, int columns);

/// Thread safety: `set` from the pipeline's thread; a thread of its own prints.
class Progress {
 public:
  explicit Progress(bool enabled);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  void set(ProgressState state);

 private:
  void print_until_stopped();
  void print(bool is_last);
  [[nodiscard]] double rate();

  const bool enabled_;
  const bool is_terminal_;
  std::mutex mutex_;
  std::condition_variable stop_;
  bool stopped_ = false;
  bool has_printed_ = false;
  int64_t printed_rows_ = 0;
  ProgressState state_;
  std::deque<std::pair<std::chrono::steady_clock::time_point, int64_t>> samples_;  // of the last seconds
  std::thread thread_;
};

}  // namespace manta::data

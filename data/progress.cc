#include "data/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>

namespace manta::data {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kBarPeriod = std::chrono::milliseconds(200);
constexpr auto kLinePeriod = std::chrono::seconds(10);
constexpr auto kRateWindow = std::chrono::seconds(15);

std::string with_commas(int64_t value) {
  std::string digits = std::to_string(value);
  for (auto at = static_cast<std::ptrdiff_t>(digits.size()) - 3; at > 0; at -= 3)
    digits.insert(static_cast<size_t>(at), 1, ',');
  return digits;
}

std::string duration(double seconds) {
  const auto whole = static_cast<int64_t>(std::ceil(seconds));
  if (whole < 60) return std::to_string(whole) + " s";
  if (whole < 3600) return std::to_string(whole / 60) + " min " + std::to_string(whole % 60) + " s";
  return std::to_string(whole / 3600) + " h " + std::to_string(whole % 3600 / 60) + " min";
}

bool is_wanted() {
  const char* const set = std::getenv("MANTA_PROGRESS");
  return set == nullptr || std::strcmp(set, "0") != 0;
}

int terminal_columns() {
  winsize size{};
  return ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

void write_out(const std::string& text) {
  if (::write(STDERR_FILENO, text.data(), text.size()) < 0) return;  // nobody is there to be told
}

double share_of(const ProgressState& state) {
  if (state.rows_total <= 0) return 0;
  return std::clamp(static_cast<double>(state.rows_done) / static_cast<double>(state.rows_total), 0.0, 1.0);
}

}  // namespace

std::string progress_text(const ProgressState& state, double rows_per_second) {
  std::string out = state.label;
  out.append(": ").append(with_commas(state.rows_done));
  const bool is_known = state.rows_total >= 0;
  if (is_known) out.append(" of ").append(with_commas(state.rows_total));
  out += " rows";
  if (is_known) out.append(" (").append(std::to_string(static_cast<int>(share_of(state) * 100))).append("%)");
  if (rows_per_second > 0) {
    out.append(", ").append(with_commas(static_cast<int64_t>(std::llround(rows_per_second)))).append(" rows/s");
    if (is_known && state.rows_done < state.rows_total) {
      out.append(", ")
          .append(duration(static_cast<double>(state.rows_total - state.rows_done) / rows_per_second))
          .append(" left");
    }
  }
  if (state.actors > 0)
    out.append(", ").append(std::to_string(state.actors)).append(state.actors == 1 ? " actor" : " actors");
  return out;
}

std::string progress_bar(const ProgressState& state, double rows_per_second, int columns) {
  constexpr int kMostCells = 20, kLeastCells = 5, kFrame = 3;
  const std::string text = progress_text(state, rows_per_second);
  const int cells = std::min(kMostCells, columns - 1 - static_cast<int>(text.size()) - kFrame);
  std::string out;
  if (cells >= kLeastCells) {
    const auto full = static_cast<size_t>(share_of(state) * cells);
    out.append("[").append(full, '#').append(static_cast<size_t>(cells) - full, '.').append("] ");
  }
  out += text;
  if (static_cast<int>(out.size()) > columns - 1) out.resize(static_cast<size_t>(std::max(1, columns - 1)));
  return out;
}

Progress::Progress(bool enabled) : enabled_(enabled && is_wanted()), is_terminal_(::isatty(STDERR_FILENO) == 1) {
  if (enabled_) thread_ = std::thread([this] { print_until_stopped(); });
}

Progress::~Progress() {
  if (!enabled_) return;
  {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
  }
  stop_.notify_all();
  thread_.join();
}

void Progress::set(ProgressState state) {
  if (!enabled_) return;
  const std::lock_guard lock(mutex_);
  state_ = std::move(state);
}

double Progress::rate() {
  const auto now = Clock::now();
  samples_.emplace_back(now, state_.rows_done);
  while (samples_.size() > 2 && now - samples_.front().first > kRateWindow) samples_.pop_front();
  const double seconds = std::chrono::duration<double>(now - samples_.front().first).count();
  return seconds > 0 ? static_cast<double>(state_.rows_done - samples_.front().second) / seconds : 0;
}

void Progress::print(bool is_last) {
  if (state_.label.empty()) return;
  const double rows_per_second = rate();
  if (is_terminal_) {
    write_out("\r\x1b[K" + progress_bar(state_, rows_per_second, terminal_columns()) + (is_last ? "\n" : ""));
  } else if (!is_last || state_.rows_done > printed_rows_) {
    write_out(progress_text(state_, rows_per_second) + "\n");
  }
  printed_rows_ = state_.rows_done;
  has_printed_ = true;
}

void Progress::print_until_stopped() {
  std::unique_lock lock(mutex_);
  samples_.emplace_back(Clock::now(), 0);
  const std::chrono::milliseconds period =
      is_terminal_ ? std::chrono::milliseconds(kBarPeriod) : std::chrono::milliseconds(kLinePeriod);
  while (!stop_.wait_for(lock, period, [this] { return stopped_; })) print(false);
  if (has_printed_) print(true);
}

}  // namespace manta::data

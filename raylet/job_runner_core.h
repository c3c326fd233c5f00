// What a node decides about the drivers of submitted jobs that it runs: one attempt each.
//
//   RunJob --> FETCHING --program here--> STARTING --> RUNNING --exit--> ENDED --log and report noted by the head-->
//   forgotten
//                 |  failed, or EndJob       | cannot be started           ^
//                 +--------------------------+-----------------------------+
//
// The log is sent in order, a part at a time; a part and the last report are repeated until the head has noted them, so that
// neither a head that restarts nor a lost message loses a line. What is noted is freed on this disk. A log that grows faster
// than it can be sent loses the oldest that was not sent.
//
// No I/O, threads or clock: events go in, effects come out.
#pragma once

#include "raylet/core_types.h"
#include "wire/job_messages.h"

#include <compare>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace manta::raylet {

struct JobAttempt {
  uint64_t job = 0;
  uint32_t attempt = 0;
  auto operator<=>(const JobAttempt&) const = default;
};

// ---------------------------------------------------------------------------------------------------- effects

/// The answer is program_came. Comes again when the head may have forgotten what it was asked.
struct FetchDriver {
  JobAttempt attempt;
  wire::SubmitJob spec;
};
/// The answer is started or could_not_start.
struct StartDriver {
  JobAttempt attempt;
  wire::SubmitJob spec;
  std::string program;
  std::string join_token;
};
struct SignalDriver {  ///< Its process group.
  JobAttempt attempt;
  bool is_kill = false;  ///< SIGKILL; else SIGTERM.
};
/// Send this part of its log to the head.
struct SendLog {
  JobAttempt attempt;
  uint64_t offset = 0;
  uint64_t bytes = 0;
};
/// The log up to here is not needed any more.
struct FreeLog {
  JobAttempt attempt;
  uint64_t up_to = 0;
};
/// Nothing of it is needed any more.
struct ForgetDriver {
  JobAttempt attempt;
};

using JobEffect = std::variant<wire::JobReport, FetchDriver, StartDriver, SignalDriver, SendLog, FreeLog, ForgetDriver>;
using JobEffects = std::vector<JobEffect>;

// ---------------------------------------------------------------------------------------------------- core

class JobRunnerCore {
 public:
  static constexpr int64_t kRepeatUs = 2'000'000;
  static constexpr int64_t kGraceUs = 5'000'000;  ///< From SIGTERM to SIGKILL.
  static constexpr uint64_t kMaxUnsentBytes = uint64_t{1} << 30;
  static constexpr uint64_t kFreeBytes = uint64_t{16} << 20;  ///< That much at a time.
  static constexpr size_t kMaxAttempts = 1'000;

  JobEffects run(const wire::RunJob& order, int64_t now_us);
  JobEffects end(const wire::EndJob& order, int64_t now_us);
  JobEffects noted(const wire::JobNoted& noted, int64_t now_us);

  JobEffects program_came(const JobAttempt& attempt, const Result<std::string>& path, int64_t now_us);
  JobEffects started(const JobAttempt& attempt, int32_t pid, int64_t now_us);
  JobEffects could_not_start(const JobAttempt& attempt, const Status& why, int64_t now_us);
  /// Its log has this size now; it is not over before `exited` has said so.
  JobEffects log_grew(const JobAttempt& attempt, uint64_t bytes, int64_t now_us);
  JobEffects exited(const JobAttempt& attempt, const ExitCause& cause, const std::string& last_words, int64_t now_us);

  JobEffects tick(int64_t now_us);
  [[nodiscard]] std::optional<int64_t> next_deadline_us() const;

  /// Those whose logs may grow.
  [[nodiscard]] std::vector<JobAttempt> running() const;
  [[nodiscard]] size_t size() const { return attempts_.size(); }

 private:
  enum class State : uint8_t { kFetching, kStarting, kRunning, kEnded };
  struct Run {
    State state = State::kFetching;
    wire::SubmitJob spec;
    std::string join_token;
    int32_t pid = 0;
    bool shall_end = false;
    std::string why_end;
    int64_t kill_us = 0;  ///< 0: not asked to end, or killed.
    uint64_t log_bytes = 0;
    uint64_t noted_bytes = 0;
    uint64_t sending_to = 0;  ///< A part up to here is on its way.
    uint64_t freed_bytes = 0;
    int64_t repeat_us = 0;  ///< When the part or the report is due again; 0: none is on its way.
    wire::JobReport last;   ///< When it has ended.
  };

  void report(const JobAttempt& attempt, Run& run, int64_t now_us);
  void finish(const JobAttempt& attempt, Run& run, wire::JobReport last, int64_t now_us);
  void ask_to_end(const JobAttempt& attempt, Run& run, const std::string& reason, int64_t now_us);
  /// Sends what is next: a part of the log, or the last report.
  void go_on(const JobAttempt& attempt, Run& run, int64_t now_us);
  void emit(JobEffect effect) { effects_.push_back(std::move(effect)); }
  [[nodiscard]] Run* find(const JobAttempt& attempt);
  JobEffects take() { return std::exchange(effects_, {}); }

  std::map<JobAttempt, Run> attempts_;
  JobEffects effects_;
};

}  // namespace manta::raylet

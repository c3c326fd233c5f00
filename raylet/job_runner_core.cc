#include "raylet/job_runner_core.h"

#include "common/check.h"

#include <algorithm>

namespace manta::raylet {

using wire::JobEvent;

namespace {

wire::JobReport report_of(const JobAttempt& attempt, JobEvent event) {
  return {.job = attempt.job, .attempt = attempt.attempt, .event = static_cast<uint8_t>(event), .cause = {}};
}

wire::JobReport never_ran(const JobAttempt& attempt, const Status& why) {
  wire::JobReport report = report_of(attempt, JobEvent::kEnded);
  report.cause = wire::to_wire(why);
  return report;
}

}  // namespace

JobRunnerCore::Run* JobRunnerCore::find(const JobAttempt& attempt) {
  const auto it = attempts_.find(attempt);
  return it == attempts_.end() ? nullptr : &it->second;
}

std::vector<JobAttempt> JobRunnerCore::running() const {
  std::vector<JobAttempt> out;
  for (const auto& [attempt, run] : attempts_)
    if (run.state == State::kRunning) out.push_back(attempt);
  return out;
}

// ---------------------------------------------------------------------------------------------------- orders

JobEffects JobRunnerCore::run(const wire::RunJob& order, int64_t now_us) {
  const JobAttempt attempt{order.job, order.attempt};
  if (Run* known = find(attempt); known != nullptr) {
    report(attempt, *known, now_us);
    return take();
  }
  bool must_wait = false;
  for (auto it = attempts_.lower_bound({order.job, 0}); it != attempts_.end() && it->first.job == order.job; ++it) {
    if (it->first.attempt > order.attempt) return take();  // an old order
    must_wait = must_wait || it->second.state != State::kEnded;
    ask_to_end(it->first, it->second, "another attempt takes its place", now_us);
  }
  if (must_wait) return take();  // the order comes again
  if (order.has_begun) {
    wire::JobReport lost = never_ran(attempt, Status(Code::kDied, "its node does not know it any more"));
    lost.has_run = true;
    lost.by_signal = true;
    lost.exit_code = 9;
    emit(std::move(lost));
    return take();
  }
  if (attempts_.size() >= kMaxAttempts) {
    emit(never_ran(attempt, Status(Code::kFull, "its node runs too many drivers")));
    return take();
  }
  Run& run = attempts_[attempt];
  run.spec = order.spec;
  run.join_token = order.join_token;
  emit(report_of(attempt, JobEvent::kTaken));
  emit(FetchDriver{attempt, run.spec});
  return take();
}

JobEffects JobRunnerCore::end(const wire::EndJob& order, int64_t now_us) {
  const JobAttempt attempt{order.job, order.attempt};
  if (Run* known = find(attempt); known != nullptr) {
    if (known->state == State::kEnded) {
      known->repeat_us = 0;
      go_on(attempt, *known, now_us);
    } else {
      ask_to_end(attempt, *known, order.reason, now_us);
    }
  } else {
    emit(never_ran(attempt, Status(Code::kCancelled, "it was stopped before it ran: " + order.reason)));
  }
  return take();
}

void JobRunnerCore::ask_to_end(const JobAttempt& attempt, Run& run, const std::string& reason, int64_t now_us) {
  if (run.state == State::kEnded || std::exchange(run.shall_end, true)) return;
  run.why_end = std::string(reason);
  if (run.state != State::kRunning) return;  // seen to when its program, or its process, is there
  run.kill_us = now_us + kGraceUs;
  emit(SignalDriver{attempt, false});
}

void JobRunnerCore::report(const JobAttempt& attempt, Run& run, int64_t now_us) {
  switch (run.state) {
    case State::kFetching: emit(FetchDriver{attempt, run.spec}); [[fallthrough]];
    case State::kStarting: return emit(report_of(attempt, JobEvent::kTaken));
    case State::kRunning: {
      wire::JobReport report = report_of(attempt, JobEvent::kStarted);
      report.pid = run.pid;
      return emit(std::move(report));
    }
    case State::kEnded: run.repeat_us = 0; return go_on(attempt, run, now_us);
  }
}

// ---------------------------------------------------------------------------------------------------- its life

JobEffects JobRunnerCore::program_came(const JobAttempt& attempt, const Result<std::string>& path, int64_t now_us) {
  Run* run = find(attempt);
  if (run == nullptr || run->state != State::kFetching) return take();
  if (!path.ok()) {
    finish(attempt, *run, never_ran(attempt, path.status().with_context("its program cannot be had")), now_us);
  } else if (run->shall_end) {
    finish(attempt, *run, never_ran(attempt, Status(Code::kCancelled, "it was stopped before it ran: " + run->why_end)),
           now_us);
  } else {
    run->state = State::kStarting;
    emit(StartDriver{attempt, run->spec, *path, std::exchange(run->join_token, {})});
  }
  return take();
}

JobEffects JobRunnerCore::started(const JobAttempt& attempt, int32_t pid, int64_t now_us) {
  Run* run = find(attempt);
  if (run == nullptr || run->state != State::kStarting) return take();
  run->state = State::kRunning;
  run->pid = pid;
  report(attempt, *run, now_us);
  if (std::exchange(run->shall_end, false)) ask_to_end(attempt, *run, run->why_end, now_us);
  return take();
}

JobEffects JobRunnerCore::could_not_start(const JobAttempt& attempt, const Status& why, int64_t now_us) {
  if (Run* run = find(attempt); run != nullptr && run->state == State::kStarting)
    finish(attempt, *run, never_ran(attempt, why), now_us);
  return take();
}

JobEffects JobRunnerCore::exited(const JobAttempt& attempt, const ExitCause& cause, const std::string& last_words,
                                 int64_t now_us) {
  Run* run = find(attempt);
  if (run == nullptr || run->state != State::kRunning) return take();
  wire::JobReport last = report_of(attempt, JobEvent::kEnded);
  last.pid = run->pid;
  last.has_run = true;
  last.by_signal = cause.by_signal;
  last.exit_code = cause.code;
  const bool is_bad = cause.by_signal || cause.code != 0;
  const std::string words = last_words.empty() ? "" : "; its last lines: " + last_words + missing_library_hint(last_words);
  if (is_bad) last.cause = wire::to_wire(Status(Code::kDied, "its driver was " + describe(cause) + words));
  if (is_bad && !cause.by_signal)
    last.cause = wire::to_wire(Status(Code::kTaskFailed, "its driver " + describe(cause) + words));
  finish(attempt, *run, std::move(last), now_us);
  return take();
}

void JobRunnerCore::finish(const JobAttempt& attempt, Run& run, wire::JobReport last, int64_t now_us) {
  run.state = State::kEnded;
  run.kill_us = 0;
  run.last = std::move(last);
  if (run.sending_to <= run.noted_bytes) go_on(attempt, run, now_us);
}

// ---------------------------------------------------------------------------------------------------- the log

JobEffects JobRunnerCore::log_grew(const JobAttempt& attempt, uint64_t bytes, int64_t now_us) {
  Run* run = find(attempt);
  if (run == nullptr || bytes <= run->log_bytes) return take();
  run->log_bytes = bytes;
  if (run->repeat_us == 0) go_on(attempt, *run, now_us);
  return take();
}

void JobRunnerCore::go_on(const JobAttempt& attempt, Run& run, int64_t now_us) {
  if (run.noted_bytes < run.log_bytes) {
    const uint64_t oldest = run.log_bytes > kMaxUnsentBytes ? run.log_bytes - kMaxUnsentBytes : 0;
    const uint64_t from = std::max(run.noted_bytes, oldest);
    run.sending_to = std::min<uint64_t>(run.log_bytes, from + wire::kJobLogChunkBytes);
    run.repeat_us = now_us + kRepeatUs;
    return emit(SendLog{attempt, from, run.sending_to - from});
  }
  run.repeat_us = 0;
  if (run.state != State::kEnded) return;
  run.repeat_us = now_us + kRepeatUs;
  emit(run.last);
}

JobEffects JobRunnerCore::noted(const wire::JobNoted& noted, int64_t now_us) {
  const JobAttempt attempt{noted.job, noted.attempt};
  Run* run = find(attempt);
  if (run == nullptr) return take();
  if (noted.is_done) {
    if (run->state == State::kEnded) {
      attempts_.erase(attempt);
      emit(ForgetDriver{attempt});
    } else {
      ask_to_end(attempt, *run, "this attempt was given up", now_us);
      run->noted_bytes = run->log_bytes;  // nobody wants it
    }
    return take();
  }
  if (noted.log_bytes <= run->noted_bytes || noted.log_bytes > run->log_bytes) return take();
  run->noted_bytes = noted.log_bytes;
  if (run->noted_bytes >= run->freed_bytes + kFreeBytes) {
    run->freed_bytes = run->noted_bytes;
    emit(FreeLog{attempt, run->noted_bytes});
  }
  if (run->noted_bytes >= run->sending_to) go_on(attempt, *run, now_us);
  return take();
}

// ---------------------------------------------------------------------------------------------------- time

JobEffects JobRunnerCore::tick(int64_t now_us) {
  for (auto& [attempt, run] : attempts_) {
    if (run.kill_us != 0 && run.kill_us <= now_us) {
      run.kill_us = 0;
      emit(SignalDriver{attempt, true});
    }
    if (run.repeat_us != 0 && run.repeat_us <= now_us) go_on(attempt, run, now_us);
  }
  return take();
}

std::optional<int64_t> JobRunnerCore::next_deadline_us() const {
  std::optional<int64_t> first;
  for (const auto& [attempt, run] : attempts_)
    for (const int64_t due_us : {run.kill_us, run.repeat_us})
      if (due_us != 0) first = std::min(first.value_or(due_us), due_us);
  return first;
}

}  // namespace manta::raylet

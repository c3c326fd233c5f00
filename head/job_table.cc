#include "head/job_table.h"

#include "common/check.h"
#include "wire/net/sha256.h"

#include <algorithm>
#include <tuple>

namespace manta::head {

using wire::JobEvent;
using wire::JobState;
using wire::NodeNumber;

namespace {

JobState state_of(const JobTable::Job& job) { return static_cast<JobState>(job.row.state); }
bool is_over(const JobTable::Job& job) { return wire::is_over(state_of(job)); }

bool is_same_work(const wire::SubmitJob& a, const wire::SubmitJob& b) {
  return a.program_hash == b.program_hash && a.arguments == b.arguments && a.env == b.env && a.libraries == b.libraries;
}

void drop(std::vector<std::string> hashes, JobStep& step) {
  for (std::string& hash : hashes) step.files.emplace_back(DropProgram{std::move(hash)});
}

wire::JobAnswer refusal(uint64_t request, Code code, const std::string& why) {
  return {.request = request, .status = wire::to_wire(Status(code, why)), .info = {}};
}

}  // namespace

// ---------------------------------------------------------------------------------------------------- the table

void JobTable::write(const Job& job, JobStep& step) const { step.records.push_back(to_record(job.row)); }

int64_t JobTable::deadline_us(const Job& job) const {
  if (job.row.spec.deadline_us == 0 || job.row.stop.code != 0 || is_over(job)) return 0;
  return std::max<int64_t>(1, job.row.submitted_us + job.row.spec.deadline_us - wall_us_);
}

void JobTable::set_due(Job& job, int64_t due_us) {
  job.due_us = due_us;
  int64_t alarm_us = deadline_us(job);
  if (due_us != 0) alarm_us = alarm_us == 0 ? due_us : std::min(alarm_us, due_us);
  if (alarm_us == job.alarm_us) return;
  if (job.alarm_us != 0) due_.erase({job.alarm_us, job.row.job});
  job.alarm_us = alarm_us;
  if (alarm_us != 0) due_.emplace(alarm_us, job.row.job);
}

Status JobTable::replay(SubmittedJobRecord row) {
  if (row.job == 0 || row.job >= kMaxJob || row.state > static_cast<uint8_t>(JobState::kStopped))
    return Status(Code::kInvalid, "a submitted job's row has no sensible number or state");
  const uint64_t number = row.job;
  Job& job = jobs_[number];
  job.row = std::move(row);
  last_job_ = std::max(last_job_, number);
  by_key_[job.row.spec.key] = number;
  if (job.row.ended != 0) {
    ended_[job.row.ended] = number;
    last_ended_ = std::max(last_ended_, job.row.ended);
    return {};
  }
  programs_.need(number, job.row.spec);
  if (job.row.node != 0) on_node_[job.row.node].insert(number);
  return {};
}

void JobTable::start(int64_t now_us) {
  for (auto& [number, job] : jobs_) {
    if (is_over(job)) continue;
    job.is_heard = false;
    if (state_of(job) == JobState::kSubmitted) {
      set_due(job, now_us + kUploadUs);
    } else if (job.row.node == 0) {
      become_pending(job, now_us);
    } else {
      set_due(job, now_us + kRepeatUs);
    }
  }
}

std::vector<Record> JobTable::snapshot() const {
  std::vector<Record> records;
  for (const auto& [number, job] : jobs_) records.push_back(to_record(job.row));
  return records;
}

bool JobTable::is_present(uint64_t job, uint32_t attempt) const {
  const auto it = jobs_.find(job);
  return it != jobs_.end() && !is_over(it->second) && it->second.row.attempt == attempt && it->second.row.node != 0;
}

const JobTable::Job* JobTable::present(uint64_t job, uint32_t attempt, NodeNumber node) const {
  return is_present(job, attempt) && jobs_.at(job).row.node == node ? &jobs_.at(job) : nullptr;
}
JobTable::Job* JobTable::present(uint64_t job, uint32_t attempt, NodeNumber node) {
  return const_cast<Job*>(std::as_const(*this).present(job, attempt, node));
}

wire::JobInfo JobTable::info_of(const Job& job) const {
  const SubmittedJobRecord& row = job.row;
  wire::JobInfo info{.job = row.job,
                     .name = row.spec.name,
                     .state = row.state,
                     .attempt = row.attempt,
                     .node = row.node,
                     .pid = row.pid,
                     .exit_code = row.exit_code,
                     .cause = row.cause,
                     .submitted_us = row.submitted_us,
                     .started_us = row.started_us,
                     .ended_us = row.ended_us,
                     .wanted = {}};
  if (state_of(job) == JobState::kSubmitted) info.wanted = programs_.missing(row.spec);
  if (waiting_.contains(row.job)) info.cause = wire::to_wire(Status(Code::kUnavailable, waiting_why_));
  if (!is_over(job) && row.stop.code != 0) info.cause = row.stop;
  return info;
}

// ---------------------------------------------------------------------------------------------------- clients

Status JobTable::check(const wire::SubmitJob& spec) const {
  if (spec.key.empty() || spec.key.size() > 256 || spec.name.size() > 256)
    return Status(Code::kInvalid, "a job needs a key, and key and name may have 256 characters");
  MANTA_RETURN_IF_ERROR(wire::check_parts(spec.program_name, spec.program_hash, spec.program_bytes, spec.libraries));
  if (spec.retries < 0 || spec.retries > 1'000 || spec.deadline_us < 0 || spec.deadline_us > int64_t{1} << 50)
    return Status(Code::kInvalid, "retries go from 0 to 1000, and a deadline lies ahead");
  size_t bytes = 0;
  for (const std::string& word : spec.arguments) {
    bytes += word.size() + 1;
    if (word.find('\0') != std::string::npos) return Status(Code::kInvalid, "an argument holds a zero byte");
  }
  for (const auto& [name, value] : spec.env) {
    bytes += name.size() + value.size() + 2;
    if (name.empty() || name.find('=') != std::string::npos || (name + value).find('\0') != std::string::npos)
      return Status(Code::kInvalid, "'" + name + "' cannot be the name of an environment variable");
  }
  if (bytes > settings_.max_words_bytes)
    return Status(Code::kInvalid, "arguments and environment take " + std::to_string(bytes) + " bytes, at most " +
                                      std::to_string(settings_.max_words_bytes) + " are taken");
  if (jobs_.size() - ended_.size() >= settings_.max_open_jobs)
    return Status(Code::kFull, std::to_string(settings_.max_open_jobs) + " jobs are there that are not over");
  return programs_.check(spec);
}

wire::JobAnswer JobTable::submit(wire::SubmitJob spec, JobStep& step) {
  const uint64_t request = std::exchange(spec.request, 0);
  if (const auto known = by_key_.find(spec.key); known != by_key_.end()) {
    const Job& job = jobs_.at(known->second);
    if (!is_same_work(job.row.spec, spec))
      return refusal(request, Code::kExists,
                     "the key '" + spec.key + "' is that of job " + std::to_string(known->second) +
                         ", which has another program, other libraries, other arguments or another environment");
    return {.request = request, .status = {}, .info = info_of(job)};
  }
  if (const Status status = check(spec); !status.ok())
    return {.request = request, .status = wire::to_wire(status), .info = {}};
  Job& job = jobs_[++last_job_];
  job.row = {.job = last_job_, .spec = std::move(spec), .cause = {}, .stop = {}, .submitted_us = step.now_us + wall_us_};
  if (job.row.spec.name.empty()) job.row.spec.name = job.row.spec.program_name;
  by_key_[job.row.spec.key] = last_job_;
  programs_.need(last_job_, job.row.spec);
  if (programs_.missing(job.row.spec).empty()) {
    become_pending(job, step.now_us);
  } else {
    set_due(job, step.now_us + kUploadUs);
  }
  write(job, step);
  return {.request = request, .status = {}, .info = info_of(job)};
}

wire::JobAnswer JobTable::find(const wire::FindJob& request) const {
  const auto it = jobs_.find(request.job);
  if (it == jobs_.end()) return refusal(request.request, Code::kNotFound, "no job " + std::to_string(request.job));
  return {.request = request.request, .status = {}, .info = info_of(it->second)};
}

wire::JobAnswer JobTable::stop(const wire::StopJob& request, JobStep& step) {
  const auto it = jobs_.find(request.job);
  if (it == jobs_.end()) return refusal(request.request, Code::kNotFound, "no job " + std::to_string(request.job));
  want_stop(it->second, Status(Code::kCancelled, "somebody asked"), step);
  return {.request = request.request, .status = {}, .info = info_of(it->second)};
}

void JobTable::want_stop(Job& job, const Status& why, JobStep& step) {
  if (is_over(job) || job.row.stop.code != 0) return;
  job.row.stop = wire::to_wire(why);
  if (job.row.node == 0)
    return finish(job, JobState::kStopped, why.code() == Code::kTimeout ? kExitDeadline : kExitStopped, job.row.stop, step);
  write(job, step);
  order(job, step);
}

void JobTable::upload(Asker asker, wire::UploadProgram part, JobStep& step) {
  const ProgramShelf::Part* program = programs_.find(part.hash);
  const auto refuse = [&](Code code, const std::string& why, uint64_t next) {
    step.messages.push_back(
        {asker.node, wire::JobsAnswer{asker.client, wire::ProgramReceived{.request = part.request,
                                                                          .status = wire::to_wire(Status(code, why)),
                                                                          .next_offset = next}}});
  };
  if (program == nullptr || program->users.empty())
    return refuse(Code::kNotFound, "no job waits for this program any more", 0);
  if (program->is_stored) return refuse(Code::kOk, "", program->bytes);
  if (part.bytes.size() > wire::kJobChunkBytes || part.offset > program->bytes ||
      part.bytes.size() > program->bytes - part.offset)
    return refuse(Code::kInvalid, "a piece that does not lie in the program", 0);
  for (uint64_t user : program->users)
    if (Job& job = jobs_.at(user); state_of(job) == JobState::kSubmitted) set_due(job, step.now_us + kUploadUs);
  step.files.emplace_back(StoreProgram{asker, program->bytes, std::move(part)});
}

void JobTable::read_log(Asker asker, const wire::ReadJobLog& request, JobStep& step) const {
  const auto it = jobs_.find(request.job);
  if (it != jobs_.end()) {
    step.files.emplace_back(ReadLog{asker, request, is_over(it->second)});
    return;
  }
  const Status none(Code::kNotFound, "no job " + std::to_string(request.job));
  step.messages.push_back({asker.node, wire::JobsAnswer{asker.client, wire::JobLogChunk{.request = request.request,
                                                                                        .status = wire::to_wire(none),
                                                                                        .bytes = {}}}});
}

// ---------------------------------------------------------------------------------------------------- programs

void JobTable::program_stored(const std::string& hash, uint64_t bytes, JobStep& step) {
  drop(programs_.stored(hash, bytes), step);
  const ProgramShelf::Part* part = programs_.find(hash);
  if (part == nullptr) return;  // no room for what nobody needs
  for (uint64_t user : part->users) {
    Job& job = jobs_.at(user);
    if (state_of(job) != JobState::kSubmitted || !programs_.missing(job.row.spec).empty()) continue;
    become_pending(job, step.now_us);
    write(job, step);
  }
}

void JobTable::program_wanted(NodeNumber from, const wire::GetProgramPart& part, JobStep& step) const {
  const Job* job = present(part.job, part.attempt, from);
  if (job != nullptr && ProgramShelf::has_part(job->row.spec, part.hash)) {
    step.files.emplace_back(ReadProgram{from, part});
    return;
  }
  const Status none(Code::kNotFound, "this attempt of the job is over");
  step.messages.push_back(
      {from, wire::ProgramChunk{.status = wire::to_wire(none), .hash = part.hash, .offset = part.offset, .bytes = {}}});
}

// ---------------------------------------------------------------------------------------------------- attempts

void JobTable::become_pending(Job& job, int64_t due_us) {
  job.row.state = static_cast<uint8_t>(JobState::kPending);
  set_due(job, due_us);
}

NodeNumber JobTable::choose(const PlacementPolicy& policy) {
  using Rank = std::tuple<bool, bool, size_t, double>;
  NodeNumber best = 0;
  Rank best_rank;
  bool has_candidate = false;
  for (const auto& [number, node] : policy.nodes()) {
    if (!node.takes_work || node.info.is_driver || node.info.capacity.cpus <= 0) continue;
    has_candidate = true;
    const auto here = on_node_.find(number);
    const size_t drivers = here == on_node_.end() ? 0 : here->second.size();
    const int64_t most = std::max<int64_t>(kMinDriversANode, kDriversACpu * node.info.capacity.cpus / wire::kWhole);
    if (drivers >= static_cast<size_t>(most)) continue;
    const Rank rank{!node.info.capacity.devices.empty(), number == wire::kHeadNode, drivers, load_of(node)};
    if (best != 0 && !(rank < best_rank)) continue;
    best = number;
    best_rank = rank;
  }
  if (best == 0) waiting_why_ = has_candidate ? "every node runs as many drivers as it may" : "no node with CPUs takes work";
  return best;
}

void JobTable::place_waiting(JobStep& step) {
  while (may_place_ && !waiting_.empty()) {
    const NodeNumber node = choose(step.policy);
    if (node == 0) {
      may_place_ = false;
      return;
    }
    Job& job = jobs_.at(*waiting_.begin());
    waiting_.erase(waiting_.begin());
    place(job, node, step);
  }
}

void JobTable::place(Job& job, NodeNumber node, JobStep& step) {
  ++job.row.attempt;
  job.row.node = node;
  job.row.has_begun = false;
  job.row.pid = 0;
  job.is_heard = false;
  on_node_[node].insert(job.row.job);
  write(job, step);
  order(job, step);
}

/// What its node should be doing.
void JobTable::order(Job& job, JobStep& step) {
  const SubmittedJobRecord& row = job.row;
  if (row.stop.code != 0) {
    step.messages.push_back({row.node, wire::EndJob{row.job, row.attempt, row.stop.message}});
  } else {
    step.messages.push_back(
        {row.node,
         wire::RunJob{
             .job = row.job, .attempt = row.attempt, .spec = row.spec, .join_token = {}, .has_begun = row.has_begun}});
  }
  set_due(job, step.now_us + kRepeatUs);
}

void JobTable::leave_node(Job& job) {
  if (const auto here = on_node_.find(job.row.node); here != on_node_.end()) {
    here->second.erase(job.row.job);
    if (here->second.empty()) on_node_.erase(here);
  }
  job.row.node = 0;
  may_place_ = true;
}

void JobTable::report(NodeNumber from, const wire::JobReport& report, JobStep& step) {
  Job* job = present(report.job, report.attempt, from);
  const bool is_end = static_cast<JobEvent>(report.event) == JobEvent::kEnded;
  if (job == nullptr) {
    // Of an attempt that is over. What is still running must end; what has ended can be forgotten.
    if (is_end) step.messages.push_back({from, wire::JobNoted{report.job, report.attempt, 0, true}});
    if (!is_end) step.messages.push_back({from, wire::EndJob{report.job, report.attempt, "this attempt was given up"}});
    return;
  }
  job->is_heard = true;
  if (is_end) return attempt_over(*job, report, step);
  if (job->row.stop.code == 0) set_due(*job, 0);
  if (static_cast<JobEvent>(report.event) != JobEvent::kStarted || job->row.has_begun) return;
  job->row.has_begun = true;
  job->row.pid = report.pid;
  job->row.state = static_cast<uint8_t>(JobState::kRunning);
  if (job->row.started_us == 0) job->row.started_us = step.now_us + wall_us_;
  job->row.cause = {};
  write(*job, step);
}

void JobTable::attempt_over(Job& job, const wire::JobReport& report, JobStep& step) {
  const NodeNumber node = job.row.node;
  const bool had_begun = job.row.has_begun || report.has_run;
  leave_node(job);
  const bool is_good = report.has_run && !report.by_signal && report.exit_code == 0;
  const int code = !report.has_run ? kExitNotRun : report.by_signal ? kExitSignal + report.exit_code : report.exit_code;
  if (is_good) {
    finish(job, JobState::kSucceeded, 0, {}, step);
  } else if (job.row.stop.code != 0) {
    const bool is_deadline = static_cast<Code>(job.row.stop.code) == Code::kTimeout;
    finish(job, JobState::kStopped, is_deadline ? kExitDeadline : (had_begun ? code : kExitStopped), job.row.stop, step);
  } else if (report.has_run && !report.by_signal && !job.row.spec.retry_exits) {
    finish(job, JobState::kFailed, code, report.cause, step);
  } else {
    try_again(job, code, report.cause, true, step);
  }
  step.messages.push_back({node, wire::JobNoted{report.job, report.attempt, 0, true}});
}

void JobTable::try_again(Job& job, int exit_code, const wire::WireStatus& cause, bool costs_retry, JobStep& step) {
  if (costs_retry && job.row.retries_used >= job.row.spec.retries)
    return finish(job, JobState::kFailed, exit_code, cause, step);
  int64_t delay_us = 0;
  if (costs_retry) {
    delay_us = std::min(kMaxBackoffUs, kFirstBackoffUs << std::min(job.row.retries_used, 10));
    ++job.row.retries_used;
  }
  job.row.cause = cause;
  job.row.has_begun = false;
  become_pending(job, step.now_us + delay_us);
  write(job, step);
}

void JobTable::node_lost(NodeNumber node, const wire::WireStatus& cause, bool in_order, JobStep& step) {
  const auto here = on_node_.find(node);
  if (here == on_node_.end()) return;
  for (uint64_t number : std::set<uint64_t>(here->second)) {
    Job& job = jobs_.at(number);
    const bool had_begun = job.row.has_begun;
    step.given_up.emplace_back(number, job.row.attempt);
    leave_node(job);
    if (job.row.stop.code != 0) {
      const bool is_deadline = static_cast<Code>(job.row.stop.code) == Code::kTimeout;
      finish(job, JobState::kStopped, is_deadline ? kExitDeadline : kExitStopped, job.row.stop, step);
    } else {
      const bool is_free = !had_begun || (in_order && job.row.spec.retries > 0);
      try_again(job, kExitNotRun, cause, !is_free, step);
    }
  }
}

void JobTable::node_returned(NodeNumber node, int64_t now_us) {
  may_place_ = true;
  const auto here = on_node_.find(node);
  if (here == on_node_.end()) return;
  for (uint64_t number : here->second) {
    Job& job = jobs_.at(number);
    job.is_heard = false;
    set_due(job, now_us);
  }
}

void JobTable::log_part(NodeNumber from, wire::JobLogPart part, JobStep& step) const {
  if (present(part.job, part.attempt, from) != nullptr && part.bytes.size() <= wire::kJobLogChunkBytes) {
    step.files.emplace_back(AppendLog{from, std::move(part)});
  } else {
    step.messages.push_back({from, wire::JobNoted{part.job, part.attempt, 0, true}});
  }
}

// ---------------------------------------------------------------------------------------------------- time

void JobTable::tick(JobStep& step) {
  while (!due_.empty() && due_.begin()->first <= step.now_us) {
    Job& job = jobs_.at(due_.begin()->second);
    due_.erase(due_.begin());
    job.alarm_us = 0;
    act(job, step);
  }
  place_waiting(step);
}

void JobTable::act(Job& job, JobStep& step) {
  if (const int64_t deadline = deadline_us(job); deadline != 0 && deadline <= step.now_us)
    return want_stop(job, Status(Code::kTimeout, "its deadline passed"), step);
  if (job.due_us == 0 || job.due_us > step.now_us) return set_due(job, job.due_us);
  if (state_of(job) == JobState::kSubmitted) {
    const Status why(Code::kTimeout, "its program was not uploaded: nothing came for 10 minutes");
    return finish(job, JobState::kFailed, kExitNotRun, wire::to_wire(why), step);
  }
  if (job.row.node != 0) return order(job, step);
  waiting_.insert(job.row.job);
  may_place_ = true;
  set_due(job, 0);
}

std::optional<int64_t> JobTable::next_deadline_us() const {
  if (may_place_ && !waiting_.empty()) return 0;
  if (due_.empty()) return std::nullopt;
  return due_.begin()->first;
}

void JobTable::finish(Job& job, JobState state, int exit_code, wire::WireStatus cause, JobStep& step) {
  waiting_.erase(job.row.job);
  job.row.state = static_cast<uint8_t>(state);
  job.row.exit_code = exit_code;
  job.row.cause = std::move(cause);
  job.row.ended_us = step.now_us + wall_us_;
  step.files.emplace_back(EndLog{job.row.job});
  job.row.ended = ++last_ended_;
  ended_[job.row.ended] = job.row.job;
  set_due(job, 0);
  drop(programs_.release(job.row.job, job.row.spec), step);
  write(job, step);
  if (ended_.size() > settings_.max_ended_jobs) forget_oldest(step);
}

// Not the one with the largest number: after a restart it would be given out again.
void JobTable::forget_oldest(JobStep& step) {
  auto oldest = ended_.begin();
  if (oldest->second == last_job_) ++oldest;
  if (oldest == ended_.end()) return;
  const auto job = jobs_.extract(oldest->second);
  ended_.erase(oldest);
  by_key_.erase(job.mapped().row.spec.key);
  step.records.push_back(removal(job.mapped().row));
  step.files.emplace_back(DropLog{job.key()});
}

void JobTable::check_invariants() const {
  size_t ended = 0;
  for (const auto& [number, job] : jobs_) {
    const SubmittedJobRecord& row = job.row;
    MANTA_CHECK(row.job == number && number <= last_job_, number);
    MANTA_CHECK(by_key_.at(row.spec.key) == number, number);
    MANTA_CHECK(row.retries_used <= row.spec.retries, number);
    ended += is_over(job) ? 1 : 0;
    if (is_over(job)) {
      MANTA_CHECK(row.node == 0 && job.alarm_us == 0 && ended_.at(row.ended) == number, number);
      continue;
    }
    MANTA_CHECK(programs_.find(row.spec.program_hash)->users.contains(number), number);
    if (row.node != 0) MANTA_CHECK(on_node_.at(row.node).contains(number) && row.attempt > 0, number);
    MANTA_CHECK(!waiting_.contains(number) || (row.node == 0 && state_of(job) == JobState::kPending), number);
    if (state_of(job) == JobState::kRunning) MANTA_CHECK(row.node != 0 && row.has_begun, number);
    if (job.alarm_us != 0) MANTA_CHECK(due_.contains({job.alarm_us, number}), number);
  }
  MANTA_CHECK(ended == ended_.size() && ended <= settings_.max_ended_jobs + 1, ended);
  MANTA_CHECK(by_key_.size() == jobs_.size(), by_key_.size());
  programs_.check_invariants();
}

}  // namespace manta::head

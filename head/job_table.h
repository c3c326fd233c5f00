// Submitted jobs: drivers that the head runs on the cluster's nodes.
//
//   SUBMITTED --program stored--> PENDING --attempt started--> RUNNING --exit code 0--> SUCCEEDED
//       |                          |  ^                           | exit code, or attempts used up --> FAILED
//       | no upload for 10 min     |  +-- killed, or its node lost,+
//       +--> FAILED                |      with retries left        +-- stopped, or its deadline passed --> STOPPED
//
// An attempt is (job, attempt): what another than the present one still says has no effect, and its node is told to end it.
// Orders to nodes are repeated until they are answered. A lost node costs a retry only if the driver had started there.
//
// Drivers take no resources; each node runs a bounded number, the others wait in the order they came. A driver goes to a
// node with CPUs: rather one without GPUs, rather not the head's (whose end would take it along), then the one with fewest.
//
// A program is stored in parts (program_shelf.h): for as long as a job that is not over needs it, and then until room is
// needed.
//
// Invariants: 1 at most one present attempt a job; attempts only grow. 2 A key names one job. 3 Jobs, waiting orders and
// stored programs are bounded. 4 Replaying the rows gives the table.
//
// Pure; owned by the head's core. Time comes with each call; a tick costs what is due.
#pragma once

#include "head/job_orders.h"
#include "head/placement_policy.h"
#include "head/program_shelf.h"
#include "head/records.h"
#include "head/store.h"
#include "wire/head_link.h"

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace manta::head {

struct JobSettings {
  size_t max_open_jobs = 10'000;
  size_t max_ended_jobs = 1'000;  ///< Remembered, with their logs.
  ShelfSettings programs = {};
  size_t max_words_bytes = size_t{1} << 20;  ///< Arguments and environment of a job.
};

/// What a call may use, and what it led to.
struct JobStep {
  const PlacementPolicy& policy;
  int64_t now_us = 0;

  std::vector<wire::ToNode> messages = {};
  std::vector<Record> records = {};
  std::vector<FileOrder> files = {};
  /// Attempts that were given up and whose drivers may still live.
  std::vector<std::pair<uint64_t, uint32_t>> given_up = {};
};

class JobTable {
 public:
  static constexpr int64_t kRepeatUs = 2'000'000;
  static constexpr int64_t kUploadUs = 600'000'000;  ///< Without a chunk.
  static constexpr int64_t kFirstBackoffUs = 500'000;
  static constexpr int64_t kMaxBackoffUs = 30'000'000;
  static constexpr int kMinDriversANode = 4;
  static constexpr int kDriversACpu = 4;
  static constexpr uint64_t kMaxJob = uint64_t{1} << 40;  ///< Below every driver's number.

  // Exit codes of jobs that have none of their own.
  static constexpr int kExitDeadline = 124;
  static constexpr int kExitNotRun = 125;  ///< Its node was lost, or it could not be started.
  static constexpr int kExitSignal = 128;  ///< And the signal.
  static constexpr int kExitStopped = 143;

  explicit JobTable(JobSettings settings = {}) : settings_(settings), programs_(settings.programs) {}

  struct Job {
    SubmittedJobRecord row;
    bool is_heard = false;  ///< The attempt's node has answered.
    int64_t due_us = 0;     ///< Something is to be said or given up; 0: nothing but its deadline.
    int64_t alarm_us = 0;   ///< As it stands in due_; 0: not there.
  };

  /// Begins a life of the head: orders go out again. `wall_us` is what to add to its time to get the time since 1970.
  void set_wall(int64_t wall_us) { wall_us_ = wall_us; }
  void start(int64_t now_us);
  Status replay(SubmittedJobRecord row);

  wire::JobAnswer submit(wire::SubmitJob spec, JobStep& step);
  wire::JobAnswer stop(const wire::StopJob& request, JobStep& step);
  [[nodiscard]] wire::JobAnswer find(const wire::FindJob& request) const;
  /// What is left to do: to write, or to read. Else the answer that refuses.
  void upload(Asker asker, wire::UploadProgram part, JobStep& step);
  void read_log(Asker asker, const wire::ReadJobLog& request, JobStep& step) const;

  /// A part of programs is stored as a whole; jobs that wait for it go on. Also at the start, for each that is there.
  void program_stored(const std::string& hash, uint64_t bytes, JobStep& step);

  void report(wire::NodeNumber from, const wire::JobReport& report, JobStep& step);
  void log_part(wire::NodeNumber from, wire::JobLogPart part, JobStep& step) const;
  void program_wanted(wire::NodeNumber from, const wire::GetProgramPart& part, JobStep& step) const;

  /// `in_order`: it left; a job that may be run again is, at no cost.
  void node_lost(wire::NodeNumber node, const wire::WireStatus& cause, bool in_order, JobStep& step);
  void node_returned(wire::NodeNumber node, int64_t now_us);
  /// A driver more may fit somewhere.
  void room_grew() { may_place_ = true; }
  void tick(JobStep& step);
  [[nodiscard]] std::optional<int64_t> next_deadline_us() const;

  [[nodiscard]] const std::map<uint64_t, Job>& jobs() const { return jobs_; }
  [[nodiscard]] bool is_present(uint64_t job, uint32_t attempt) const;
  [[nodiscard]] wire::JobInfo info_of(const Job& job) const;
  [[nodiscard]] std::vector<Record> snapshot() const;
  void check_invariants() const;

 private:
  [[nodiscard]] Status check(const wire::SubmitJob& spec) const;
  [[nodiscard]] Job* present(uint64_t job, uint32_t attempt, wire::NodeNumber node);
  [[nodiscard]] const Job* present(uint64_t job, uint32_t attempt, wire::NodeNumber node) const;
  void write(const Job& job, JobStep& step) const;
  void set_due(Job& job, int64_t due_us);
  [[nodiscard]] int64_t deadline_us(const Job& job) const;

  void become_pending(Job& job, int64_t due_us);
  void place(Job& job, wire::NodeNumber node, JobStep& step);
  void place_waiting(JobStep& step);
  [[nodiscard]] wire::NodeNumber choose(const PlacementPolicy& policy);
  void leave_node(Job& job);
  void act(Job& job, JobStep& step);
  void order(Job& job, JobStep& step);
  void want_stop(Job& job, const Status& why, JobStep& step);
  void attempt_over(Job& job, const wire::JobReport& report, JobStep& step);
  /// Another attempt, if it may have one; else the end.
  void try_again(Job& job, int exit_code, const wire::WireStatus& cause, bool costs_retry, JobStep& step);
  void finish(Job& job, wire::JobState state, int exit_code, wire::WireStatus cause, JobStep& step);
  void forget_oldest(JobStep& step);

  JobSettings settings_;
  int64_t wall_us_ = 0;
  std::map<uint64_t, Job> jobs_;
  std::map<std::string, uint64_t> by_key_;
  std::map<uint64_t, uint64_t> ended_;  // in the order they ended
  uint64_t last_ended_ = 0;
  uint64_t last_job_ = 0;
  std::set<uint64_t> waiting_;  // for a node
  bool may_place_ = false;
  std::string waiting_why_;
  std::map<wire::NodeNumber, std::set<uint64_t>> on_node_;
  std::set<std::pair<int64_t, uint64_t>> due_;
  ProgramShelf programs_;
};

}  // namespace manta::head

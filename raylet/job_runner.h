// The drivers of submitted jobs on this node: the processes and files around job_runner_core.h.
//
//   <folder>/<job>.<attempt>/    work (where the driver starts), log, and in a cluster with keys: token, keys
//                                with a job user (job_user.h) work, keys and token are that user's
//   <folder>/programs            the programs, fetched from the head
//
// A driver is a process group of its own that ends with this mantad, whatever ends it. It joins the cluster through a mantad
// that it starts itself, as every driver does, beside this one's address and with a token that is good once.
//
// Thread safety: none; owned by the raylet's loop. A tick costs a look at each running driver's log, ten times a second.
#pragma once

#include "raylet/event_loop.h"
#include "raylet/job_runner_core.h"
#include "raylet/program_cache.h"
#include "raylet/worker_process.h"
#include "wire/head_link.h"

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

namespace manta::raylet {

struct JobRunnerSettings {
  std::string folder;
  std::string mantad;   ///< The program, for drivers to start.
  std::string address;  ///< Of the head, as this node reaches it.
  std::string listen;   ///< This node's own.
  std::string advertise;
  bool has_keys = false;
  std::optional<JobUser> user;  ///< Of drivers; none: this process's own.
};

class JobRunner {
 public:
  static constexpr int64_t kLookUs = 100'000;

  JobRunner(JobRunnerSettings settings, EventLoop& loop, std::function<void(wire::ToHead)> tell_head);
  ~JobRunner();

  /// False when the message is not for it.
  bool on(const wire::FromHead& message, int64_t now_us);
  void tick(int64_t now_us);
  [[nodiscard]] std::optional<int64_t> next_deadline_us() const;
  /// Those that run, and those of which the head has not noted the end.
  [[nodiscard]] size_t attempts() const { return core_.size(); }

 private:
  struct Driver {
    std::string folder;
    uint64_t program = 0;  ///< Its user in programs_.
    Fd log;
    WorkerProcess process;
    EventLoop::Id exit = 0;
  };

  void carry_out(JobEffects effects, int64_t now_us);
  void carry_out(const wire::JobReport& effect, int64_t now_us);
  void carry_out(const FetchDriver& effect, int64_t now_us);
  void carry_out(const StartDriver& effect, int64_t now_us);
  void carry_out(const SignalDriver& effect, int64_t now_us);
  void carry_out(const SendLog& effect, int64_t now_us);
  void carry_out(const FreeLog& effect, int64_t now_us);
  void carry_out(const ForgetDriver& effect, int64_t now_us);

  Status make_folder(Driver& driver, const StartDriver& effect) const;
  [[nodiscard]] Spawn plan(const Driver& driver, const StartDriver& effect) const;
  Status start(Driver& driver, const StartDriver& effect);
  void program_came(uint64_t user, const Result<std::string>& path);
  void on_exit(const JobAttempt& attempt);
  void look_at_log(const JobAttempt& attempt, int64_t now_us);

  JobRunnerSettings settings_;
  EventLoop& loop_;
  std::function<void(wire::ToHead)> tell_head_;
  JobRunnerCore core_;
  ProgramCache programs_;
  std::map<JobAttempt, Driver> drivers_;
  std::map<uint64_t, FetchDriver> fetching_;  // by the user of the program
  uint64_t last_user_ = 0;
  int64_t next_look_us_ = 0;
};

}  // namespace manta::raylet

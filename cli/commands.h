// The commands of `manta`: each adds itself to the parser, and runs when it was named.
#pragma once

#include "cli/session.h"

#include <CLI/CLI.hpp>

#include <memory>

namespace manta::cli {

// `where` is filled in by the time that a command runs.

/// keys create, rotate; token create, list, revoke.
void add_key_commands(CLI::App& app, const std::shared_ptr<const Where>& where);

/// status; list; jobs.
void add_look_commands(CLI::App& app, const std::shared_ptr<const Where>& where);

/// explain.
void add_explain_command(CLI::App& app, const std::shared_ptr<const Where>& where);

/// drain.
void add_drain_command(CLI::App& app, const std::shared_ptr<const Where>& where);

/// kill.
void add_kill_command(CLI::App& app, const std::shared_ptr<const Where>& where);

/// submit; logs.
void add_job_commands(CLI::App& app, const std::shared_ptr<const Where>& where);

/// Has a submitted job stopped, and says what has become of it.
void stop_job(const Where& where, uint64_t job);

/// start; stop, also of a job.
void add_start_commands(CLI::App& app, const std::shared_ptr<const Where>& where);

/// completion. The other commands are there already; `app` outlives the command.
void add_completion_command(CLI::App& app);

/// What a command that failed says, and the program's exit code for it.
class Failed : public CLI::RuntimeError {
 public:
  explicit Failed(const std::string& why) : CLI::RuntimeError("Failed", 1), why_(why) {}
  [[nodiscard]] const std::string& why() const { return why_; }

 private:
  std::string why_;
};

inline void must(const Status& status) {
  if (!status.ok()) throw Failed(status.message());
}
template <typename T>
T must(Result<T> result) {
  if (!result.ok()) throw Failed(result.status().message());
  return std::move(result).value();
}

}  // namespace manta::cli

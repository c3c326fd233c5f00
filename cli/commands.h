// The commands of `manta`: each adds itself to the parser, and runs when it was named.
#pragma once

#include <CLI/CLI.hpp>

namespace manta::cli {

/// keys create; token create, list, revoke.
void add_key_commands(CLI::App& app);

/// What a command that failed says, and the program's exit code for it.
class Failed : public CLI::RuntimeError {
 public:
  explicit Failed(const std::string& why) : CLI::RuntimeError("Failed", 1), why_(why) {}
  [[nodiscard]] const std::string& why() const { return why_; }

 private:
  std::string why_;
};

}  // namespace manta::cli

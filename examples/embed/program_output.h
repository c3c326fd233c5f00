// Runs another program and takes what it prints.
#pragma once

#include <manta/status.h>

#include <chrono>
#include <string>
#include <vector>

namespace embed {

struct OutputLimits {
  std::chrono::milliseconds timeout{60'000};
  size_t max_bytes = size_t{64} << 20;
};

/// The standard output of `words[0]`, looked for in PATH; its standard error goes nowhere. Never goes through a shell.
/// kNotFound when there is no such program, kTimeout and kFull at the limits (it is killed then), kTaskFailed when it fails
/// without printing anything: a renderer that complains and prints a page has done its work.
manta::Result<std::string> output_of(std::vector<std::string> words, const OutputLimits& limits = {});

}  // namespace embed

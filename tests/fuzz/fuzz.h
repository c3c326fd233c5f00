// What a fuzz target defines: `foo_fuzz.cc` has these two functions and nothing else with linkage.
//
// Built with Clang (-DMANTA_FUZZ=ON) it is a libFuzzer program. Built as usual it is a test: the seeds, and thousands of
// mutations of them from a fixed seed, so that every build and every sanitizer preset runs each decoder over hostile bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace manta::fuzz {

/// Valid inputs, made by the project's own encoders; the corpus to start from.
std::vector<std::string> seeds();

}  // namespace manta::fuzz

/// Runs the decoder over one input. Stops the process (MANTA_CHECK) when what it claims does not hold. Returns 0.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

#include "actors/inline_runtime.h"

#include <manta/error.h>
#include <manta/run.h>

#include <cstdio>
#include <cstdlib>
#include <string_view>

namespace manta::detail {
namespace {

int run_program(int argc, char** argv, const std::function<int(int, char**)>& program) {
  try {
    return program(argc, argv);
  } catch (const Error& error) {
    std::fprintf(stderr, "manta: %s\n", error.what());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "manta: the program ended with %s: %s\n", type_name(typeid(error).name()).c_str(), error.what());
  }
  return 1;
}

int run_inline(int argc, char** argv, const std::function<int(int, char**)>& program) {
  InlineRuntime runtime;
  Runtime::install(&runtime);
  const int code = run_program(argc, argv, program);
  Runtime::install(nullptr);
  return code;
}

}  // namespace

int run_main(int argc, char** argv, const std::function<int(int, char**)>& program, const char*) {
  return run_inline(argc, argv, program);
}

}  // namespace manta::detail

// The shared libraries that go with a program to other nodes, and those that came with it.
#pragma once

#include <manta/status.h>

#include <string>
#include <vector>

namespace manta {

/// For a driver: the files that go along with its program. Those that came with it (MANTA_LIBRARIES, set by the node that
/// started it), else with MANTA_PACKAGE ("1", or files that are to go along as well, separated by ':') those it has loaded
/// that are not the system's. Empty when nothing was asked for. The errors are for the user.
Result<std::vector<std::string>> libraries_to_bring();

/// Whether this process has loaded what came with its program, and no other library of the same name. kInvalid names the
/// first that is another: a folder in the program (DT_RPATH) that the loader searches before any other.
Status check_libraries_came_first();

}  // namespace manta

// A node of the driver's own: starts mantad, connected by a socket pair, in a session folder that goes with it.
#pragma once

#include "common/fd.h"

#include <manta/status.h>

#include <string>

namespace manta {

struct LocalNode {
  Fd socket;  ///< To the raylet. When it closes, the node ends.
  int mantad_pid = 0;
  std::string session_dir;
};

/// Options come from the environment: MANTA_CPUS, MANTA_GPUS, MANTA_MEMORY_BYTES, MANTA_STORE_BYTES,
/// MANTA_STORE_WARM_BYTES, MANTA_SPILL_DIR, MANTA_SPILL_BYTES, MANTA_RESOURCES, MANTA_SESSION_DIR, MANTA_MANTAD (the
/// program). `daemon_hint` is where the build says mantad is; may be null.
Result<LocalNode> start_local_node(const char* daemon_hint);

/// Waits for mantad to be gone, and sees to it that nothing is left when the driver returns.
void wait_for_end(const LocalNode& node);

/// Identifies the program's build: peers of another are refused. Its GNU build id, else its size and time.
std::string build_id();

/// The path of the running program.
std::string program_path();

}  // namespace manta

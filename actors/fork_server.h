// A program that has come as far as manta::run and makes workers by forking itself, on a raylet's word: a fork shares what
// loading and linking the program took, so that a worker of a large program costs no more than one of a small one.
//
// It forks without exec, so it does so only while the process has one thread: nobody else can hold a lock. The children are
// the raylet's, not its own (CLONE_PARENT): the raylet waits for them, watches them and dies with them as with those it
// spawns. They differ from those only in that what the program did before manta::run was done once for all of them.
#pragma once

#include "common/fd.h"

namespace manta {

/// Serves the raylet on `socket` until it hangs up. False in the server, at its end; true in each child, which has become a
/// worker-to-be: its socket and its token are where a spawned worker has them (MANTA_WORKER_FD, MANTA_SPAWN_TOKEN).
bool serve_forks(Fd socket);

}  // namespace manta

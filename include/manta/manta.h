// Manta in one include: tasks, actors, objects, coroutines and `run`. Data pipelines are in <manta/data.h>, models in
// <manta/torch.h>.
#pragma once

#include <manta/actor.h>    // IWYU pragma: export
#include <manta/async.h>    // IWYU pragma: export
#include <manta/buffer.h>   // IWYU pragma: export
#include <manta/error.h>    // IWYU pragma: export
#include <manta/explain.h>  // IWYU pragma: export
#include <manta/options.h>  // IWYU pragma: export
#include <manta/placement_group.h>  // IWYU pragma: export
#include <manta/ref.h>      // IWYU pragma: export
#include <manta/run.h>      // IWYU pragma: export
#include <manta/stream.h>   // IWYU pragma: export
#include <manta/task.h>     // IWYU pragma: export

// The command line of mantad:
//
//   mantad --local --driver-fd N --session-dir DIR [--cpus C] [--gpus G] [--memory BYTES] [--store-bytes B]
//          [--store-warm-bytes B] [--spill-dir DIR] [--spill-bytes B] [--resources k=v,...]
//
// What is not given is the machine's: its hardware threads, its memory, what its disk has free. `--memory` is
// also the limit that the memory monitor keeps over all workers. `--gpus` makes logical devices. Amounts may be fractions.
#pragma once

#include "raylet/node_server.h"

namespace manta::raylet {

/// kInvalid names the flag and what is wrong with it.
Result<NodeOptions> parse_flags(int argc, char** argv);

/// "1.5" as 15'000. kInvalid for anything that is no number from 0 to a billion.
Result<int64_t> parse_amount(std::string_view text);

}  // namespace manta::raylet

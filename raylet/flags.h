// The command line of mantad:
//
//   mantad --local --driver-fd N --session-dir DIR [--cpus C] [--gpus G] [--memory BYTES] [--store-bytes B]
//          [--store-warm-bytes B] [--spill-dir DIR] [--spill-bytes B] [--resources k=v,...]
//   mantad --head [--keys DIR] [--listen tcp://ADDR:PORT] [--state-dir DIR] ...
//   mantad --address tcp://HEAD:PORT [--keys DIR [--join-token FILE]] [--listen ...] [--advertise HOST] [--labels k=v,...]
//   ...
//
// A node of the third kind takes --drain-deadline SECONDS (60): how long SIGTERM lets it finish what it does.
//
// --job-quota KIND=AMOUNT,... is the most that the job of this node's driver, at the head each job, may hold at a time
// (cpus, gpus, memory in bytes, gpu_memory, custom resources).
//
// --job-user NAME, for a mantad that is root: drivers of submitted jobs and workers of others' jobs run as that user.
//
// The second is the head's node of a cluster, the third one of its other nodes; with --driver-fd that of a driver, which
// takes no work. Without --listen a node listens on any port of 127.0.0.1.
//
// What is not given is the machine's: its hardware threads, its memory, what its disk has free. `--memory` is
// also the limit that the memory monitor keeps over all workers. `--gpus` makes logical devices. Amounts may be fractions.
#pragma once

#include "raylet/node_server.h"

namespace manta::raylet {

/// Of a node of a cluster.
struct ClusterFlags {
  bool is_head = false;
  std::string address;  ///< The head's endpoint; empty on its own node.
  std::string listen = "tcp://127.0.0.1:*";
  std::string advertise;
  std::string keys_dir;    ///< Its own pair and, at the head, whom it lets in; empty: no keys, loopback only.
  std::string join_token;  ///< The file with one.
  std::string state_dir;   ///< Where the head keeps its tables; empty: in the session's folder.
  std::map<std::string, std::string> labels;
};

struct Flags {
  NodeOptions node;
  std::optional<ClusterFlags> cluster;
};

/// kInvalid names the flag and what is wrong with it.
Result<Flags> parse_flags(int argc, char** argv);

/// "1.5" as 15'000. kInvalid for anything that is no number from 0 to a billion.
Result<int64_t> parse_amount(std::string_view text);

}  // namespace manta::raylet

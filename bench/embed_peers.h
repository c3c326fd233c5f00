// Others that do the main job, each run in a fresh process, in turn with Manta's runs.
#pragma once

#include <string>
#include <vector>

#include "bench/models_bench.h"

namespace manta::bench {

/// sentence-transformers and Ray Data, as bench/embed_peer.py runs them. A peer that is not there or fails says so in one
/// line of the report and is not run again.
class EmbedPeers {
 public:
  struct Job {
    std::string python, script, model, input, output;
    size_t passages = 0;
  };
  explicit EmbedPeers(Job job);

  /// Each peer once. Blocks as long as they take, at most half an hour each.
  void run_round();
  /// A line for each, and the ratios of Manta's passages a second to theirs.
  void print(double manta) const;

 private:
  struct Peer {
    std::string name, kind, missing;
    std::vector<std::string> words;  ///< Further arguments.
    Samples alone, whole;            ///< Passages a second, without and with start and end.
  };
  void run_once(Peer& peer) const;
  void print_ratio(double manta, const std::string& kind) const;

  Job job_;
  std::vector<Peer> peers_;
};

}  // namespace manta::bench

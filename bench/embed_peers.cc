#include "bench/embed_peers.h"

#include <sstream>
#include <thread>

#include "examples/embed/program_output.h"

namespace manta::bench {

EmbedPeers::EmbedPeers(Job job) : job_(std::move(job)) {
  const std::string cores = std::to_string(std::max(1u, std::thread::hardware_concurrency()));
  const auto add = [this](std::string name, std::string kind, std::vector<std::string> words) {
    peers_.push_back({.name = std::move(name),
                      .kind = std::move(kind),
                      .missing = {},
                      .words = std::move(words),
                      .alone = {},
                      .whole = {}});
  };
  add("sentence-transformers", "sentence-transformers", {});
  add("Ray Data, " + cores + " actors of 1 thread", "ray", {cores, "1"});
  add("Ray Data, 1 actor of " + cores + " threads", "ray", {"1", cores});
}

void EmbedPeers::run_once(Peer& peer) const {
  std::vector<std::string> words{job_.python, job_.script, peer.kind, job_.model, job_.input, job_.output};
  words.insert(words.end(), peer.words.begin(), peer.words.end());
  const auto said = embed::output_of(std::move(words), {.timeout = std::chrono::minutes(30)});
  if (!said.ok()) {
    peer.missing = said.status().to_string();
    return;
  }
  const auto passages = static_cast<double>(job_.passages);
  std::istringstream lines(*said);
  for (std::string word; lines >> word;) {
    double seconds = 0;
    if (word == "missing")
      std::getline(lines >> std::ws, peer.missing);
    else if (word == "alone" && lines >> seconds)
      peer.alone.add(passages / seconds);
    else if (word == "whole" && lines >> seconds)
      peer.whole.add(passages / seconds);
  }
  if (peer.missing.empty() && (peer.alone.empty() || peer.whole.empty())) peer.missing = "it said nothing";
}

void EmbedPeers::run_round() {
  for (Peer& peer : peers_)
    if (peer.missing.empty()) run_once(peer);
}

void EmbedPeers::print(double manta) const {
  for (const Peer& peer : peers_) {
    if (!peer.missing.empty()) std::printf("  %s: not measured, %s\n", peer.name.c_str(), peer.missing.c_str());
    if (!peer.alone.empty()) peer.alone.print(peer.name + ", start not counted", "passages/s");
    if (!peer.whole.empty()) peer.whole.print(peer.name + ", with start and end", "passages/s");
  }
  print_ratio(manta, "sentence-transformers");
  print_ratio(manta, "ray");
}

void EmbedPeers::print_ratio(double manta, const std::string& kind) const {
  double alone = 0, whole = 0;
  for (const Peer& peer : peers_) {
    if (peer.kind != kind) continue;
    alone = std::max(alone, peer.alone.median());
    whole = std::max(whole, peer.whole.median());
  }
  if (alone == 0 || whole == 0) return;
  const std::string name = kind == "ray" ? "the best of Ray Data" : kind;
  std::printf("  Manta fp32, with start and end, over %s: %.2f start not counted, %.2f with start and end\n", name.c_str(),
              manta / alone, manta / whole);
}

}  // namespace manta::bench

// Actors that wait for room, each at the node that the head chose: whichever node gets room first, one of them has it.
//
//   waits NODES   on that many nodes of one CPU each
#include <manta/manta.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <vector>

struct Tenant {
  int here() { return 0; }
};

namespace {

constexpr auto kPatience = std::chrono::seconds(30);
int nodes = 0;

manta::Actor<Tenant> spawn_one() { return manta::spawn<Tenant>.with({.cpus = 1})(); }

/// Waits until one more of `tenants` has started and takes it out.
manta::Actor<Tenant> take_started(std::vector<manta::Actor<Tenant>>& tenants) {
  std::vector<manta::Ref<int>> calls;
  calls.reserve(tenants.size());
  for (auto& tenant : tenants) calls.push_back(tenant.call<&Tenant::here>());
  if (manta::wait(calls, 1, kPatience).ready.empty()) throw std::runtime_error("there is room, and nobody has it");
  for (size_t i = 0; i < tenants.size(); ++i) {
    if (!calls[i].is_ready()) continue;
    manta::Actor<Tenant> started = tenants[i];
    tenants.erase(tenants.begin() + static_cast<std::ptrdiff_t>(i));
    return started;
  }
  throw std::logic_error("none is ready");
}

int program() {
  std::vector<manta::Actor<Tenant>> first(static_cast<size_t>(nodes));
  for (auto& tenant : first) tenant = spawn_one();
  for (const auto& tenant : first) tenant.wait_ready(kPatience);
  std::vector<manta::Actor<Tenant>> waiting(static_cast<size_t>(nodes));
  for (auto& tenant : waiting) tenant = spawn_one();
  // The one CPU that becomes free, again and again, is of one node: those that wait at the others must come here.
  first.front().kill();
  while (!waiting.empty()) take_started(waiting).kill();
  std::printf("each of %d had its turn on one CPU\n", nodes);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  nodes = argc > 1 ? std::atoi(argv[1]) : 0;
  return manta::run(argc, argv, program);
}

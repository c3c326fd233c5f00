// A program that asks for actors and waits: of `unobtainium`, which no node has, they are demands for the head to keep; of
// CPUs, the nodes' queues keep those that do not fit.
//
//   demands COUNT [CPUS]
#include <manta/manta.h>

#include <cstdio>
#include <cstdlib>
#include <vector>

struct Idle {
  int nothing() { return 0; }
};

int program(int argc, char** argv) {
  const long count = argc > 1 ? std::atol(argv[1]) : 1;
  const double cpus = argc > 2 ? std::atof(argv[2]) : 0;
  std::vector<manta::Actor<Idle>> actors;
  for (long i = 0; i < count; ++i) {
    manta::ActorOptions options{.cpus = cpus, .name_space = i % 2 == 0 ? "even" : "odd"};
    if (cpus == 0) options.resources = {{"unobtainium", 1.0}};
    actors.push_back(manta::spawn<Idle>.with(options)());
  }
  std::printf("%ld asked for\n", count);
  std::fflush(stdout);
  return actors.back().call<&Idle::nothing>().get();  // for ever
}

int main(int argc, char** argv) { return manta::run(argc, argv, program); }

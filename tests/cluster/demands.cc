// A program that asks for actors which no node can hold, and waits: demands for the head to keep.
//
//   demands COUNT
#include <manta/manta.h>

#include <cstdio>
#include <cstdlib>
#include <vector>

struct Idle {
  int nothing() { return 0; }
};

int program(int argc, char** argv) {
  const long count = argc > 1 ? std::atol(argv[1]) : 1;
  std::vector<manta::Actor<Idle>> actors;
  for (long i = 0; i < count; ++i) {
    const char* const name_space = i % 2 == 0 ? "even" : "odd";
    actors.push_back(manta::spawn<Idle>.with({.resources = {{"unobtainium", 1.0}}, .name_space = name_space})());
  }
  std::printf("%ld asked for\n", count);
  std::fflush(stdout);
  return actors.front().call<&Idle::nothing>().get();  // for ever
}

int main(int argc, char** argv) { return manta::run(argc, argv, program); }

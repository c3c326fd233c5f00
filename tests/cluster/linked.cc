// A program for tests that is linked with a shared library of its own (linked_library.cc), which it finds nowhere by itself.
//
//   cluster-linked TASKS      what the library says here and in so many tasks, and where each found it
//   cluster-linked exit       does nothing
#include "tests/cluster/linked_library.h"

#include <manta/manta.h>

#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

std::string where() {
  Dl_info info{};
  const bool is_known = ::dladdr(reinterpret_cast<void*>(&answer_of_library), &info) != 0;
  return std::to_string(answer_of_library()) + " from " + (is_known ? info.dli_fname : "nowhere");
}

std::string where_in_task(int) { return where(); }

int program(int argc, char** argv) {
  std::printf("driver: %s\n", where().c_str());
  if (argc < 2 || std::string(argv[1]) == "exit") return 0;
  std::vector<manta::Ref<std::string>> tasks;
  for (int i = 0; i < std::atoi(argv[1]); ++i) tasks.push_back(manta::remote<&where_in_task>(i));
  for (auto& task : tasks) std::printf("task: %s\n", task.get().c_str());
  return 0;
}

int main(int argc, char** argv) { return manta::run(argc, argv, program); }

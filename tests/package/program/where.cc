// Says whether a task ran in another process, and so whether the installed mantad was found and started.
#include <manta/manta.h>
#include <unistd.h>

#include <iostream>

int where() { return getpid(); }

int program() {
  std::cout << (manta::remote<&where>().get() == getpid() ? "here" : "elsewhere") << "\n";
  return 0;
}
int main(int argc, char** argv) { return manta::run(argc, argv, program); }

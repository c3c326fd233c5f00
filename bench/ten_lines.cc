#include <manta/manta.h>

#include <cstdio>

int add(int a, int b) { return a + b; }

int program() {
  manta::Ref<int> sum = manta::remote<&add>(1, 2);
  std::printf("1 + 2 = %d\n", sum.get());
  return 0;
}

int main(int argc, char** argv) { return manta::run(argc, argv, program); }

#include <manta/manta.h>

#include <iostream>

int add(int a, int b) { return a + b; }
struct Counter {
  int n = 0;
  int add(int by) { return n += by; }
};

manta::Async<int> program() {
  manta::Ref<int> sum = manta::remote<&add>(1, 2);                 // a task
  manta::Actor<Counter> counter = manta::spawn<Counter>();         // an actor
  std::cout << co_await counter.call<&Counter::add>(sum) << "\n";  // a Ref as an argument
  co_return 0;
}
int main(int argc, char** argv) { return manta::run(argc, argv, program); }

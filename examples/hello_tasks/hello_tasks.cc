// Tasks: functions that run in other processes. Nothing is registered; naming `remote<&f>` is enough.
#include <manta/manta.h>

#include <cstdio>
#include <stdexcept>
#include <string>
#include <vector>

int add(int a, int b) { return a + b; }

std::string greet(const std::string& name) { return "hello, " + name; }

// A task may start tasks. While it waits, its CPU is lent to others, so this works to any depth on any machine.
int fibonacci(int n) {
  if (n < 2) return n;
  const manta::Ref<int> left = manta::remote<&fibonacci>(n - 1);
  const manta::Ref<int> right = manta::remote<&fibonacci>(n - 2);
  return left.get() + right.get();
}

// A generator sends its items one by one; the reader has the first before the last is made.
manta::Generator<int> countdown(int from) {
  for (int i = from; i > 0; --i) co_yield i;
}

int square_root(int n) {
  if (n < 0) throw std::domain_error("a negative number has no square root");
  int root = 0;
  while ((root + 1) * (root + 1) <= n) ++root;
  return root;
}

manta::Async<int> program() {
  // A call returns at once, with a Ref: a promise of the result.
  const manta::Ref<std::string> greeting = manta::remote<&greet>("tasks");

  // A Ref is an argument like the value it stands for: the second task starts when the first is done.
  const manta::Ref<int> three = manta::remote<&add>(1, 2);
  const manta::Ref<int> ten = manta::remote<&add>(three, 7);

  // Waiting without holding a thread, for one or for several.
  std::printf("%s\n", (co_await greeting).c_str());
  const auto [a, b] = co_await manta::all(three, ten);
  std::printf("1 + 2 = %d, and 7 more are %d\n", a, b);

  // Many at once. A closure travels when all it captures can be copied byte by byte.
  const int factor = 3;
  const auto times = manta::closure([factor](int x) { return factor * x; });
  std::vector<manta::Ref<int>> products;
  for (int i = 0; i < 1000; ++i) products.push_back(times(i));
  long sum = 0;
  for (const int product : co_await manta::all(products)) sum += product;
  std::printf("the sum of 1000 products is %ld\n", sum);

  // Options stand at the call.
  std::printf("fibonacci(6) = %d\n", co_await manta::remote<&fibonacci>.with({.retries = 1, .name = "fibonacci of six"})(6));

  std::printf("countdown:");
  for (const manta::Ref<int>& item : manta::remote<&countdown>(3)) std::printf(" %d", item.get());
  std::printf("\n");

  // An exception comes back as a manta::Error with its type and message; `result` does not throw.
  const manta::Result<int> root = manta::remote<&square_root>.with({.retries = 0})(-1).result();
  std::printf("square_root(-1): %s\n", root.status().origin_type().c_str());
  co_return 0;
}

int main(int argc, char** argv) { return manta::run(argc, argv, program); }

// Actors: an object that lives in a process of its own, keeps its state between calls, and comes back after a crash.
#include <manta/manta.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

// A plain class. `save` and `restore` are optional: with them the state survives the death of the process.
class Counter {
 public:
  explicit Counter(int start) : n_(start) {}
  int add(int by) { return n_ += by; }
  [[nodiscard]] int value() const { return n_; }
  void crash() { std::abort(); }

  [[nodiscard]] int save() const { return n_; }
  void restore(int n) { n_ = n; }

 private:
  int n_;
};

// Handles travel: any task or actor that has one may call. Calls of one caller run in order, so the last one done means all.
void add_many(manta::Actor<Counter> counter, int times) {
  manta::Ref<int> last;
  for (int i = 0; i < times; ++i) last = counter.call<&Counter::add>(1);
  (void)last.get();
}

manta::Async<int> program() {
  const manta::Actor<Counter> counter = manta::spawn<Counter>.with({.max_restarts = 1, .name = "counter"})(10);

  // The calls of one caller run in the order they were made; a Ref is an argument here too.
  const manta::Ref<int> twelve = counter.call<&Counter::add>(2);
  const manta::Ref<int> twenty_four = counter.call<&Counter::add>(twelve);
  std::printf("%d, then %d\n", co_await twelve, co_await twenty_four);

  // Four tasks in four processes share it.
  std::vector<manta::Ref<void>> tasks;
  for (int i = 0; i < 4; ++i) tasks.push_back(manta::remote<&add_many>(counter, 25));
  manta::get(tasks);
  std::printf("after 4 x 25 more: %d\n", co_await counter.call<&Counter::value>());

  // Its process dies; Manta starts another, and `restore` gives the state back.
  const manta::Status crash = counter.call<&Counter::crash>().result();
  std::printf("the crash is reported: %s\n", crash.code() == manta::Code::kDied ? "yes" : crash.to_string().c_str());
  std::printf("and the state survived: %d\n", co_await counter.call<&Counter::value>());

  // A named actor is found by anyone.
  const auto same = manta::get_actor<Counter>("counter");
  std::printf("found by name: %d\n", co_await same.call<&Counter::value>());
  co_return 0;
}

int main(int argc, char** argv) { return manta::run(argc, argv, program); }

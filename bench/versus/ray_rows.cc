// Ray's C++ API on the rows of versus.py that it can do; prints "name<TAB>value<TAB>unit". Built twice by versus.py: as the
// driver, and as the library that the workers load. Environment: ROWS=calls or start, WINDOW_S, CPUS.
#include <ray/api.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

}  // namespace

int add(int a, int b) { return a + b; }
std::vector<double> megabyte() { return std::vector<double>(131072, 1.0); }

class Counter {
 public:
  static Counter* create() { return new Counter(); }
  int add(int by) { return n_ += by; }
  int take(std::string text) { return static_cast<int>(text.size()); }

 private:
  int n_ = 0;
};

RAY_REMOTE(add, megabyte, Counter::create, &Counter::add, &Counter::take);

namespace {

void say(const char* name, double value, const char* unit) {
  std::printf("%s\t%.9g\t%s\n", name, value, unit);
  std::fflush(stdout);
}

/// `count` things a call of `work`, over a window after a warm-up of a third of it.
double per_second(double count, const std::function<void()>& work) {
  const char* const given = std::getenv("WINDOW_S");
  const double window_s = given != nullptr ? std::atof(given) : 1;
  Clock::time_point start = Clock::now();
  do work();
  while (seconds_since(start) < window_s / 3);
  start = Clock::now();
  int calls = 0;
  do {
    work();
    ++calls;
  } while (seconds_since(start) < window_s);
  return calls * count / seconds_since(start);
}

template <typename Submit>
void get_batch(int count, const Submit& submit) {
  std::vector<decltype(submit(0))> refs;
  for (int i = 0; i < count; ++i) refs.push_back(submit(i));
  for (auto& ref : refs) ref.Get();
}

void calls() {
  auto counter = ray::Actor(Counter::create).Remote();
  const std::string text(100000, 'x');
  say("tasks_batch", per_second(1000, [] { get_batch(1000, [](int i) { return ray::Task(add).Remote(i, 1); }); }), "/s");
  say("task_sync", per_second(1, [] { ray::Task(add).Remote(1, 1).Get(); }), "/s");
  say("task_1mb", per_second(1, [] { ray::Task(megabyte).Remote().Get(); }), "/s");
  const auto call = [&](int) { return counter.Task(&Counter::add).Remote(1); };
  say("actor_async", per_second(1000, [&] { get_batch(1000, call); }), "/s");
  say("actor_sync", per_second(1, [&] { call(0).Get(); }), "/s");
  auto one = ray::Put(1);
  say("actor_ref", per_second(1000, [&] { get_batch(1000, [&](int) { return counter.Task(&Counter::add).Remote(one); }); }),
      "/s");
  say("actor_100kb",
      per_second(200, [&] { get_batch(200, [&](int) { return counter.Task(&Counter::take).Remote(text); }); }), "/s");
  say("put_small", per_second(1, [] { ray::Put(1); }), "/s");
  say("get_small", per_second(1, [&] { one.Get(); }), "/s");
  auto mebi = ray::Put(std::vector<double>(131072, 1.0));
  say("get_1mib", 1e6 / per_second(1, [&] { mebi.Get(); }), "us");
  const std::vector<double> values(12500000, 1.0);
  for (int i = 0; i < 20; ++i) ray::Put(values);
  say("put_100mb", per_second(0.1, [&] { ray::Put(values); }), "GB/s");
  const Clock::time_point start = Clock::now();
  std::vector<ray::ActorHandle<Counter>> actors;
  for (int i = 0; i < 10; ++i) actors.push_back(ray::Actor(Counter::create).Remote());
  for (auto& actor : actors) actor.Task(&Counter::add).Remote(1).Get();
  say("actors_100", 10 / seconds_since(start), "/s");
  for (auto& actor : actors) actor.Kill();
}

}  // namespace

int main(int argc, char** argv) {
  const char* const scratch = std::getenv("PEER_SCRATCH");
  const char* const cpus = std::getenv("CPUS");
  const char* const rows = std::getenv("ROWS");
  ray::RayConfig config;
  config.head_args = {"--num-cpus",          cpus != nullptr ? cpus : "2",
                      "--temp-dir",          std::string(scratch) + "/ray",
                      "--include-dashboard", "false"};
  ray::Init(config, argc, argv);
  if (rows != nullptr && std::string(rows) == "calls")
    calls();
  else if (*ray::Task(add).Remote(1, 2).Get() != 3)
    return 1;
  ray::Shutdown();
  return 0;
}

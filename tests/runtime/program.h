// What the multi-process tests run remotely: small functions and classes, each made for one behaviour.
#pragma once

#include <manta/manta.h>

#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <numeric>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace program {

inline int add(int a, int b) { return a + b; }
inline double add(double a, double b) { return a + b; }
template <typename T>
T twice(T x) {
  return x + x;
}
inline int pid() { return ::getpid(); }
inline int nap(int ms) {
  std::this_thread::sleep_for(std::chrono::milliseconds(ms));
  return ms;
}
inline void nothing() {}
inline int throws(const std::string& what) { throw std::runtime_error(what); }
inline int throws_int(int value) { throw value; }

struct MyError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Appends a line to `path` and returns how many there are now: counts attempts across processes.
inline int count_in(const std::string& path) {
  std::ofstream(path, std::ios::app) << "x\n";
  std::ifstream in(path);
  return static_cast<int>(std::count(std::istreambuf_iterator<char>(in), {}, '\n'));
}
inline int dies_until(const std::string& path, int attempt, int signal) {
  const int now = count_in(path);
  if (now < attempt) ::raise(signal);
  return now;
}
inline int throws_until(const std::string& path, int attempt) {
  const int now = count_in(path);
  if (now < attempt) throw MyError("attempt " + std::to_string(now));
  return now;
}
inline int exits(int code) { ::_exit(code); }

inline int depth(int levels) { return levels == 0 ? 0 : 1 + manta::remote<&depth>(levels - 1).get(); }
inline int fib(int n) {
  if (n < 2) return n;
  const auto a = manta::remote<&fib>(n - 1);
  const auto b = manta::remote<&fib>(n - 2);
  return a.get() + b.get();
}
inline int fan_out(int n) {
  std::vector<manta::Ref<int>> refs;
  for (int i = 0; i < n; ++i) refs.push_back(manta::remote<static_cast<int (*)(int, int)>(&add)>(i, 1));
  int sum = 0;
  for (const auto& ref : refs) sum += ref.get();
  return sum;
}

struct Nested {
  std::string name;
  std::vector<manta::Ref<int>> refs;
  std::optional<manta::Ref<std::string>> text;
};
inline int sum_nested(const Nested& nested) {
  int sum = nested.text ? static_cast<int>(nested.text->get().size()) : 0;
  for (const auto& ref : nested.refs) sum += ref.get();
  return sum;
}
inline Nested make_nested(int n) {
  Nested out{"made", {}, manta::put(std::string("four"))};
  for (int i = 0; i < n; ++i) out.refs.push_back(manta::put(i));
  return out;
}
inline manta::Ref<int> returns_ref(int x) { return manta::put(x); }

inline std::vector<double> make_vector(size_t n) {
  std::vector<double> out(n);
  std::iota(out.begin(), out.end(), 0.0);
  return out;
}
inline double sum_array(const manta::Array<double>& values) { return std::accumulate(values.begin(), values.end(), 0.0); }
inline std::tuple<int, std::string, std::vector<double>> three(int x) { return {x, "text", make_vector(20'000)}; }
inline std::string long_text(size_t n) { return std::string(n, 'm'); }

inline manta::Generator<int> count_to(int n) {
  for (int i = 0; i < n; ++i) co_yield i;
}
inline manta::Generator<std::string> count_then_throw(int n) {
  for (int i = 0; i < n; ++i) co_yield std::to_string(i);
  throw std::runtime_error("the well is dry");
}
inline manta::Generator<int> produce_into(std::string path, int n) {
  for (int i = 0; i < n; ++i) {
    count_in(path);
    co_yield i;
  }
}

inline manta::Async<int> async_sum(int n) {
  int sum = 0;
  for (int i = 0; i < n; ++i) sum += co_await manta::remote<static_cast<int (*)(int, int)>(&add)>(i, 0);
  co_return sum;
}

inline int wait_for_cancel(const std::string& path) {
  while (!manta::cancelled()) std::this_thread::sleep_for(std::chrono::milliseconds(2));
  return count_in(path);
}
inline std::string environment(const std::string& name) {
  const char* const value = std::getenv(name.c_str());
  return value != nullptr ? value : "";
}
inline std::vector<int> devices() { return manta::my_devices(); }

struct Counter {
  int n = 0;
  int add(int by) { return n += by; }
  int get() const { return n; }
  int pid() const { return ::getpid(); }
  void fail(const std::string& what) { throw MyError(what); }
  void crash() { ::raise(SIGABRT); }
  int nap(int ms) const { return program::nap(ms); }
  manta::Generator<int> numbers(int count) {
    for (int i = 0; i < count; ++i) co_yield n + i;
  }
  std::tuple<int, std::string> both() { return {n, "n"}; }
};

struct Journal {
  std::vector<int> entries;
  int add(int value) {
    entries.push_back(value);
    return static_cast<int>(entries.size());
  }
  std::vector<int> all() const { return entries; }
  void crash() { ::raise(SIGKILL); }
  std::vector<int> save() const { return entries; }
  void restore(std::vector<int> saved) { entries = std::move(saved); }
};

struct Greeter {
  std::string greeting;
  int times;
  std::string greet(const std::string& name) const {
    std::string out;
    for (int i = 0; i < times; ++i) out += greeting + " " + name + ";";
    return out;
  }
};

struct Faulty {
  explicit Faulty(int code) { throw MyError("constructor refuses " + std::to_string(code)); }
  int get() { return 1; }
};

struct Keeper {
  manta::Ref<std::string> kept;
  manta::Array<double> array;
  manta::Actor<Counter> other;
  void keep(Nested nested) { kept = nested.text.value(); }
  std::string read() { return kept.get(); }
  void keep_array(manta::Array<double> values) { array = std::move(values); }
  double sum() const { return sum_array(array); }
  void keep_actor(manta::Actor<Counter> counter) { other = std::move(counter); }
  int call_other(int by) { return other.call<&Counter::add>(by).get(); }
};

struct Gate {
  std::atomic<int> inside{0};
  std::atomic<int> most{0};
  int enter(int ms) {
    const int now = ++inside;
    int seen = most.load();
    while (now > seen && !most.compare_exchange_weak(seen, now)) {
    }
    nap(ms);
    --inside;
    return now;
  }
  int highest() const { return most; }
};

}  // namespace program

// What the rows run remotely.
#pragma once

#include <manta/manta.h>

#include <cstdint>
#include <string>
#include <vector>

#include "bench/stats.h"

namespace manta::bench {

inline int add(int a, int b) { return a + b; }
inline int tick() { return 1; }
inline Array<double> megabyte() { return Array<double>(131'072, 1.0); }
inline std::vector<double> megabyte_vector() { return std::vector<double>(131'072, 1.0); }

/// Holds many Refs; reads none of them.
struct Bag {
  std::vector<Ref<int>> refs;
};
inline Bag bag_of(int count) {
  Bag bag;
  bag.refs.reserve(static_cast<size_t>(count));
  for (int i = 0; i < count; ++i) bag.refs.push_back(put(i));
  return bag;
}
inline int size_of_bag(const Bag& bag) { return static_cast<int>(bag.refs.size()); }
inline int sum_of_bag(const Bag& bag) {
  int sum = 0;
  for (const int value : get(bag.refs)) sum += value;
  return sum;
}

struct Counter {
  int n = 0;
  int add(int by) { return n += by; }
  size_t take(const std::string& text) { return text.size(); }
};

/// A caller in a process of its own: calls each of its targets in turn, then gets everything.
struct Caller {
  std::vector<Actor<Counter>> targets;
  explicit Caller(std::vector<Actor<Counter>> actors) : targets(std::move(actors)) {}
  int by_value(int calls) { return drive(calls, 1); }
  int by_ref(int calls) { return drive(calls, put(1)); }

 private:
  template <typename T>
  int drive(int calls, const T& argument) {
    std::vector<Ref<int>> refs;
    refs.reserve(static_cast<size_t>(calls));
    for (int i = 0; i < calls; ++i)
      refs.push_back(targets[static_cast<size_t>(i) % targets.size()].call<&Counter::add>(argument));
    for (const Ref<int>& ref : refs) (void)ref.get();
    return calls;
  }
};

/// Calls a second of `count` submissions, all got afterwards; `submit(i)` gives a Ref.
template <typename Submit>
double batch_per_second(int count, const Submit& submit) {
  return count / ::bench::seconds_of([&] {
           std::vector<decltype(submit(0))> refs;
           refs.reserve(static_cast<size_t>(count));
           for (int i = 0; i < count; ++i) refs.push_back(submit(i));
           for (const auto& ref : refs) (void)ref.get();
         });
}

/// The same, each got before the next.
template <typename Submit>
double one_by_one_per_second(int count, const Submit& submit) {
  return count / ::bench::seconds_of([&] {
           for (int i = 0; i < count; ++i) (void)submit(i).get();
         });
}

}  // namespace manta::bench

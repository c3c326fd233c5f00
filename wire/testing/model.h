// A model checker for code that shares memory: runs a scenario's threads through every order of their atomic steps, and of
// the moments at which what they stored becomes visible to the others.
//
//   model::Outcome outcome = model::explore([] { return model::Scenario{{producer, consumer}, memory, check}; });
//
// Memory model: each thread has a store buffer. A store enters it and reaches memory at any later time: stores to one place
// in order, a release store not before what was stored ahead of it. Loads see the thread's own buffer first. A
// read-modify-write, a sequentially consistent store, a fence and a futex call empty the buffer. Loads are not reordered.
// That covers x86, and of weaker machines what their stores may do. Plain writes are visible at once: a message that is
// published before it is written is caught, since the order between the two is then free.
//
// How: the threads are fibers of one thread, each atomic step gives the turn back, and the choices are enumerated depth
// first by running again from the start. A state that was seen before (memory, buffers, and all that each thread has read)
// is not explored twice, which makes it exhaustive for scenarios of a few dozen steps. Threads must be deterministic, and
// may not spin: `wait_for_change` stands for "look again later".
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <span>
#include <string>
#include <vector>

namespace manta::model {

/// What is broken on purpose, to see that the checker finds it.
enum class Fault { kNone, kSplitCompareExchange, kNoFences, kReleaseIsRelaxed };

struct Scenario {
  std::vector<std::function<void()>> threads;
  std::vector<std::span<const std::byte>> memory;  ///< All that the threads share, at one place in every execution.
  std::function<std::string()> check;              ///< After all have ended: empty, or what is wrong.
};

struct Outcome {
  std::string failure;  ///< Of the first execution that went wrong, with its schedule; empty when none did.
  uint64_t executions = 0;
  uint64_t states = 0;
};

/// `make` builds the scenario afresh for each execution. Stops at the first failure. Throws when `most` executions do not
/// do.
Outcome explore(const std::function<Scenario()>& make, Fault fault = Fault::kNone, uint64_t most = 5'000'000);

/// In a thread of a scenario: the execution is wrong.
void fail(const std::string& why);
/// In a thread: sleeps until some other thread's store has reached memory since this thread last looked.
void wait_for_change();

// One atomic step each; `size` bytes at `place`.
uint64_t load(const void* place, size_t size);
void store(void* place, size_t size, uint64_t value, std::memory_order order);
/// What was there; `next(old)` is put there. Without `apply` only looks.
uint64_t update(void* place, size_t size, const std::function<uint64_t(uint64_t)>& next);
bool compare_exchange(void* place, size_t size, uint64_t& expected, uint64_t desired);
void fence();
void wait_on(void* place, uint32_t expected);
void wake(void* place);

/// As std::atomic, in memory that may be reinterpreted as one.
template <typename T>
class Atomic {
 public:
  static constexpr bool is_always_lock_free = true;
  T load(std::memory_order = std::memory_order_seq_cst) const { return static_cast<T>(model::load(&value_, sizeof(T))); }
  void store(T value, std::memory_order order = std::memory_order_seq_cst) {
    model::store(&value_, sizeof(T), static_cast<uint64_t>(value), order);
  }
  T fetch_add(T by, std::memory_order = std::memory_order_seq_cst) {
    return static_cast<T>(model::update(&value_, sizeof(T), [by](uint64_t old) { return static_cast<T>(old + by); }));
  }
  T fetch_and(T mask, std::memory_order = std::memory_order_seq_cst) {
    return static_cast<T>(model::update(&value_, sizeof(T), [mask](uint64_t old) { return old & mask; }));
  }
  bool compare_exchange_strong(T& expected, T desired, std::memory_order = std::memory_order_seq_cst) {
    uint64_t seen = static_cast<uint64_t>(expected);
    const bool done = model::compare_exchange(&value_, sizeof(T), seen, static_cast<uint64_t>(desired));
    expected = static_cast<T>(seen);
    return done;
  }
  bool compare_exchange_weak(T& expected, T desired, std::memory_order order = std::memory_order_seq_cst) {
    return compare_exchange_strong(expected, desired, order);
  }

 private:
  T value_;
};

inline void full_fence(Atomic<uint32_t>&) { fence(); }
inline void futex_wait(Atomic<uint32_t>& word, uint32_t expected, int64_t) { wait_on(&word, expected); }
inline void futex_wake(Atomic<uint32_t>& word) { wake(&word); }

}  // namespace manta::model

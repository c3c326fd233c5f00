#include "wire/testing/model.h"

#include <ucontext.h>

#include <deque>
#include <memory>
#include <stdexcept>
#include <unordered_set>

namespace manta::model {
namespace {

constexpr size_t kStackBytes = 256 << 10;

uint64_t mix(uint64_t hash, uint64_t value) {
  hash = (hash ^ value) * 0x9E3779B97F4A7C15ull;
  return hash ^ (hash >> 29);
}

struct Pending {
  std::byte* place;
  size_t size;
  uint64_t value;
  bool is_release;
};

struct Fiber {
  std::function<void()> body;
  ucontext_t context{};
  std::unique_ptr<char[]> stack;
  std::deque<Pending> buffer;
  uint64_t steps = 0;
  uint64_t history = 0;  ///< All it has read: with the program, that decides what it does next.
  const void* sleeps_on = nullptr;
  bool waits_for_change = false;
  uint64_t seen_changes = 0;
  bool is_done = false;
};

/// One choice: let a thread go on (flush < 0), or bring one entry of its buffer to memory.
struct Choice {
  size_t thread;
  int flush;
};

class Execution {
 public:
  Execution(Scenario scenario, Fault chosen) : fault(chosen), scenario_(std::move(scenario)) {
    fibers.resize(scenario_.threads.size());
    for (size_t i = 0; i < fibers.size(); ++i) {
      fibers[i].body = std::move(scenario_.threads[i]);
      fibers[i].history = i;
      fibers[i].stack = std::make_unique_for_overwrite<char[]>(kStackBytes);
    }
  }

  /// What could happen next, in a fixed order.
  [[nodiscard]] std::vector<Choice> choices() const {
    std::vector<Choice> out;
    for (size_t i = 0; i < fibers.size(); ++i) {
      const Fiber& fiber = fibers[i];
      const bool may_look = !fiber.waits_for_change || fiber.seen_changes != changes;
      if (!fiber.is_done && fiber.sleeps_on == nullptr && may_look) out.push_back({i, -1});
      for (size_t k = 0; k < fiber.buffer.size(); ++k)
        if (may_flush(fiber, k)) out.push_back({i, static_cast<int>(k)});
    }
    return out;
  }

  void take(const Choice& choice) {
    Fiber& fiber = fibers[choice.thread];
    if (choice.flush >= 0) return flush(fiber, static_cast<size_t>(choice.flush));
    fiber.waits_for_change = false;
    run(fiber);
  }

  [[nodiscard]] bool all_done() const {
    for (const Fiber& fiber : fibers)
      if (!fiber.is_done) return false;
    return true;
  }

  [[nodiscard]] uint64_t state() const {
    uint64_t hash = 0;
    for (const std::span<const std::byte> part : scenario_.memory) {
      for (size_t i = 0; i + 4 <= part.size(); i += 4) {
        uint32_t word;
        std::memcpy(&word, part.data() + i, sizeof word);
        hash = mix(hash, word);
      }
    }
    for (const Fiber& fiber : fibers) {
      hash = mix(mix(hash, fiber.history), fiber.steps);
      hash = mix(hash, reinterpret_cast<uintptr_t>(fiber.sleeps_on) * 2 + (fiber.is_done ? 1 : 0));
      hash = mix(hash, fiber.waits_for_change && fiber.seen_changes == changes ? 1 : 0);
      for (const Pending& each : fiber.buffer)
        hash = mix(mix(hash, reinterpret_cast<uintptr_t>(each.place)), each.value * 2 + (each.is_release ? 1 : 0));
      hash = mix(hash, 0x51);
    }
    return hash;
  }

  [[nodiscard]] std::string check() const { return scenario_.check ? scenario_.check() : std::string(); }

  void flush(Fiber& fiber, size_t index) {
    const Pending entry = fiber.buffer[index];
    fiber.buffer.erase(fiber.buffer.begin() + static_cast<ptrdiff_t>(index));
    std::memcpy(entry.place, &entry.value, entry.size);
    ++changes;
  }
  void flush_all(Fiber& fiber) {
    while (!fiber.buffer.empty()) flush(fiber, 0);
  }
  [[nodiscard]] uint64_t read(Fiber& fiber, const void* place, size_t size) const {
    uint64_t value = 0;
    std::memcpy(&value, place, size);
    for (const Pending& each : fiber.buffer)
      if (each.place == place) value = each.value;
    return value;
  }

  /// The thread's step is about to be taken: gives the turn back, and returns when it is chosen.
  void step() {
    Fiber& me = *current;
    ++me.steps;
    ::swapcontext(&me.context, &scheduler);
    me.seen_changes = changes;
  }

  Fault fault;
  std::vector<Fiber> fibers;
  Fiber* current = nullptr;
  ucontext_t scheduler{};
  uint64_t changes = 0;
  std::string failure;

 private:
  [[nodiscard]] bool may_flush(const Fiber& fiber, size_t index) const {
    const Pending& entry = fiber.buffer[index];
    for (size_t k = 0; k < index; ++k)
      if (fiber.buffer[k].place == entry.place || (entry.is_release && fault != Fault::kReleaseIsRelaxed)) return false;
    return true;
  }

  static void enter() {
    Fiber& me = *running()->current;
    me.body();
    me.is_done = true;
    ::swapcontext(&me.context, &running()->scheduler);
  }

  void run(Fiber& fiber) {
    current = &fiber;
    if (fiber.context.uc_stack.ss_sp == nullptr) {
      ::getcontext(&fiber.context);
      fiber.context.uc_stack = {.ss_sp = fiber.stack.get(), .ss_flags = 0, .ss_size = kStackBytes};
      ::makecontext(&fiber.context, &Execution::enter, 0);
    }
    ::swapcontext(&scheduler, &fiber.context);
    current = nullptr;
  }

  Scenario scenario_;

 public:
  static Execution*& running() {
    static Execution* instance = nullptr;
    return instance;
  }
};

Execution& here() { return *Execution::running(); }

void note(uint64_t value) { here().current->history = mix(here().current->history, value); }

std::string words_for(const std::vector<Choice>& schedule) {
  std::string out;
  for (const Choice& each : schedule) {
    out.append(" ").append(std::to_string(each.thread));
    if (each.flush >= 0) out.append("!").append(std::to_string(each.flush));
  }
  return out;
}

}  // namespace

void fail(const std::string& why) {
  if (here().failure.empty()) here().failure = why;
}

void wait_for_change() {
  here().current->waits_for_change = true;
  here().step();
  note(0xC4A);
}

uint64_t load(const void* place, size_t size) {
  if (Execution::running() == nullptr || here().current == nullptr) {
    uint64_t value = 0;
    std::memcpy(&value, place, size);
    return value;
  }
  here().step();
  const uint64_t value = here().read(*here().current, place, size);
  note(value);
  return value;
}

void store(void* place, size_t size, uint64_t value, std::memory_order order) {
  here().step();
  Fiber& me = *here().current;
  me.buffer.push_back({static_cast<std::byte*>(place), size, value, order != std::memory_order_relaxed});
  if (order == std::memory_order_seq_cst) here().flush_all(me);
  note(0x570);
}

uint64_t update(void* place, size_t size, const std::function<uint64_t(uint64_t)>& next) {
  here().step();
  Fiber& me = *here().current;
  here().flush_all(me);
  const uint64_t old = here().read(me, place, size);
  me.buffer.push_back({static_cast<std::byte*>(place), size, next(old), true});
  here().flush_all(me);
  note(old);
  return old;
}

bool compare_exchange(void* place, size_t size, uint64_t& expected, uint64_t desired) {
  if (here().fault == Fault::kSplitCompareExchange) {
    const uint64_t seen = load(place, size);
    if (seen != expected) return expected = seen, false;
    store(place, size, desired, std::memory_order_seq_cst);
    return true;
  }
  const uint64_t wanted = expected;
  expected = update(place, size, [&](uint64_t old) { return old == wanted ? desired : old; });
  return expected == wanted;
}

void fence() {
  if (here().fault == Fault::kNoFences) return;
  here().step();
  here().flush_all(*here().current);
  note(0xFE);
}

void wait_on(void* place, uint32_t expected) {
  here().step();
  Fiber& me = *here().current;
  here().flush_all(me);
  uint32_t value = 0;
  std::memcpy(&value, place, sizeof value);
  note(value);
  if (value != expected) return;
  me.sleeps_on = place;
  here().step();
  note(0x3A4E);
}

void wake(void* place) {
  here().step();
  here().flush_all(*here().current);
  for (Fiber& fiber : here().fibers)
    if (fiber.sleeps_on == place) fiber.sleeps_on = nullptr;
  note(0x3A);
}

Outcome explore(const std::function<Scenario()>& make, Fault fault, uint64_t most) {
  Outcome outcome;
  std::unordered_set<uint64_t> seen;
  struct Branch {
    size_t taken = 0;
    size_t count = 0;
  };
  std::vector<Branch> path;  // of the execution before: what was chosen, among how many
  do {
    if (++outcome.executions > most) throw std::runtime_error("the scenario is too big to be explored");
    Execution execution(make(), fault);
    Execution::running() = &execution;
    std::vector<Choice> schedule;
    bool is_known = false;
    for (size_t depth = 0; execution.failure.empty(); ++depth) {
      const std::vector<Choice> choices = execution.choices();
      if (choices.empty()) {
        if (!execution.all_done()) execution.failure = "a thread sleeps for ever";
        break;
      }
      if (depth == path.size()) {
        if (!seen.insert(execution.state()).second) {
          is_known = true;
          break;
        }
        path.push_back({0, choices.size()});
      }
      schedule.push_back(choices[path[depth].taken]);
      execution.take(schedule.back());
    }
    if (execution.failure.empty() && !is_known) execution.failure = execution.check();
    Execution::running() = nullptr;
    if (!execution.failure.empty()) {
      outcome.failure = execution.failure + "; schedule (thread, or thread!entry of its buffer):" + words_for(schedule);
      break;
    }
    while (!path.empty() && ++path.back().taken == path.back().count) path.pop_back();
  } while (!path.empty());
  outcome.states = seen.size();
  return outcome;
}

}  // namespace manta::model

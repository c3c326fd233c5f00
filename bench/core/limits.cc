#include "bench/core/limits.h"

#include <linux/futex.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include "bench/stats.h"

extern char** environ;

namespace manta::bench {
namespace {

using ::bench::seconds_of;
using Clock = std::chrono::steady_clock;

constexpr auto kWindow = std::chrono::milliseconds(50);
constexpr char kLast = 1;

struct alignas(64) Message {
  char bytes[64];
};

/// One producer, one consumer, each with its own idea of where the other is.
struct Ring {
  static constexpr uint64_t kSlots = 1024;
  alignas(64) std::atomic<uint64_t> written{0};
  alignas(64) std::atomic<uint64_t> taken{0};
  alignas(64) uint64_t taken_seen = 0;
  alignas(64) uint64_t written_seen = 0;
  Message slots[kSlots];

  void push(const Message& message) {
    const uint64_t at = written.load(std::memory_order_relaxed);
    while (at - taken_seen >= kSlots) taken_seen = taken.load(std::memory_order_acquire);
    slots[at % kSlots] = message;
    written.store(at + 1, std::memory_order_release);
  }
  void pop(Message& out) {
    const uint64_t at = taken.load(std::memory_order_relaxed);
    while (at == written_seen) written_seen = written.load(std::memory_order_acquire);
    out = slots[at % kSlots];
    taken.store(at + 1, std::memory_order_release);
  }
};

void wait_for(std::atomic<uint32_t>& word, uint32_t value) {
  while (word.load() != value) ::syscall(SYS_futex, &word, FUTEX_WAIT, value - 1, nullptr, nullptr, 0);
}
void tell(std::atomic<uint32_t>& word, uint32_t value) {
  word.store(value);
  ::syscall(SYS_futex, &word, FUTEX_WAKE, 1, nullptr, nullptr, 0);
}

/// A memfd mapped for the time of this object.
class SharedMemory {
 public:
  explicit SharedMemory(size_t size_bytes) : size_bytes_(size_bytes) {
    const int fd = ::memfd_create("bench", MFD_CLOEXEC);
    if (fd < 0 || ::ftruncate(fd, static_cast<off_t>(size_bytes)) != 0) die();
    data_ = ::mmap(nullptr, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    ::close(fd);
    if (data_ == MAP_FAILED) die();
  }
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;
  ~SharedMemory() { ::munmap(data_, size_bytes_); }
  [[nodiscard]] void* data() const { return data_; }

 private:
  static void die() {
    std::perror("bench_core: shared memory");
    std::exit(1);
  }
  size_t size_bytes_;
  void* data_ = nullptr;
};

}  // namespace

double ring_messages_per_second() {
  const auto ring = std::make_unique<Ring>();
  std::thread consumer([&] {
    Message message{};
    while (message.bytes[0] != kLast) ring->pop(message);
  });
  double count = 0;
  const double seconds = seconds_of([&] {
    for (const Clock::time_point end = Clock::now() + kWindow; Clock::now() < end; count += Ring::kSlots)
      for (uint64_t i = 0; i < Ring::kSlots; ++i) ring->push({});
    ring->push({.bytes = {kLast}});
    consumer.join();
  });
  return count / seconds;
}

double ring_round_trips_per_second() {
  const auto there = std::make_unique<Ring>(), back = std::make_unique<Ring>();
  std::thread other([&] {
    for (Message message{}; message.bytes[0] != kLast;) {
      there->pop(message);
      back->push(message);
    }
  });
  const auto trip = [&](Message message) {
    there->push(message);
    back->pop(message);
  };
  double count = 0;
  const double seconds = seconds_of([&] {
    for (const Clock::time_point end = Clock::now() + kWindow; Clock::now() < end; count += 8)
      for (int i = 0; i < 8; ++i) trip({});
  });
  trip({.bytes = {kLast}});
  other.join();
  return count / seconds;
}
double ring_round_trip_us() { return 1e6 / ring_round_trips_per_second(); }

double futex_round_trips_per_second() {
  std::atomic<uint32_t> there{0}, back{0};
  std::atomic<uint32_t> last{0};
  std::thread other([&] {
    for (uint32_t i = 1; last != i - 1 || i == 1; ++i) {
      wait_for(there, i);
      tell(back, i);
    }
  });
  uint32_t count = 0;
  const auto trip = [&] {
    tell(there, ++count);
    wait_for(back, count);
  };
  const double seconds = seconds_of([&] {
    for (const Clock::time_point end = Clock::now() + kWindow; Clock::now() < end;) trip();
  });
  last = count + 1;
  trip();
  other.join();
  return count / seconds;
}
double futex_round_trip_us() { return 1e6 / futex_round_trips_per_second(); }

double copy_warm_gbs(size_t size_bytes) {
  const std::vector<char> from(size_bytes, 'x');
  const SharedMemory to(size_bytes);
  std::memset(to.data(), 1, size_bytes);
  const int copies = static_cast<int>(std::max<size_t>(1, (size_t{100} << 20) / size_bytes));
  return static_cast<double>(copies) * static_cast<double>(size_bytes) / 1e9 / seconds_of([&] {
           for (int i = 0; i < copies; ++i) std::memcpy(to.data(), from.data(), size_bytes);
         });
}

double copy_cold_gbs(size_t size_bytes) {
  const std::vector<char> from(size_bytes, 'x');
  const SharedMemory to(size_bytes);
  return static_cast<double>(size_bytes) / 1e9 / seconds_of([&] { std::memcpy(to.data(), from.data(), size_bytes); });
}

double allocations_per_second() {
  constexpr int kCount = 2'000'000;
  return kCount / seconds_of([] {
           for (int i = 0; i < kCount; ++i) {
             void* volatile block = ::operator new(64);
             ::operator delete(block);
           }
         });
}

double atomic_exchange_us() {
  constexpr int kCount = 5'000'000;
  std::atomic<uint64_t> word{0};
  return 1e6 / kCount * seconds_of([&] {
           for (int i = 0; i < kCount; ++i) word.exchange(static_cast<uint64_t>(i));
         });
}

double process_starts_per_second() {
  constexpr int kCount = 20;
  return kCount / seconds_of([] {
           for (int i = 0; i < kCount; ++i) {
             char name[] = "/bin/true";
             char* argv[] = {name, nullptr};
             pid_t pid = 0;
             if (::posix_spawn(&pid, name, nullptr, nullptr, argv, environ) == 0) ::waitpid(pid, nullptr, 0);
           }
         });
}

}  // namespace manta::bench

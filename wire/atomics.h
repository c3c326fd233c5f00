// The atomics, the fence and the futex of the protocols in shared memory. Ordinarily std's and the kernel's; compiled with
// MANTA_MODEL_CHECK those of wire/testing/model.h, which runs the same code through every interleaving.
#pragma once

#ifdef MANTA_MODEL_CHECK

#include "wire/testing/model.h"

namespace manta::wire {
using model::Atomic;
using model::full_fence;
using model::futex_wait;
using model::futex_wake;
}  // namespace manta::wire

#else

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <climits>
#include <cstdint>
#include <ctime>

#if defined(__SANITIZE_THREAD__)
#define MANTA_THREAD_SANITIZER
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define MANTA_THREAD_SANITIZER
#endif
#endif

namespace manta::wire {

template <typename T>
using Atomic = std::atomic<T>;

/// Orders what this thread stored before with what it loads after. ThreadSanitizer knows no fences, so there it is an
/// exchange on `word`.
inline void full_fence([[maybe_unused]] Atomic<uint32_t>& word) {
#if defined(MANTA_THREAD_SANITIZER)
  word.fetch_add(0);
#else
  std::atomic_thread_fence(std::memory_order_seq_cst);
#endif
}

inline void futex_wait(Atomic<uint32_t>& word, uint32_t expected, int64_t timeout_us) {
  timespec timeout{timeout_us / 1'000'000, (timeout_us % 1'000'000) * 1'000};
  ::syscall(SYS_futex, &word, FUTEX_WAIT, expected, &timeout, nullptr, 0);
}
inline void futex_wake(Atomic<uint32_t>& word) { ::syscall(SYS_futex, &word, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0); }

}  // namespace manta::wire

#endif

#include "object_store/page_warmer.h"

#include <pthread.h>
#include <sched.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>

namespace manta::object_store {
namespace {

constexpr size_t kZeroBytes = size_t{16} << 10;  // stays in the first cache
constexpr size_t kZerosAStep = 4;
constexpr uint64_t kStepBytes = kZeroBytes * kZerosAStep;

/// Written, not mapped: a thread that waits for a processor while it holds the lock of the address space would hold up the
/// raylet. And not fallocated: those pages would be zeroed by whoever touches them first.
bool write_zeros(int fd, uint64_t from, uint64_t to) {
  alignas(64) static const std::array<char, kZeroBytes> zeros{};
  std::array<iovec, kZerosAStep> pieces{};
  size_t count = 0;
  for (uint64_t left = to - from; left > 0 && count < pieces.size(); ++count) {
    pieces[count] = {const_cast<char*>(zeros.data()), std::min<uint64_t>(left, kZeroBytes)};
    left -= pieces[count].iov_len;
  }
  return ::pwritev(fd, pieces.data(), static_cast<int>(count), static_cast<off_t>(from)) == static_cast<ssize_t>(to - from);
}

}  // namespace

PageWarmer::~PageWarmer() {
  for (Round& round : rounds_) {
    for (const auto& task : round.tasks) task->state = State::kOver;
    // Where processors are short, one of idle priority may not come to its end for minutes.
    const sched_param none{};
    (void)::pthread_setschedparam(round.thread.native_handle(), SCHED_OTHER, &none);
  }
  for (Round& round : rounds_) round.thread.join();
}

void PageWarmer::start(std::vector<Job> jobs) {
  std::erase_if(rounds_, [](Round& round) {
    if (!round.is_done) return false;
    round.thread.join();
    return true;
  });
  Round& round = rounds_.emplace_back();
  for (Job& job : jobs) {
    round.tasks.push_back(std::make_unique<Task>());
    round.tasks.back()->job = std::move(job);
  }
  round.thread = std::thread([&round] { run(round); });
}

PageWarmer::Stopped PageWarmer::stop(SegmentId segment) {
  for (Round& round : rounds_) {
    if (round.is_done) continue;
    for (const auto& task : round.tasks) {
      if (task->job.segment != segment) continue;
      const State was = task->state.exchange(State::kOver);
      return was == State::kStepping ? Stopped::kMidStep : was == State::kBetween ? Stopped::kBetween : Stopped::kNothing;
    }
  }
  return Stopped::kNothing;
}

void PageWarmer::run(Round& round) {
  const sched_param none{};
  (void)::sched_setscheduler(0, SCHED_IDLE, &none);  // of this thread only; always allowed
  for (const auto& task : round.tasks) {
    Job& job = task->job;
    bool has_memory = true;
    for (uint64_t at = 0; at < job.size_bytes && has_memory; at += kStepBytes) {
      State state = State::kBetween;
      if (!task->state.compare_exchange_strong(state, State::kStepping)) break;
      // Without memory on the machine whoever is granted the segment is told.
      has_memory = write_zeros(job.memory.get(), at, std::min(at + kStepBytes, job.size_bytes));
      state = State::kStepping;
      if (!task->state.compare_exchange_strong(state, State::kBetween)) break;
    }
    job.memory.reset();
    task->state = State::kOver;
  }
  round.is_done = true;
}

}  // namespace manta::object_store

#include "object_store/page_warmer.h"

#include "common/processors.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>

namespace manta::object_store {
namespace {

constexpr size_t kZeroBytes = size_t{16} << 10;  // stays in the first cache
constexpr size_t kZerosAStep = 4;
constexpr uint64_t kStepBytes = kZeroBytes * kZerosAStep;
constexpr uint64_t kLookBytes = 16 * kStepBytes;
constexpr int kPauseMs = 50;
// Not idle priority: a process that is killed ends with its last thread, and that one might not come to its end for minutes.
constexpr int kNice = 10;

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

/// More wants to run on this machine, the caller included, than it has processors. False where /proc does not tell.
bool is_machine_busy() {
  const Fd file(::open("/proc/loadavg", O_RDONLY | O_CLOEXEC));
  std::array<char, 128> text{};
  if (!file || ::read(file.get(), text.data(), text.size() - 1) <= 0) return false;
  long running = 0;
  return std::sscanf(text.data(), "%*f %*f %*f %ld/", &running) == 1 && running > long{processors()};
}

}  // namespace

PageWarmer::PageWarmer() : end_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

PageWarmer::~PageWarmer() {
  for (Round& round : rounds_) {
    for (const auto& task : round.tasks) task->state = State::kOver;
  }
  if (end_) ::eventfd_write(end_.get(), 1);
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
  round.thread = std::thread([this, &round] { run(round); });
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

void PageWarmer::pause() const {
  pollfd ends{end_.get(), POLLIN, 0};
  (void)::poll(&ends, 1, kPauseMs);
}

void PageWarmer::run(Round& round) {
  (void)::setpriority(PRIO_PROCESS, static_cast<id_t>(::gettid()), kNice);  // of this thread only; always allowed
  for (const auto& task : round.tasks) {
    Job& job = task->job;
    bool has_memory = true;
    for (uint64_t at = 0; at < job.size_bytes && has_memory; at += kStepBytes) {
      if (at % kLookBytes == 0 && is_machine_busy()) pause();
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

// How the threads of a NodeLink start.
#pragma once

#include <pthread.h>
#include <signal.h>

#include <thread>
#include <utility>

namespace manta::wire {

/// Runs `work` in a thread of that name (15 characters), which takes no signals: they belong to the process's own threads,
/// and would interrupt ZeroMQ's calls.
template <typename Work>
std::thread start_thread(const char* name, Work work) {
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  std::thread thread(std::move(work));
  pthread_setname_np(thread.native_handle(), name);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return thread;
}

}  // namespace manta::wire

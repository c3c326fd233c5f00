#include "actors/fork_server.h"

#include "common/check.h"
#include "wire/connection.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <string>

namespace manta {
namespace {

constexpr int kWorkerFd = 3;
constexpr int kOwnFd = 16;  // above the numbers that a worker's descriptors get

/// What the C library keeps of a thread inside the kernel and a fork past the library has to pass on.
struct ThreadInKernel {
  void* tid_address = nullptr;
  void* robust_list = nullptr;
  size_t robust_list_bytes = 0;
};

Result<ThreadInKernel> this_thread() {
  ThreadInKernel thread;
  if (::prctl(PR_GET_TID_ADDRESS, &thread.tid_address) != 0 || thread.tid_address == nullptr ||
      ::syscall(SYS_get_robust_list, 0, &thread.robust_list, &thread.robust_list_bytes) != 0)
    return Status(Code::kUnavailable, std::string("this kernel does not tell what a fork needs: ") + std::strerror(errno));
  return thread;
}

Status check_single_threaded() {
  std::error_code error;
  int threads = 0;
  for (auto it = std::filesystem::directory_iterator("/proc/self/task", error); !error && it != end(it); it.increment(error))
    ++threads;
  if (threads == 1) return {};
  return Status(Code::kUnavailable, "the program has " + std::to_string(threads) + " threads before manta::run");
}

/// fork(), but the child's parent is this process's parent. The C library has no such call. It does what the library's does
/// in a process with one thread: the thread's id is written where the library keeps it, its list of robust locks is set.
pid_t fork_a_sibling(const ThreadInKernel& thread) {
  clone_args arguments{};
  arguments.flags = CLONE_PARENT | CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID;
  arguments.child_tid = reinterpret_cast<uintptr_t>(thread.tid_address);
  const long pid = ::syscall(SYS_clone3, &arguments, sizeof arguments);
  if (pid == 0) ::syscall(SYS_set_robust_list, thread.robust_list, thread.robust_list_bytes);
  return static_cast<pid_t>(pid);
}

void become_worker(std::vector<Fd>& descriptors, uint64_t token) {
  ::setpgid(0, 0);
  ::dup2(descriptors[1].get(), 1);
  ::dup2(descriptors[2].get(), 2);
  ::dup2(descriptors[0].get(), kWorkerFd);
  descriptors.clear();
  ::setenv("MANTA_WORKER_FD", std::to_string(kWorkerFd).c_str(), 1);
  ::setenv("MANTA_SPAWN_TOKEN", std::to_string(token).c_str(), 1);
}

}  // namespace

bool serve_forks(Fd socket) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  ::unsetenv("MANTA_FORK_SERVER_FD");
  // Out of the way of what arrives, and the worker's number taken, so that nothing arrives there.
  wire::Connection connection(Fd(::fcntl(socket.get(), F_DUPFD_CLOEXEC, kOwnFd)));
  const Fd placeholder(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  ::dup2(placeholder.get(), kWorkerFd);
  if (socket.get() == kWorkerFd) (void)socket.release();
  socket.reset();
  std::cout.flush();
  std::fflush(nullptr);  // what is buffered now would be printed by every child

  const Result<ThreadInKernel> thread = this_thread();
  Status can = thread.ok() ? check_single_threaded() : thread.status();
  if (!connection.send(wire::ForkServerReady{wire::to_wire(can)}).ok() || !can.ok()) {
    (void)connection.drain(std::chrono::seconds(1));
    return false;
  }
  while (true) {
    Result<wire::Frame> frame = connection.receive_one(std::chrono::hours(24));
    if (!frame.ok() && frame.status().code() == Code::kTimeout) continue;
    if (!frame.ok() || frame->type != wire::Type::kForkWorker || frame->descriptors.size() != 3) return false;
    const Result<wire::ForkWorker> order = wire::decode<wire::ForkWorker>(frame->body);
    if (!order.ok()) return false;
    const pid_t pid = fork_a_sibling(*thread);
    if (pid == 0) {
      connection.close();
      become_worker(frame->descriptors, order->spawn_token);
      return true;
    }
    const Status status = pid > 0 ? Status() : Status(Code::kIo, std::string("clone3: ") + std::strerror(errno));
    if (!connection.send(wire::WorkerForked{order->spawn_token, pid, wire::to_wire(status)}).ok()) return false;
  }
}

}  // namespace manta

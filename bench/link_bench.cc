// What a relayed channel costs: ring -> link -> ring and back, between two nodes over loopback. The caller, the worker and
// the two nodes are processes of their own, as in a cluster of two on one machine.
//
// bench_link [ROUND_MS]: three rows without keys and three with them. MANTA_BENCH_IDLE=n adds n idle channels.
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>

#include "bench/stats.h"
#include "wire/net/testing/links.h"

namespace manta::bench {
namespace {

using wire::Channel;
using wire::NodeNumber;
using wire::testing::Local;
using wire::testing::Node;

constexpr uint64_t kChannel = 77;
constexpr int kRounds = 5;

/// What the processes tell each other, in memory that all of them share.
struct Board {
  struct Place {
    std::atomic<bool> listens{false};
    std::atomic<bool> relays{false};
    char endpoint[64] = {};
    char public_key[wire::kKeyCharacters + 1] = {};
    int pid = 0;
    int bell_fd = -1;
  } nodes[2];
  std::atomic<bool> is_over{false};
};

void wait_until(const std::atomic<bool>& flag) {
  while (!flag) ::usleep(1'000);
}

/// The two ends of everything that is relayed, made before the processes part.
struct Channels {
  Local caller{Channel::Side::kCaller};
  Local worker{Channel::Side::kWorker};
  std::vector<std::unique_ptr<Local>> idle[2];
};

pid_t in_child(const std::function<void()>& work) {
  const pid_t pid = ::fork();
  MANTA_CHECK(pid >= 0);
  if (pid > 0) return pid;
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  work();
  ::_exit(0);
}

void be_node(Board& board, size_t self, bool has_keys, Local& local, std::vector<std::unique_ptr<Local>>& idle) {
  Node node(static_cast<NodeNumber>(self + 1), {.has_keys = has_keys});
  Board::Place& here = board.nodes[self];
  const Board::Place& there = board.nodes[1 - self];
  const auto peer = static_cast<NodeNumber>(2 - self);
  std::strcpy(here.endpoint, node.link->endpoint().c_str());  // tidy: allow(unsafe-c) because it was made for it
  std::strcpy(here.public_key, node.keys.public_key.c_str());
  here.pid = ::getpid();
  here.bell_fd = node.link->bell_fd().get();
  here.listens = true;
  wait_until(there.listens);
  if (has_keys) node.link->allow(there.public_key, wire::LinkRole::kNode);
  MANTA_CHECK(node.link->add_peer({.number = peer, .endpoint = there.endpoint, .public_key = there.public_key}).ok());
  MANTA_CHECK(local.relay(ChannelId{kChannel}, node, peer).ok());
  for (size_t i = 0; i < idle.size(); ++i) MANTA_CHECK(idle[i]->relay(ChannelId{kChannel + 1 + i}, node, peer).ok());
  here.relays = true;
  while (!board.is_over) {
    pollfd wake{node.link->wake_fd(), POLLIN, 0};
    ::poll(&wake, 1, 100);
    for (const wire::LinkEvent& event : node.link->receive())
      if (!event.why.ok() && !board.is_over) std::fprintf(stderr, "%s\n", event.why.to_string().c_str());
  }
}

/// What a local process does when it is handed the bell of its relay.
void take_bell(Local& local, const Board::Place& node) {
  const std::string path = "/proc/" + std::to_string(node.pid) + "/fd/" + std::to_string(node.bell_fd);
  const Fd bell(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  MANTA_CHECK(bool(bell), path);
  local.rings(bell);
}

void be_worker(Board& board, Local& local) {
  wait_until(board.nodes[1].relays);
  take_bell(local, board.nodes[1]);
  while (!board.is_over) {
    local.take([&](const wire::RingMessage& message) {
      while (!local.try_send(message.kind, message.body)) ::usleep(50);
      local.ring();
    });
    local.wait();
  }
}

/// Calls per second over a round with at most `at_once` under way.
double echo(Local& local, size_t size_bytes, size_t at_once, double seconds) {
  const std::vector<std::byte> body(size_bytes, std::byte{1});
  size_t sent = 0;
  size_t done = 0;
  const double took = ::bench::seconds_of([&] {
    const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
    const auto take = [&] {
      return done += local.take([&](const auto& reply) { MANTA_CHECK(reply.body.size() == size_bytes); });
    };
    while (std::chrono::steady_clock::now() < end) {
      for (int i = 0; i < 64 && sent - done < at_once && local.try_send(1, body); ++i) {
        ++sent;
        local.ring();
      }
      const size_t before = done;
      if (take() == before && (sent - done == at_once || !local.out().is_empty())) local.wait(1'000);
    }
    while (done < sent) {
      take();
      local.wait(1'000);
    }
  });
  return static_cast<double>(done) / took;
}

void measure(bool has_keys, double seconds) {
  void* const memory = ::mmap(nullptr, sizeof(Board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  MANTA_CHECK(memory != MAP_FAILED);
  auto& board = *new (memory) Board;
  Channels channels;
  const char* const idle = std::getenv("MANTA_BENCH_IDLE");
  for (int i = 0; idle != nullptr && i < std::atoi(idle); ++i) {
    channels.idle[0].push_back(std::make_unique<Local>(Channel::Side::kCaller));
    channels.idle[1].push_back(std::make_unique<Local>(Channel::Side::kWorker));
  }
  const pid_t children[] = {in_child([&] { be_node(board, 0, has_keys, channels.caller, channels.idle[0]); }),
                            in_child([&] { be_node(board, 1, has_keys, channels.worker, channels.idle[1]); }),
                            in_child([&] { be_worker(board, channels.worker); })};
  wait_until(board.nodes[0].relays);
  wait_until(board.nodes[1].relays);
  take_bell(channels.caller, board.nodes[0]);

  const auto row = [&](const char* name, size_t size_bytes, size_t at_once, double scale, const char* unit,
                       const char* goal) {
    const auto figures =
        ::bench::repeat(kRounds, [&] { return echo(channels.caller, size_bytes, at_once, seconds) * scale; });
    ::bench::print_row(name, figures, unit, goal);
  };
  ::bench::print_heading(has_keys ? "relayed calls, with keys" : "relayed calls, without keys");
  row("64 bytes, 1,000 under way", 64, 1'000, 1, "calls/s", "200,000");
  row("64 bytes, one at a time", 64, 1, 1, "calls/s", "6,000");
  row("100 KB there and back, 16 under way", 100'000, 16, 0.1, "MB/s", "each way");
  board.is_over = true;
  for (const pid_t child : children) ::waitpid(child, nullptr, 0);
  ::munmap(memory, sizeof(Board));
}

}  // namespace
}  // namespace manta::bench

int main(int argc, char** argv) {
  const double seconds = argc > 1 ? std::atoi(argv[1]) / 1'000.0 : 1.0;
  manta::bench::measure(false, seconds);
  manta::bench::measure(true, seconds);
}

// Objects between two stores in two processes, beside a plain TCP stream of as many bytes in the same minute (what iperf3
// would give) and beside memcpy. On loopback, and, when run as root, between two network namespaces that a veth pair joins.
//
// bench_transfer [ROUNDS]: rounds of each, 5 if not said. MANTA_BENCH_QUICK=1: an eighth of the bytes.
#include "bench/stats.h"
#include "common/check.h"
#include "object_store/test_node.h"
#include "object_store/transfer/identity.h"
#include "object_store/transfer/transfer.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <cstdlib>
#include <cstring>
#include <span>

namespace {

using namespace manta;
using namespace manta::object_store;
using std::chrono::seconds;

constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr uint64_t kLargeBytes = 64 * kMiB;
constexpr size_t kSmallObjects = 10'000;
constexpr uint64_t kSmallBytes = 10'000;
constexpr size_t kStreamPiece = size_t{256} << 10;

size_t large_objects() { return std::getenv("MANTA_BENCH_QUICK") != nullptr ? 2 : 16; }

/// What the two processes tell each other, in memory that both have.
struct Meeting {
  char endpoints[2][64];  // of the transfer: in the clear, TLS
  char stream_endpoint[64];
  wire::ObjectLocation large[16];
  wire::ObjectLocation small[kSmallObjects];
};

struct Place {
  const char* name;
  const char* server_host;
  const char* server_namespace;  // or null
  const char* client_namespace;
};

void enter(const char* name) {
  if (name == nullptr) return;
  Fd handle(::open((std::string("/run/netns/") + name).c_str(), O_RDONLY | O_CLOEXEC));
  MANTA_CHECK(handle && ::setns(handle.get(), CLONE_NEWNET) == 0, name);
}

void tell(int pipe) {
  const char byte = 1;
  MANTA_CHECK(::write(pipe, &byte, 1) == 1);
}
bool wait_for(int pipe) {
  char byte = 0;
  return ::read(pipe, &byte, 1) == 1;
}

void copy_text(char (&to)[64], const std::string& text) { std::snprintf(to, sizeof to, "%s", text.c_str()); }

// ------------------------------------------------------------------------------------------------ a plain stream

/// Sends whoever connects as many bytes as it asks for.
void serve_streams(const Fd& listener) {
  std::vector<std::byte> piece(kStreamPiece, std::byte{7});
  while (true) {
    pollfd wait{listener.get(), POLLIN, 0};
    (void)::poll(&wait, 1, -1);
    Fd socket(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!socket) continue;
    Stream stream(std::move(socket));
    const Time deadline = Clock::real().now() + seconds(60);
    uint64_t left = 0;
    if (!stream.read_all(std::as_writable_bytes(std::span(&left, 1)), deadline).ok()) continue;
    for (; left > 0; left -= std::min<uint64_t>(left, piece.size())) {
      if (!stream.write_all(std::span(piece).first(std::min<uint64_t>(left, piece.size())), deadline).ok()) break;
    }
  }
}

double stream_seconds(const Endpoint& endpoint, uint64_t bytes) {
  std::vector<std::byte> piece(kStreamPiece);
  const Time deadline = Clock::real().now() + seconds(60);
  auto stream = Stream::connect(endpoint, deadline).value();
  return bench::seconds_of([&] {
    MANTA_CHECK(stream->write_all(std::as_bytes(std::span(&bytes, 1)), deadline).ok());
    for (uint64_t left = bytes; left > 0;) left -= stream->read_some(piece, deadline).value();
  });
}

// ------------------------------------------------------------------------------------------------ nodes

struct Node {
  Node(wire::NodeNumber given, uint64_t capacity_bytes) : store(capacity_bytes, 0, given), number(given) {}
  ~Node() {
    for (auto& each : transfers) {
      store.watch(each->wake_fd(), {});
      store.run([&](StoreServer&) { each.reset(); });
    }
  }
  Transfer& add_transfer(const std::string& host, const Identity* identity, size_t streams) {
    Transfer::Options options{.node = number,
                              .reader = {wire::first_id_of(number) + 100 + transfers.size()},
                              .listen = host + ":0",
                              .certificate = identity != nullptr ? identity->certificate : "",
                              .key = identity != nullptr ? identity->key : "",
                              .streams_per_node = streams};
    store.run([&](StoreServer& server) { transfers.push_back(Transfer::start(server, std::move(options)).value()); });
    Transfer* transfer = transfers.back().get();
    store.watch(transfer->wake_fd(), [transfer] { transfer->on_wake(); });
    return *transfer;
  }
  TestNode store;
  wire::NodeNumber number;
  std::vector<std::unique_ptr<Transfer>> transfers;
};

wire::ObjectLocation put(TestClient& client, uint64_t size, uint64_t sequence) {
  MutableBlock block = client->create(size, seconds(20)).value();
  std::memset(block.data(), static_cast<int>(sequence), size);
  return client->seal(std::move(block), {client.process(), sequence}).value();
}

/// The process that has the objects: until the other hangs up.
void serve(const Place& place, Meeting& meeting, const Identity& identity, int told, int telling) {
  enter(place.server_namespace);
  Node node(1, 3 * 1024 * kMiB);
  node.store.start();
  for (int tls = 0; tls < 2; ++tls) {
    // In the clear only loopback is served; between the namespaces there is TLS alone.
    if (tls == 0 && place.server_namespace != nullptr) continue;
    Transfer& transfer = node.add_transfer(place.server_host, tls == 1 ? &identity : nullptr, 2);
    transfer.node_joined(2, {"", tls == 1 ? identity.fingerprint : ""});
    copy_text(meeting.endpoints[tls], transfer.endpoint());
  }
  auto owner = node.store.client(wire::first_id_of(1) + 1);
  for (size_t i = 0; i < large_objects(); ++i) meeting.large[i] = put(*owner, kLargeBytes, i + 1);
  for (size_t i = 0; i < kSmallObjects; ++i) meeting.small[i] = put(*owner, kSmallBytes, 100 + i);
  Fd listener = Stream::listen_on({place.server_host, "0"}).value();
  copy_text(meeting.stream_endpoint, Stream::endpoint_of(listener).value());
  std::thread([&] { serve_streams(listener); }).detach();
  tell(telling);
  while (wait_for(told)) {
  }
  ::_exit(0);
}

double pull_seconds(Node& node, TestClient& reader, std::span<const wire::ObjectLocation> objects) {
  const double taken = bench::seconds_of([&] {
    reader->read_soon(objects);
    for (const wire::ObjectLocation& at : objects) {
      Result<PinnedBytes> bytes = reader->pin(at, seconds(60));
      MANTA_CHECK(bytes.ok(), bytes.status().to_string());
    }
  });
  wire::DropCopies drop{1, {}};
  for (const wire::ObjectLocation& at : objects) drop.names.push_back(hazard_key(at.slot, at.generation));
  node.store.run([&](StoreServer& store) { store.hear(1, drop); });
  MANTA_CHECK(node.store.eventually([](const StoreStats& stats) { return stats.copies + stats.limbo_objects == 0; }));
  return taken;
}

struct Rows {
  std::vector<double> stream, large, small;
};

void measure(Meeting& meeting, bool tls, size_t streams, const Identity& identity, int rounds) {
  Node node(2, 1536 * kMiB);
  node.store.start();
  Transfer& transfer = node.add_transfer("127.0.0.1", tls ? &identity : nullptr, streams);
  transfer.node_joined(1, {meeting.endpoints[tls ? 1 : 0], tls ? identity.fingerprint : ""});
  auto reader = node.store.client(wire::first_id_of(2) + 1);
  const std::span large(meeting.large, large_objects());
  const uint64_t bytes = large.size() * kLargeBytes;
  const Endpoint stream_endpoint = parse_endpoint(meeting.stream_endpoint).value();
  Rows rows;
  for (int round = 0; round <= rounds; ++round) {  // the first only warms up
    const double stream = static_cast<double>(bytes) / 1e9 / stream_seconds(stream_endpoint, bytes);
    const double pulled = static_cast<double>(bytes) / 1e9 / pull_seconds(node, *reader, large);
    const double small = pull_seconds(node, *reader, meeting.small) * 1e3;
    if (round == 0) continue;
    rows.stream.push_back(stream), rows.large.push_back(pulled), rows.small.push_back(small);
  }
  const bench::Spread beside = bench::spread_of(rows.stream), pulled = bench::spread_of(rows.large);
  const std::string label = std::string(tls ? "TLS, " : "plain, ") + std::to_string(streams) + " streams";
  char note[96];
  std::snprintf(note, sizeof note, "%.0f %% of the stream (goal %d %%)", 100 * pulled.median / beside.median, tls ? 50 : 70);
  bench::print_row("a TCP stream of the same bytes", beside, "GB/s");
  bench::print_row(label + ", " + std::to_string(large.size()) + " x 64 MiB", pulled, "GB/s", note);
  bench::print_row(label + ", 10,000 x 10 KB", bench::spread_of(rows.small), "ms", "goal 1,000");
}

void run(const Place& place, int rounds) {
  bench::print_heading(place.name);
  const Identity identity = Identity::make().value();
  void* page = ::mmap(nullptr, sizeof(Meeting), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  auto& meeting = *new (page) Meeting();
  int to_server[2], to_client[2];
  MANTA_CHECK(::pipe(to_server) == 0 && ::pipe(to_client) == 0);
  const pid_t child = ::fork();
  if (child == 0) {
    ::close(to_server[1]);
    serve(place, meeting, identity, to_server[0], to_client[1]);
  }
  ::close(to_client[1]);
  // The namespace is the thread's and its children's: the one that measures starts every other.
  std::thread([&] {
    enter(place.client_namespace);
    MANTA_CHECK(wait_for(to_client[0]));
    for (const bool tls : {false, true}) {
      if (!tls && place.server_namespace != nullptr) continue;
      for (const size_t streams : {1, 2}) measure(meeting, tls, streams, identity, rounds);
    }
  }).join();
  ::close(to_server[1]);
  (void)::waitpid(child, nullptr, 0);
  for (int fd : {to_server[0], to_client[0]}) ::close(fd);
  (void)::munmap(page, sizeof(Meeting));
}

double copy_rate() {
  std::vector<char> from(kLargeBytes, 1), to(kLargeBytes, 2);
  return static_cast<double>(kLargeBytes) / 1e9 /
         bench::seconds_of([&] { std::memcpy(to.data(), from.data(), from.size()); });
}

bool make_namespaces() {
  const char* commands[] = {
      "ip netns add manta-bench-a",
      "ip netns add manta-bench-b",
      "ip link add mbench0 netns manta-bench-a type veth peer name mbench1 netns manta-bench-b",
      "ip -n manta-bench-a addr add 10.77.0.1/24 dev mbench0 && ip -n manta-bench-a link set mbench0 up",
      "ip -n manta-bench-b addr add 10.77.0.2/24 dev mbench1 && ip -n manta-bench-b link set mbench1 up",
      "ip -n manta-bench-a link set lo up && ip -n manta-bench-b link set lo up"};
  for (const char* command : commands) {
    if (std::system((std::string(command) + " 2>/dev/null").c_str()) != 0) return false;
  }
  return true;
}

void remove_namespaces() {
  (void)!std::system("ip netns del manta-bench-a 2>/dev/null; ip netns del manta-bench-b 2>/dev/null");
}

}  // namespace

int main(int argc, char** argv) {
  const int rounds = argc > 1 ? std::max(std::atoi(argv[1]), 1) : 5;
  bench::print_heading("this machine");
  bench::print_row("memcpy of 64 MiB", bench::repeat(rounds, copy_rate), "GB/s");
  run({"loopback", "127.0.0.1", nullptr, nullptr}, rounds);
  if (::geteuid() != 0) return 0;
  remove_namespaces();
  if (make_namespaces()) run({"two network namespaces", "10.77.0.1", "manta-bench-a", "manta-bench-b"}, rounds);
  remove_namespaces();
  return 0;
}

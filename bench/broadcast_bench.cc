// One object read by four nodes at once, beside one node that reads it alone: five network namespaces behind a switch, each
// with a link of 1 Gbit/s both ways (made here, with tc; needs root). Every node has its own link in a cluster, which
// loopback does not.
//
// bench_broadcast [MIB [ROUNDS]]: 512 MiB and 3 if not said.
#include "bench/stats.h"
#include "common/check.h"
#include "object_store/test_node.h"
#include "object_store/transfer/identity.h"
#include "object_store/transfer/transfer.h"

#include <fcntl.h>
#include <sched.h>

#include <cstdlib>
#include <cstring>

namespace {

using namespace manta;
using namespace manta::object_store;
using std::chrono::seconds;

constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr wire::NodeNumber kNodes = 5;
constexpr auto kForgottenAfter = std::chrono::milliseconds(2'500);

bool shell(const std::string& commands) { return std::system((commands + " 2>/dev/null").c_str()) == 0; }
std::string space(wire::NodeNumber number) { return "manta-cast-" + std::to_string(number); }
std::string host(wire::NodeNumber number) { return "10.78.0." + std::to_string(number); }

void remove_network() {
  (void)shell("ip netns del manta-cast-hub");
  for (wire::NodeNumber number = 1; number <= kNodes; ++number) (void)shell("ip netns del " + space(number));
}

bool make_network() {
  const std::string limit = " root tbf rate 1gbit burst 512kb latency 50ms";
  bool made = shell(
      "ip netns add manta-cast-hub && ip -n manta-cast-hub link add br0 type bridge && "
      "ip -n manta-cast-hub link set br0 up");
  for (wire::NodeNumber number = 1; made && number <= kNodes; ++number) {
    const std::string port = "port" + std::to_string(number), name = space(number);
    made = shell("ip netns add " + name) &&
           shell("ip link add " + port + " netns manta-cast-hub type veth peer name eth0 netns " + name) &&
           shell("ip -n manta-cast-hub link set " + port + " master br0 up && ip -n " + name + " addr add " + host(number) +
                 "/24 dev eth0 && ip -n " + name + " link set eth0 up && ip -n " + name + " link set lo up") &&
           shell("ip netns exec manta-cast-hub tc qdisc add dev " + port + limit) &&
           shell("ip netns exec " + name + " tc qdisc add dev eth0" + limit);
  }
  return made;
}

/// A node whose threads, and so its sockets, are in a namespace of its own.
struct Node {
  Node(wire::NodeNumber given, const Identity& identity, uint64_t capacity_bytes) : number(given) {
    std::thread([&] {
      Fd handle(::open(("/run/netns/" + space(number)).c_str(), O_RDONLY | O_CLOEXEC));
      MANTA_CHECK(handle && ::setns(handle.get(), CLONE_NEWNET) == 0, number);
      store = std::make_unique<TestNode>(capacity_bytes, 0, number);
      store->run([&](StoreServer& server) {
        transfer = Transfer::start(server, {.node = number,
                                            .reader = {wire::first_id_of(number) + 99},
                                            .listen = host(number) + ":0",
                                            .certificate = identity.certificate,
                                            .key = identity.key})
                       .value();
      });
      store->watch(transfer->wake_fd(), [this] { transfer->on_wake(); });
      store->start();
    }).join();
    client = store->client(wire::first_id_of(number) + 1);
  }
  ~Node() {
    store->watch(transfer->wake_fd(), {});
    store->run([&](StoreServer&) { transfer.reset(); });
  }
  wire::NodeNumber number;
  std::unique_ptr<TestNode> store;
  std::unique_ptr<Transfer> transfer;
  std::unique_ptr<TestClient> client;
};

/// How long it takes until all of `readers` have it; then they forget it.
double read_seconds(std::span<const std::unique_ptr<Node>> readers, const wire::ObjectLocation& at) {
  const double taken = bench::seconds_of([&] {
    std::vector<std::thread> threads;
    for (const auto& node : readers) {
      threads.emplace_back([&] {
        const Status status = (*node->client)->pin(at, seconds(120)).status();
        MANTA_CHECK(status.ok(), status.to_string());
      });
    }
    for (std::thread& thread : threads) thread.join();
  });
  for (const auto& node : readers) {
    node->store->run([&](StoreServer& store) { store.hear(1, wire::DropCopies{1, {hazard_key(at.slot, at.generation)}}); });
    MANTA_CHECK(node->store->eventually([](const StoreStats& stats) { return stats.copies + stats.limbo_objects == 0; }));
  }
  // The home sends others to whoever asked lately, and these have nothing any more.
  std::this_thread::sleep_for(kForgottenAfter);
  return taken;
}

void measure(uint64_t bytes, int rounds) {
  const Identity identity = Identity::make().value();
  std::vector<std::unique_ptr<Node>> nodes;
  for (wire::NodeNumber number = 1; number <= kNodes; ++number)
    nodes.push_back(std::make_unique<Node>(number, identity, bytes + 64 * kMiB));
  for (auto& node : nodes) {
    for (auto& other : nodes)
      node->transfer->node_joined(other->number, {other->transfer->endpoint(), identity.fingerprint});
  }
  MutableBlock block = (*nodes[0]->client)->create(bytes, seconds(60)).value();
  std::memset(block.data(), 1, bytes);
  const wire::ObjectLocation at = (*nodes[0]->client)->seal(std::move(block), {nodes[0]->client->process(), 1}).value();
  const std::span readers(nodes.data() + 1, nodes.size() - 1);
  std::vector<double> alone, all, served;
  for (int round = 0; round <= rounds; ++round) {  // the first only warms up
    const double one = read_seconds(readers.first(1), at);
    const uint64_t before = nodes[0]->transfer->served_bytes();
    const double four = read_seconds(readers, at);
    if (round == 0) continue;
    alone.push_back(one), all.push_back(four);
    served.push_back(static_cast<double>(nodes[0]->transfer->served_bytes() - before) / static_cast<double>(bytes));
  }
  const bench::Spread one = bench::spread_of(alone), four = bench::spread_of(all);
  char note[96];
  std::snprintf(note, sizeof note, "%.2f times one (goal 1.6)", four.median / one.median);
  const std::string size = std::to_string(bytes / kMiB) + " MiB to ";
  bench::print_row(size + "1 node", one, "s");
  bench::print_row(size + "4 nodes", four, "s", note);
  bench::print_row("of it sent by its home", bench::spread_of(served), "times");
}

}  // namespace

int main(int argc, char** argv) {
  const uint64_t bytes = (argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 512) * kMiB;
  const int rounds = argc > 2 ? std::max(std::atoi(argv[2]), 1) : 3;
  bench::print_heading("broadcast, links of 1 Gbit/s");
  remove_network();
  if (::geteuid() == 0 && make_network()) {
    measure(bytes, rounds);
  } else {
    std::printf("not measured: the links need root, network namespaces and tc\n");
  }
  remove_network();
  return 0;
}

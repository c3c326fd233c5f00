// Placement groups and placement options on a cluster of several nodes, checked by where work ran.
//
//   groups rate COUNT AT_ONCE    makes and removes groups, a bundle on each node; says how many a second
//   groups places                labels, named nodes, spreading; bundles are where the group says
//   groups waits                 more nodes than there are: says why
//   groups rivals ROUNDS         two groups of which only one fits; neither holds anything while it waits
//   groups lost                  a node of the group is killed from outside: set aside anew, work goes on
//   groups busy                  a task that waits for a bundle of three runs in that which gets free
//   groups devices               CUDA_VISIBLE_DEVICES of workers in bundles
#include <manta/manta.h>

#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <thread>

namespace {

using manta::NodeNumber;
using manta::PlacementGroup;
using manta::Strategy;
using namespace std::chrono_literals;

void check(bool is_so, const std::string& what) {
  if (!is_so) throw std::runtime_error("not so: " + what);
}

void check_ready(const PlacementGroup& group) {
  manta::throw_if_error(group.wait(60s));
  check(group.is_ready() || !group.why().empty(), "a group that waited is ready");
}

}  // namespace

uint32_t where() { return manta::this_node().value; }
uint32_t where_for(int ms) {
  std::this_thread::sleep_for(std::chrono::milliseconds(ms));
  return where();
}
struct Place {
  uint32_t node = 0;
  std::string devices;
};
Place place() {
  const char* const devices = std::getenv("CUDA_VISIBLE_DEVICES");
  return {where(), devices == nullptr ? "" : devices};
}

struct Keeper {
  uint32_t node() { return where(); }
  Place place() { return ::place(); }
};

namespace {

int rate(int count, int at_once) {
  const auto start = std::chrono::steady_clock::now();
  for (int made = 0; made < count; made += at_once) {
    std::vector<PlacementGroup> groups;
    for (int i = 0; i < at_once; ++i)
      groups.push_back(manta::placement_group({{.cpus = 0.001}, {.cpus = 0.001}, {.cpus = 0.001}},
                                              {.strategy = Strategy::kStrictSpread}));
    for (const PlacementGroup& group : groups) check_ready(group);
    for (const PlacementGroup& group : groups) group.remove();
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  std::printf("%d groups on 3 nodes made and removed, %d at a time: %.0f/s\n", count, at_once, count / took.count());
  return 0;
}

int places() {
  // First, while every node is known to be free.
  std::vector<manta::Ref<uint32_t>> spread;
  for (int i = 0; i < 3; ++i) spread.push_back(manta::remote<&where_for>.with({.cpus = 0.1, .spread = true})(300));
  std::set<uint32_t> of_spread;
  for (const auto& one : spread) of_spread.insert(one.get());
  check(of_spread.size() >= 2, "spread");
  const PlacementGroup group =
      manta::placement_group({{.cpus = 1}, {.cpus = 1}, {.cpus = 1}}, {.strategy = Strategy::kStrictSpread});
  check_ready(group);
  const std::vector<NodeNumber> nodes = group.nodes();
  check(std::set<NodeNumber>(nodes.begin(), nodes.end()).size() == 3, "each bundle on another node");
  for (int i = 0; i < 3; ++i) {
    const uint32_t wanted = nodes[static_cast<size_t>(i)].value;
    check(manta::remote<&where>.with({.group = group, .bundle = i})().get() == wanted, "a task is in its bundle");
  }
  std::vector<manta::Ref<uint32_t>> anywhere;
  for (int i = 0; i < 30; ++i) anywhere.push_back(manta::remote<&where_for>.with({.group = group})(20));
  std::set<uint32_t> seen;
  for (const auto& one : anywhere) seen.insert(one.get());
  check(seen.size() == 3, "tasks of any bundle use all of them");
  const auto keeper = manta::spawn<Keeper>.with({.cpus = 1, .group = group, .bundle = 2})();
  check(keeper.call<&Keeper::node>().get() == nodes[2].value, "an actor is in its bundle");
  // Nothing is left outside.
  const manta::Ref<uint32_t> outside = manta::remote<&where>();
  check(!outside.wait(200ms), "what is set aside is for the group");
  std::printf("outside: %s\n", manta::explain(outside).c_str());
  group.remove();
  (void)outside.get();

  check(manta::remote<&where>.with({.labels = {{"place", "second"}}})().get() == 2, "labels");
  check(manta::spawn<Keeper>.with({.labels = {{"place", "third"}}})().call<&Keeper::node>().get() == 3, "labels of actors");
  for (const uint32_t node : {1u, 2u, 3u}) {
    check(manta::remote<&where>.with({.node = {node}})().get() == node, "a named node");
    check(manta::spawn<Keeper>.with({.node = {node}})().call<&Keeper::node>().get() == node, "a named node, of an actor");
  }
  const manta::Status gone = manta::remote<&where>.with({.node = {999}})().result(30s).status();
  check(!gone.ok() && gone.message().find("node 999") != std::string::npos, "a node that is not there: " + gone.message());
  (void)manta::remote<&where>.with({.node = {999}, .node_is_soft = true})().get();
  std::printf("everything ran where it should\n");
  return 0;
}

/// Wherever the task waits, for two of the three bundles it has to go elsewhere.
int busy() {
  const PlacementGroup group =
      manta::placement_group({{.cpus = 1}, {.cpus = 1}, {.cpus = 1}}, {.strategy = Strategy::kStrictSpread});
  check_ready(group);
  const auto fill = [&](int bundle) {
    const auto keeper = manta::spawn<Keeper>.with({.cpus = 1, .group = group, .bundle = bundle})();
    keeper.wait_ready(30s);
    return keeper;
  };
  std::vector<manta::Actor<Keeper>> keepers{fill(0), fill(1), fill(2)};
  for (int bundle = 0; bundle < 3; ++bundle) {
    const manta::Ref<uint32_t> task = manta::remote<&where>.with({.cpus = 1, .group = group})();
    check(!task.wait(300ms), "all bundles are busy");
    manta::Actor<Keeper>& keeper = keepers[static_cast<size_t>(bundle)];
    keeper.kill();
    const manta::Result<uint32_t> node = task.result(20s);
    check(node.ok() && *node == group.nodes()[static_cast<size_t>(bundle)].value,
          "the task runs in bundle " + std::to_string(bundle) + ", which is free: " + node.status().message());
    keeper = fill(bundle);
  }
  std::printf("a task ran in each bundle that got free\n");
  return 0;
}

int waits() {
  const PlacementGroup group = manta::placement_group({{.cpus = 0.1}, {.cpus = 0.1}, {.cpus = 0.1}, {.cpus = 0.1}},
                                                      {.strategy = Strategy::kStrictSpread, .name = "four"});
  const manta::Status status = group.wait(300ms);
  check(status.code() == manta::Code::kTimeout, "it waits");
  std::printf("%s\n", status.message().c_str());
  const PlacementGroup large = manta::placement_group({{.cpus = 0.1}, {.cpus = 0.1, .gpus = 3}});
  std::printf("%s\n", large.wait(300ms).message().c_str());
  return 0;
}

// Each node has one CPU: a pair needs two nodes of three, so two pairs do not fit, and half of each would stop both.
int rivals(int rounds) {
  const auto pair = [] { return manta::placement_group({{.cpus = 1}, {.cpus = 1}}, {.strategy = Strategy::kStrictSpread}); };
  for (int i = 0; i < rounds; ++i) {
    PlacementGroup one = pair();
    PlacementGroup two = pair();
    std::vector<manta::Ref<void>> both{one.ready(), two.ready()};
    check(manta::wait(both, 1, 60s).ready.size() >= 1, "one of two rivals is ready");
    if (two.is_ready()) std::swap(one, two);
    check(one.is_ready() && !two.is_ready(), "only one of two rivals is ready");
    check(two.nodes().empty(), "the other holds nothing");
    // What is left is one CPU, so this runs although the other waits.
    (void)manta::remote<&where>().get();
    one.remove();
    check_ready(two);
    two.remove();
  }
  std::printf("%d pairs of rivals, each ready in turn\n", rounds);
  return 0;
}

int lost() {
  const PlacementGroup group = manta::placement_group({{.cpus = 1}, {.cpus = 1}}, {.strategy = Strategy::kStrictSpread});
  check_ready(group);
  const int bundle_of_it = group.nodes()[1].value != 1 ? 1 : 0;  // the head stays
  const auto keeper = manta::spawn<Keeper>.with({.max_restarts = -1, .group = group, .bundle = bundle_of_it})();
  const uint32_t before = keeper.call<&Keeper::node>().get();
  std::printf("the actor is on node %u\n", before);
  std::fflush(stdout);
  // It is over when the node is another; until then calls fail or find the old one.
  uint32_t now = before;
  while (now == before) {
    const manta::Result<uint32_t> answer = keeper.call<&Keeper::node>().result(30s);
    if (answer.ok()) now = *answer;
    std::this_thread::sleep_for(20ms);
  }
  check_ready(group);
  for (int bundle = 0; bundle < 2; ++bundle) {
    const uint32_t there = manta::remote<&where>.with({.cpus = 0.5, .group = group, .bundle = bundle})().get();
    check(there == group.nodes()[static_cast<size_t>(bundle)].value && there != before, "a task in the new bundle");
  }
  std::printf("the group was set aside anew\n");
  return 0;
}

int devices() {
  // Two halves on one device or on two nodes; never more than a device has.
  std::vector<PlacementGroup> groups;
  std::map<std::pair<uint32_t, std::string>, double> used;
  std::vector<manta::Actor<Keeper>> keepers;
  for (int i = 0; i < 6; ++i) {
    groups.push_back(manta::placement_group({{.gpus = 0.5}, {.gpus = 0.25}}, {.strategy = Strategy::kPack}));
    check_ready(groups.back());
    for (int bundle = 0; bundle < 2; ++bundle) {
      const double share = bundle == 0 ? 0.5 : 0.25;
      keepers.push_back(manta::spawn<Keeper>.with({.gpus = share, .group = groups.back(), .bundle = bundle})());
      const Place there = keepers.back().call<&Keeper::place>().get();
      check(there.node == groups.back().nodes()[static_cast<size_t>(bundle)].value, "the bundle's node");
      check(there.devices == "0" || there.devices == "1", "one of the node's two devices: " + there.devices);
      used[{there.node, there.devices}] += share;
    }
  }
  for (const auto& [device, share] : used) check(share <= 1.0001, "a device is not used more than once");
  std::printf("12 workers see the devices of their bundles\n");
  return 0;
}

int program(int argc, char** argv) {
  const std::string_view what = argc > 1 ? argv[1] : "";
  const auto number = [&](int at) { return argc > at ? std::atoi(argv[at]) : 1; };
  if (what == "rate") return rate(number(2), number(3));
  if (what == "places") return places();
  if (what == "busy") return busy();
  if (what == "waits") return waits();
  if (what == "rivals") return rivals(number(2));
  if (what == "lost") return lost();
  if (what == "devices") return devices();
  std::fprintf(stderr, "groups: no such thing to try\n");
  return 2;
}

}  // namespace

int main(int argc, char** argv) { return manta::run(argc, argv, program); }

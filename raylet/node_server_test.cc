// A real mantad with real processes: start, leases, deaths, ends.
#include "raylet/testing/test_node.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <set>
#include <thread>

namespace manta::raylet {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

bool is_alive(int pid) { return kill(pid, 0) == 0; }

bool becomes_true(const std::function<bool()>& condition) {
  for (int i = 0; i < 1000; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(10ms);
  }
  return false;
}

TEST(NodeServer, WelcomesTheDriverAndGrantsALease) {
  TestNode node({"--cpus", "2"});
  const wire::Welcome welcome = node.join();
  EXPECT_EQ(welcome.capacity.cpus, 2 * wire::kWhole);
  EXPECT_EQ(welcome.session_dir, node.session_dir());
  EXPECT_NE(welcome.node, 0u);
  node.send(wire::RequestLease{.request = 1, .scheduling_class = needs(1)});
  wire::Frame frame;
  const auto granted = node.expect<wire::LeaseGranted>(&frame);
  EXPECT_TRUE(granted.new_channel);
  ASSERT_EQ(frame.descriptors.size(), 2u);
  EXPECT_TRUE(wire::Channel::open(frame.descriptors[0], wire::Channel::Side::kCaller).ok());
  EXPECT_TRUE(wire::Bell::open(frame.descriptors[1]).ok());
  EXPECT_TRUE(is_alive(granted.worker_pid));
}

TEST(NodeServer, AWorkerLeasedAgainKeepsItsChannel) {
  TestNode node({"--cpus", "1"});
  node.join();
  const auto first = node.lease(1);
  node.send(wire::ReturnLease{first.lease});
  const auto second = node.lease(2);
  EXPECT_EQ(second.worker, first.worker);
  EXPECT_EQ(second.channel, first.channel);
  EXPECT_FALSE(second.new_channel);
  EXPECT_NE(second.lease, first.lease);
}

TEST(NodeServer, TellsByWhatAWorkerDied) {
  TestNode node({"--cpus", "2"});
  node.join();
  const auto killed = node.lease(1);
  ASSERT_EQ(kill(killed.worker_pid, SIGKILL), 0);
  const auto death = node.expect<wire::ProcessDied>();
  EXPECT_EQ(death.process, killed.worker);
  EXPECT_EQ(wire::from_wire(death.cause).message(), "killed by signal 9 (SIGKILL)");
  EXPECT_EQ(wire::from_wire(death.cause).code(), Code::kDied);

  const auto exited = node.lease(2);
  node.tell(exited.worker, "exit 3");
  const auto end = node.expect<wire::ProcessDied>();
  EXPECT_EQ(end.process, exited.worker);
  EXPECT_EQ(wire::from_wire(end.cause).message(), "exited with code 3");
  EXPECT_EQ(node.state().leases, 0u);
  EXPECT_EQ(node.state().available.cpus, 2 * wire::kWhole);
}

TEST(NodeServer, KillsALeaseWithItsReason) {
  TestNode node({"--cpus", "1"});
  node.join();
  const auto granted = node.lease(1);
  node.send(wire::KillLease{granted.lease, "its deadline passed"});
  EXPECT_EQ(wire::from_wire(node.expect<wire::ProcessDied>().cause).message(), "killed by Manta: its deadline passed");
}

TEST(NodeServer, AWorkerThatHangsUpIsKilledAfterAWhile) {
  TestNode node({"--cpus", "1"});
  node.join();
  const auto granted = node.lease(1);
  node.tell(granted.worker, "hang up");
  EXPECT_THAT(wire::from_wire(node.expect<wire::ProcessDied>().cause).message(), HasSubstr("closed its connection"));
  EXPECT_FALSE(is_alive(granted.worker_pid));
}

TEST(NodeServer, RefusesWhatTheNodeCanNeverServe) {
  TestNode node({"--cpus", "1"});
  node.join();
  node.send(wire::RequestLease{.request = 9, .scheduling_class = needs(4)});
  const auto refused = node.expect<wire::LeaseRefused>();
  EXPECT_EQ(refused.request, 9u);
  EXPECT_THAT(wire::from_wire(refused.status).to_string(), HasSubstr("asked for 4 CPUs"));
  EXPECT_EQ(wire::from_wire(refused.status).code(), Code::kInvalid);
}

TEST(NodeServer, GivesUpOnAProgramThatCannotStart) {
  TestNode node({"--cpus", "1"});
  node.join("broken");
  node.send(wire::RequestLease{.request = 1, .scheduling_class = needs(1)});
  const std::string why = wire::from_wire(node.expect<wire::LeaseRefused>().status).message();
  EXPECT_THAT(why, HasSubstr("exited with code 3"));
  EXPECT_THAT(why, HasSubstr("cannot find my libraries"));
}

TEST(NodeServer, TheDeathOfTheDriverLeavesNothing) {
  TestNode node({"--cpus", "2"});
  node.join();
  std::set<int> pids{node.lease(1).worker_pid, node.lease(2).worker_pid};
  const std::string staging = node.session_dir() + "-out/.manta-staging";
  std::filesystem::create_directories(staging);
  std::ofstream(staging + "/part") << "half";
  node.send(wire::CleanupPath{staging, true});
  EXPECT_EQ(node.state().leases, 2u);
  node.hang_up();
  EXPECT_EQ(node.wait_for_end(), 0);
  for (int pid : pids) EXPECT_FALSE(is_alive(pid)) << pid;
  EXPECT_FALSE(std::filesystem::exists(node.session_dir()));
  EXPECT_FALSE(std::filesystem::exists(staging));
  std::filesystem::remove_all(node.session_dir() + "-out");
}

bool is_gone(int pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  std::string text((std::istreambuf_iterator<char>(file)), {});
  return text.empty() || text.find(") Z ") != std::string::npos;
}

// The driver is a process of its own here, and a child of it keeps a copy of its socket: only its pidfd tells of its death.
TEST(NodeServer, AKilledDriverWhoseSocketLivesOnLeavesNothing) {
  int report[2];
  ASSERT_EQ(pipe(report), 0);
  const int driver = fork();
  if (driver == 0) {
    TestNode node({"--cpus", "2"});
    node.join();
    std::array<int, 3> pids{node.pid(), node.lease(1).worker_pid, 0};
    pids[2] = fork();
    if (pids[2] == 0) {
      pause();
      _exit(0);
    }
    [[maybe_unused]] const ssize_t written = write(report[1], pids.data(), sizeof pids);
    raise(SIGKILL);
  }
  std::array<int, 3> pids{};
  ASSERT_EQ(read(report[0], pids.data(), sizeof pids), static_cast<ssize_t>(sizeof pids));
  waitpid(driver, nullptr, 0);
  EXPECT_TRUE(becomes_true([&] { return is_gone(pids[0]); })) << "mantad lives";
  EXPECT_TRUE(becomes_true([&] { return is_gone(pids[1]); })) << "the worker lives";
  kill(pids[2], SIGKILL);
  close(report[0]);
  close(report[1]);
}

TEST(NodeServer, WhatWorkersPrintedComesBeforeTheEnd) {
  TestNode node({"--cpus", "1"});
  node.join();
  const auto granted = node.lease(1);
  node.tell(granted.worker,
            "print \x1e"
            "add#1\x1fhello");
  node.tell(granted.worker, "echo");
  EXPECT_EQ(node.expect<wire::Relay>().payload, "echoed");
  node.send(wire::Goodbye{0});
  const auto lines = node.expect<wire::LogLines>();
  EXPECT_EQ(lines.label, "add#1");
  EXPECT_THAT(lines.lines, ElementsAre("hello"));
  EXPECT_EQ(lines.pid, granted.worker_pid);
  EXPECT_EQ(node.wait_for_end(), 0);
}

TEST(NodeServer, AFloodOfOutputStopsNothing) {
  TestNode node({"--cpus", "2"});
  node.join();
  const auto granted = node.lease(1);
  node.tell(granted.worker, "flood 300000");
  const auto other = node.lease(2);
  node.tell(other.worker, "echo");
  EXPECT_EQ(node.expect<wire::Relay>().payload, "echoed");
}

TEST(NodeServer, MalformedMessagesEndOnlyTheirSender) {
  TestNode node({"--cpus", "1"});
  node.join();
  const auto granted = node.lease(1);
  node.tell(granted.worker, "echo");
  EXPECT_EQ(node.expect<wire::Relay>().from, granted.worker);  // whatever the sender claimed
  node.send(wire::Relay{.from = 0, .to = 123456, .payload = "to nobody"});
  EXPECT_EQ(node.state().leases, 1u);
}

std::unique_ptr<wire::Connection> visit(const TestNode& node) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string path = node.session_dir() + "/mantad.sock";
  std::memcpy(address.sun_path, path.data(), path.size());
  Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_EQ(connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  return std::make_unique<wire::Connection>(std::move(socket));
}

wire::Hello visitor_hello(wire::Role role) {
  wire::Hello hello;
  hello.process = 4242;
  hello.pid = getpid();
  hello.role = static_cast<uint8_t>(role);
  return hello;
}

TEST(NodeServer, AVisitorMayLookAndNothingElse) {
  TestNode node({"--cpus", "1"});
  node.join();
  const auto visitor = visit(node);
  ASSERT_TRUE(visitor->send(visitor_hello(wire::Role::kObserver)).ok());
  EXPECT_EQ(visitor->receive_one(10s)->type, wire::Type::kWelcome);
  ASSERT_TRUE(visitor->send(wire::GetNodeState{3}).ok());
  EXPECT_EQ(visitor->receive_one(10s)->type, wire::Type::kNodeState);
  ASSERT_TRUE(visitor->send(wire::RequestLease{.request = 1, .scheduling_class = needs(1)}).ok());
  EXPECT_EQ(visitor->receive_one(10s)->type, wire::Type::kRefused);
  EXPECT_EQ(node.state().leases, 0u);
}

TEST(NodeServer, AVisitorCannotPassForAWorkerOrADriver) {
  TestNode node({"--cpus", "1"});
  node.join();
  for (wire::Role role : {wire::Role::kDriver, wire::Role::kWorker}) {
    const auto visitor = visit(node);
    ASSERT_TRUE(visitor->send(visitor_hello(role)).ok());
    EXPECT_EQ(visitor->receive_one(10s)->type, wire::Type::kRefused);
  }
  const auto garbage = visit(node);
  ASSERT_EQ(write(garbage->fd(), "GET / HTTP/1.1\r\n\r\n", 18), 18);
  EXPECT_FALSE(garbage->receive_one(10s).ok());
  EXPECT_EQ(node.state().workers, 1u);
}

TEST(NodeServer, RefusesAnotherProtocol) {
  TestNode node;
  const wire::Bell bell = wire::Bell::create().value();
  wire::Hello hello;
  hello.protocol = 999;
  hello.process = 5;
  node.send(hello, {bell.fd().get()});
  EXPECT_THAT(wire::from_wire(node.expect<wire::Refused>().status).message(), HasSubstr("protocol"));
  EXPECT_EQ(node.wait_for_end(), 0);
}

TEST(NodeServer, ExtraIdleWorkersLeaveUnlessTheyAreNeeded) {
  TestNode node({"--cpus", "1"});
  node.join();
  const auto first = node.lease(1, 0);
  const auto second = node.lease(2, 0);
  EXPECT_EQ(node.state().workers, 2u);
  node.send(wire::ReturnLease{first.lease});
  node.send(wire::ReturnLease{second.lease});
  EXPECT_TRUE(becomes_true([&] { return node.state().workers == 1; }));
}

TEST(NodeServer, ADeviceGoesIntoTheEnvironmentOfAFreshWorker) {
  TestNode node({"--cpus", "1", "--gpus", "2"});
  node.join();
  wire::SchedulingClass one_gpu = needs(0, 1);
  one_gpu.env["MODEL"] = "the-x";
  node.send(wire::RequestLease{.request = 1, .scheduling_class = one_gpu});
  const auto granted = node.expect<wire::LeaseGranted>();
  EXPECT_EQ(granted.devices.size(), 1u);
  node.tell(granted.worker, "env MANTA_DEVICES");
  EXPECT_EQ(node.expect<wire::Relay>().payload, std::to_string(granted.devices.at(0)));
  node.tell(granted.worker, "env MODEL");
  EXPECT_EQ(node.expect<wire::Relay>().payload, "the-x");
  node.send(wire::ReturnLease{granted.lease});
  EXPECT_EQ(node.expect<wire::ProcessDied>().process, granted.worker);
  EXPECT_EQ(node.state().available.gpus, 2 * wire::kWhole);
}

TEST(NodeServer, TheMemoryMonitorEndsAWorkerThatTakesTooMuch) {
  TestNode node({"--cpus", "1", "--memory", std::to_string(256 << 20)});
  node.join();
  const auto granted = node.lease(1);
  node.tell(granted.worker, "eat 300");
  const auto died = node.expect<wire::ProcessDied>();
  EXPECT_EQ(died.process, granted.worker);
  EXPECT_THAT(wire::from_wire(died.cause).message(), HasSubstr("killed by the memory monitor: peak 0."));
  EXPECT_THAT(wire::from_wire(died.cause).message(), HasSubstr("the node's workers used"));
  EXPECT_TRUE(becomes_true([&] { return node.state().available.cpus == wire::kWhole; }));
}

/// A memory cgroup that this process is in while it lives; children stay in it.
class MemoryGroup {
 public:
  explicit MemoryGroup(const std::string& limit_bytes) {
    for (const char* root : {"/sys/fs/cgroup/memory", "/sys/fs/cgroup"}) {
      const bool is_v1 = std::string(root).ends_with("memory");
      const std::string folder = std::string(root) + "/manta-test-" + std::to_string(getpid());
      if (!std::filesystem::exists(std::string(root) + (is_v1 ? "/memory.limit_in_bytes" : "/cgroup.controllers"))) continue;
      if (mkdir(folder.c_str(), 0755) != 0) continue;
      folder_ = folder;
      home_ = root;
      works_ = write_to(folder + (is_v1 ? "/memory.limit_in_bytes" : "/memory.max"), limit_bytes) &&
               write_to(folder + "/cgroup.procs", "0");
      return;
    }
  }
  ~MemoryGroup() {
    if (folder_.empty()) return;
    write_to(home_ + "/cgroup.procs", "0");
    for (int i = 0; i < 500 && rmdir(folder_.c_str()) != 0; ++i) usleep(10'000);
  }
  [[nodiscard]] bool works() const { return works_; }

 private:
  static bool write_to(const std::string& path, const std::string& text) {
    std::ofstream file(path);
    file << text << std::flush;
    return file.good();
  }
  std::string folder_;
  std::string home_;
  bool works_ = false;
};

TEST(NodeServer, AWorkerThatTheKernelEndsForMemoryIsToldSo) {
  auto group = std::make_unique<MemoryGroup>(std::to_string(200 << 20));
  if (!group->works()) GTEST_SKIP() << "this user may not make a memory cgroup";
  {
    TestNode node({"--cpus", "1"});
    node.join();
    const auto granted = node.lease(1);
    node.tell(granted.worker, "eat 400");
    const auto died = node.expect<wire::ProcessDied>();
    EXPECT_EQ(died.process, granted.worker);
    // Whoever is faster: the monitor sees the cgroup fill up too.
    EXPECT_THAT(wire::from_wire(died.cause).message(),
                ::testing::AnyOf("killed by the kernel: out of memory", HasSubstr("killed by the memory monitor")));
  }
}

}  // namespace
}  // namespace manta::raylet

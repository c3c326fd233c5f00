#include "raylet/testing/test_node.h"

#include "object_store/hazard_page.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <thread>

extern char** environ;

namespace manta::raylet {
namespace {

using namespace std::chrono_literals;
constexpr auto kPatience = 10s;
constexpr int kDriverFd = 5;

int parent_of(int pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  std::string text((std::istreambuf_iterator<char>(file)), {});
  const size_t name_end = text.rfind(')');
  int parent = 0;
  if (name_end != std::string::npos) std::sscanf(text.c_str() + name_end + 1, " %*c %d", &parent);
  return parent;
}

}  // namespace

TestNode::TestNode(const std::vector<std::string>& flags) : bell_(wire::Bell::create().value()) {
  static int number = 0;
  session_dir_ =
      std::filesystem::temp_directory_path() / ("manta-test-" + std::to_string(getpid()) + "-" + std::to_string(++number));
  auto ends = wire::Connection::make_pair().value();
  std::vector<std::string> texts{MANTA_MANTAD,    "--local",   "--driver-fd", std::to_string(kDriverFd),
                                 "--session-dir", session_dir_};
  texts.insert(texts.end(), flags.begin(), flags.end());
  std::vector<char*> arguments;
  for (std::string& text : texts) arguments.push_back(text.data());
  arguments.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  const Fd high(fcntl(ends.second.get(), F_DUPFD_CLOEXEC, 64));
  posix_spawn_file_actions_adddup2(&actions, high.get(), kDriverFd);
  const int error = posix_spawn(&pid_, MANTA_MANTAD, &actions, nullptr, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  EXPECT_EQ(error, 0) << MANTA_MANTAD;
  connection_ = std::make_unique<wire::Connection>(std::move(ends.first));
}

TestNode::~TestNode() {
  connection_.reset();
  if (wait_for_end() < 0 && !is_reaped_) {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  std::filesystem::remove_all(session_dir_);
}

wire::Welcome TestNode::join(const std::string& mode) {
  wire::Hello hello;
  hello.build_id = "test";
  hello.process = kDriver;
  hello.pid = getpid();
  hello.role = static_cast<uint8_t>(wire::Role::kDriver);
  hello.program = MANTA_FAKE_WORKER;
  hello.arguments = {mode};
  hello.job_name = "test";
  const auto hazards = object_store::HazardPage::create().value();
  send(hello, {bell_.fd().get(), hazards.fd().get()});
  wire::Frame frame;
  auto welcome = expect<wire::Welcome>(&frame);
  EXPECT_EQ(frame.descriptors.size(), 1u);  // the object table
  return welcome;
}

wire::Frame TestNode::next(wire::Type type) {
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  for (auto it = kept_.begin(); it != kept_.end(); ++it) {
    if (it->type != type) continue;
    wire::Frame frame = std::move(*it);
    kept_.erase(it);
    return frame;
  }
  while (std::chrono::steady_clock::now() < deadline) {
    Result<wire::Frame> frame = connection_->receive_one(100ms);
    if (!frame.ok() && frame.status().code() == Code::kTimeout) continue;
    EXPECT_TRUE(frame.ok()) << frame.status().to_string();
    if (!frame.ok()) return {};
    if (frame->type == type) return std::move(*frame);
    kept_.push_back(std::move(*frame));
  }
  ADD_FAILURE() << "no message of type " << static_cast<int>(type) << " came";
  return {};
}

wire::LeaseGranted TestNode::lease(uint64_t request, int64_t cpus) {
  send(wire::RequestLease{.request = request, .scheduling_class = needs(static_cast<double>(cpus))});
  auto granted = expect<wire::LeaseGranted>();
  EXPECT_EQ(granted.request, request);
  return granted;
}

wire::NodeState TestNode::state() {
  send(wire::GetNodeState{1});
  return expect<wire::NodeState>();
}

int TestNode::wait_for_end() {
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (!is_reaped_ && std::chrono::steady_clock::now() < deadline) {
    int status = 0;
    if (waitpid(pid_, &status, WNOHANG) == pid_) {
      is_reaped_ = true;
      return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    }
    std::this_thread::sleep_for(1ms);
  }
  return -1;
}

std::vector<int> TestNode::workers() const {
  std::vector<int> found;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    const int pid = std::atoi(entry.path().filename().c_str());
    if (pid > 0 && parent_of(pid) == pid_) found.push_back(pid);
  }
  return found;
}

}  // namespace manta::raylet

// A worker for the raylet's tests: speaks the control protocol and runs no tasks. What it does is told by its first
// argument, then by Relay messages from the test ("exit 3", "print text", "block", "unblock", "flood 1000", "hang up", "eat
// MEBIBYTES").
#include "object_store/hazard_page.h"
#include "wire/channel.h"
#include "wire/connection.h"

#include <sys/prctl.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>

using namespace manta;
using namespace std::chrono_literals;

namespace {

template <typename Message>
Message decoded(const wire::Frame& frame) {
  return wire::decode<Message>(frame.body).value();
}

void must(const Status& status) {
  if (!status.ok()) _exit(97);
}

void print(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

void obey(wire::Connection& connection, const wire::Relay& order) {
  const std::string& text = order.payload;
  if (text.starts_with("exit ")) _exit(std::atoi(text.c_str() + 5));
  if (text == "abort") std::abort();
  if (text == "block") return must(connection.send(wire::Blocked{true}));
  if (text == "unblock") return must(connection.send(wire::Blocked{false}));
  if (text.starts_with("print ")) return print(text.substr(6) + "\n");
  if (text.starts_with("flood "))
    for (int i = 0; i < std::atoi(text.c_str() + 6); ++i) print("line " + std::to_string(i) + "\n");
  if (text == "hang up") {
    connection.close();
    std::this_thread::sleep_for(60s);
  }
  if (text.starts_with("env ")) {
    const char* value = std::getenv(text.c_str() + 4);
    must(connection.send(wire::Relay{.to = order.from, .payload = value == nullptr ? "(none)" : value}));
  }
  if (text.starts_with("eat ")) {
    const size_t bytes = static_cast<size_t>(std::atoi(text.c_str() + 4)) << 20;
    std::memset(std::malloc(bytes), 1, bytes);  // never freed
    must(connection.send(wire::Relay{.from = 1, .to = order.from, .payload = "eaten"}));
  }
  if (text == "echo") must(connection.send(wire::Relay{.from = 1, .to = order.from, .payload = "echoed"}));
}

void start_actor(wire::Connection& connection, const wire::StartActor& start) {
  if (start.class_key == "dies") _exit(9);
  wire::ActorStarted started{.actor = start.actor, .incarnation = start.incarnation, .status = {}};
  if (start.class_key == "throws") started.status = wire::to_wire(Status(Code::kTaskFailed, "the constructor threw"));
  must(connection.send(started));
  if (start.class_key == "saves")
    must(connection.send(
        wire::SaveActorState{start.actor, start.incarnation, start.state + std::to_string(start.incarnation)}));
}

[[noreturn]] void serve(bool stays) {
  wire::Connection connection(Fd(std::atoi(std::getenv("MANTA_WORKER_FD"))));
  const Result<wire::Bell> bell = wire::Bell::create();
  const Result<object_store::HazardPage> hazards = object_store::HazardPage::create();
  wire::Hello hello;
  hello.build_id = "test";
  hello.process = 1'000'000 + static_cast<uint64_t>(getpid());
  hello.pid = getpid();
  hello.role = static_cast<uint8_t>(wire::Role::kWorker);
  hello.spawn_token = std::strtoull(std::getenv("MANTA_SPAWN_TOKEN"), nullptr, 10);
  must(connection.send(hello, {bell->fd().get(), hazards->fd().get()}));
  while (true) {
    const Result<wire::Frame> frame = connection.receive_one(60s);
    if (!frame.ok()) _exit(98);
    switch (frame->type) {
      case wire::Type::kGoodbye:
        if (!stays) _exit(0);
        must(connection.send(wire::Goodbye{1}));
        break;
      case wire::Type::kStopActor: _exit(0);
      case wire::Type::kRelay: obey(connection, decoded<wire::Relay>(*frame)); break;
      case wire::Type::kStartActor: start_actor(connection, decoded<wire::StartActor>(*frame)); break;
      case wire::Type::kAttachChannel:
        if (frame->descriptors.size() != 2) _exit(96);
        break;
      default: break;
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (std::getenv("MANTA_WORKER_FD") == nullptr) return 4;  // asked to be a fork server, which it is not
  const std::string mode = argc > 1 ? argv[1] : "serve";
  if (mode == "broken") {
    std::fprintf(stderr, "cannot find my libraries\n");
    return 3;
  }
  serve(mode == "stays");
}

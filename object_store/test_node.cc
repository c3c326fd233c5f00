#include "object_store/test_node.h"

#include "common/check.h"

#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

namespace manta::object_store {

TestClient::TestClient(Fd socket, uint64_t process, wire::NodeNumber node)
    : process_(process),
      connection_(std::make_unique<wire::Connection>(std::move(socket))),
      wake_(::eventfd(0, EFD_CLOEXEC)) {
  HazardPage hazard = HazardPage::create().value();
  wire::Hello hello;
  hello.process = process;
  hello.pid = ::getpid();
  Status sent = connection_->send(hello, {hazard.fd().get()});
  MANTA_CHECK(sent.ok(), sent.to_string());
  wire::Frame welcome = connection_->receive_one(std::chrono::seconds(20)).value();
  store_ = StoreClient::create(
               welcome.descriptors.at(0), std::move(hazard),
               [this](auto type, auto body, auto& descriptors) {
                 ++sent_;
                 return connection_->send_frame(type, body, descriptors);
               },
               node)
               .value();
  receiver_ = std::thread([this] {
    while (!stop_) {
      std::vector<wire::Frame> frames;
      Status status = connection_->receive(frames);
      for (wire::Frame& frame : frames) store_->handle(frame);
      if (!status.ok()) return store_->disconnected(status);
      (void)connection_->flush();
      pollfd waits[2] = {{connection_->fd(), static_cast<short>(POLLIN | (connection_->wants_write() ? POLLOUT : 0)), 0},
                         {wake_.get(), POLLIN, 0}};
      ::poll(waits, 2, 50);
    }
  });
}

void TestClient::hang_up() {
  stop_ = true;
  uint64_t one = 1;
  MANTA_CHECK(::write(wake_.get(), &one, sizeof one) == sizeof one);
  if (receiver_.joinable()) receiver_.join();
  store_->disconnected(Status(Code::kUnavailable, "hung up"));
  connection_->close();
}

TestClient::~TestClient() { hang_up(); }

TestNode::TestNode(uint64_t capacity_bytes, uint64_t spill_bytes, wire::NodeNumber node, uint64_t prepared_bytes)
    : node_(node), wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  static std::atomic<int> count{0};
  // In memory unless told otherwise: the tests are about what is written, not about how fast a disk is.
  const char* given = std::getenv("MANTA_SPILL_DIR");
  const bool has_shm = ::access("/dev/shm", W_OK | X_OK) == 0;
  std::filesystem::path base = given != nullptr ? given : has_shm ? "/dev/shm" : std::filesystem::temp_directory_path();
  spill_folder_ = (base / ("store-test-spill-" + std::to_string(::getpid()) + "-" + std::to_string(++count))).string();
  server_ = StoreServer::create({.capacity_bytes = capacity_bytes,
                                 .spill_folder = spill_folder_,
                                 .spill_bytes = spill_bytes,
                                 .prepared_bytes = prepared_bytes,
                                 .clock = &clock,
                                 .node = node})
                .value();
}

TestNode::~TestNode() {
  stop_ = true;
  if (thread_.joinable()) thread_.join();
}

Fd TestNode::connect() {
  auto ends = wire::Connection::make_pair().value();
  std::lock_guard lock(mutex_);
  peers_.push_back({std::make_unique<wire::Connection>(std::move(ends.second)), {}});
  return std::move(ends.first);
}

pid_t TestNode::spawn(uint64_t process, std::function<void(TestClient&)> body) {
  MANTA_CHECK(!thread_.joinable());
  Fd socket = connect();
  pid_t child = ::fork();
  if (child != 0) return child;
  peers_.clear();  // the server's ends, which would keep the connections open
  {
    TestClient client(std::move(socket), process);
    body(client);
  }
  ::_exit(0);
}

void TestNode::start() {
  thread_ = std::thread([this] { serve(); });
}

bool TestNode::handle(Peer& peer) {
  std::vector<wire::Frame> frames;
  Status status = peer.connection->receive(frames);
  for (wire::Frame& frame : frames) {
    if (frame.type == wire::Type::kHello) {
      auto hello = wire::decode<wire::Hello>(frame.body).value();
      peer.process = {hello.process};
      wire::Connection* connection = peer.connection.get();
      Status joined = server_->client_joined(
          peer.process, hello.pid, std::move(frame.descriptors.at(0)),
          [connection](auto type, auto body, auto& descriptors) { return connection->send_frame(type, body, descriptors); });
      MANTA_CHECK(joined.ok(), joined.to_string());
      MANTA_CHECK(connection->send(wire::Welcome{}, {server_->table_fd().get()}).ok());
      continue;
    }
    Result<bool> handled = server_->handle(peer.process, frame);
    if (!handled.ok()) return false;
  }
  (void)peer.connection->flush();
  return status.ok();
}

void TestNode::serve() {
  while (!stop_) {
    std::vector<pollfd> waits;
    take_posted();
    {
      std::lock_guard lock(mutex_);
      waits.push_back({wake_.get(), POLLIN, 0});
      for (auto& [fd, on_ready] : watched_) {
        on_ready();
        waits.push_back({fd, POLLIN, 0});
      }
      server_->on_disk();
      waits.push_back({server_->disk_fd(), POLLIN, 0});
      for (auto peer = peers_.begin(); peer != peers_.end();) {
        if (handle(*peer)) {
          auto events = static_cast<short>(POLLIN | (peer->connection->wants_write() ? POLLOUT : 0));
          waits.push_back({peer->connection->fd(), events, 0});
          ++peer;
          continue;
        }
        server_->client_gone(peer->process);
        peer = peers_.erase(peer);
      }
      if (std::optional<Time> deadline = server_->next_deadline(); deadline && *deadline <= clock.now()) server_->tick();
    }
    ::poll(waits.data(), waits.size(), 2);
  }
}

void TestNode::take_posted() {
  uint64_t count = 0;
  std::vector<std::function<void(StoreServer&)>> posted;
  {
    std::lock_guard lock(posted_mutex_);
    if (::read(wake_.get(), &count, sizeof count) < 0) return;  // nothing was posted
    posted.swap(posted_);
  }
  std::lock_guard lock(mutex_);
  for (auto& work : posted) work(*server_);
}

void TestNode::post(std::function<void(StoreServer&)> work) {
  std::lock_guard lock(posted_mutex_);
  posted_.push_back(std::move(work));
  const uint64_t one = 1;
  MANTA_CHECK(::write(wake_.get(), &one, sizeof one) == sizeof one);
}

void TestNode::run(std::function<void(StoreServer&)> work) {
  std::lock_guard lock(mutex_);
  work(*server_);
}

void TestNode::watch(int fd, std::function<void()> on_ready) {
  std::lock_guard lock(mutex_);
  on_ready ? (void)(watched_[fd] = std::move(on_ready)) : (void)watched_.erase(fd);
}

StoreStats TestNode::stats() {
  std::lock_guard lock(mutex_);
  return server_->stats();
}

bool TestNode::eventually(const std::function<bool(const StoreStats&)>& condition) {
  for (int i = 0; i < 20'000; ++i) {
    if (condition(stats())) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return false;
}

uint64_t TestNode::resident_bytes() {
  uint64_t bytes = 0;
  std::set<ino_t> seen;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code gone;
    std::string target = std::filesystem::read_symlink(entry.path(), gone).string();
    struct stat info {};
    if (target.find("memfd:manta-segment") == std::string::npos || ::stat(entry.path().c_str(), &info) != 0) continue;
    if (seen.insert(info.st_ino).second) bytes += static_cast<uint64_t>(info.st_blocks) * 512;
  }
  return bytes;
}

}  // namespace manta::object_store

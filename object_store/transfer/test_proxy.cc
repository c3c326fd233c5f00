#include "object_store/transfer/test_proxy.h"

#include "common/check.h"

#include <poll.h>
#include <sys/socket.h>

namespace manta::object_store {
namespace {

constexpr size_t kPieceBytes = 64 << 10;
constexpr auto kLong = std::chrono::seconds(60);

}  // namespace

TestProxy::TestProxy(const std::string& server, Watch watch)
    : server_(server),
      watch_(std::move(watch)),
      listener_(Stream::listen_on({"127.0.0.1", "0"}).value()),
      endpoint_(Stream::endpoint_of(listener_).value()),
      stop_(Wake::create().value()) {
  acceptor_ = std::thread([this] { accept_all(); });
}

TestProxy::~TestProxy() {
  stopping_ = true;
  stop_.ring();
  acceptor_.join();
  for (Pair& pair : pairs_) pair.puller->interrupt(), pair.server->interrupt();
  for (Pair& pair : pairs_) pair.up.join(), pair.down.join();
}

void TestProxy::accept_all() {
  while (!stopping_) {
    pollfd waits[2] = {{listener_.get(), POLLIN, 0}, {stop_.fd(), POLLIN, 0}};
    (void)::poll(waits, 2, -1);
    Fd socket(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!socket) continue;
    auto server = Stream::connect(parse_endpoint(server_).value(), Clock::real().now() + kLong);
    if (!server.ok()) continue;
    Pair& pair = pairs_.emplace_back();
    pair.puller = std::make_unique<Stream>(std::move(socket));
    pair.server = std::move(server).value();
    const int connection = count_++;
    pair.up = std::thread([this, &pair, connection] { relay(*pair.puller, *pair.server, connection, false); });
    pair.down = std::thread([this, &pair, connection] { relay(*pair.server, *pair.puller, connection, true); });
  }
}

void TestProxy::relay(Stream& from, Stream& to, int connection, bool is_watched) {
  std::vector<std::byte> piece(kPieceBytes);
  uint64_t offset = 0;
  while (!stopping_) {
    Result<size_t> got = from.read_some(piece, Clock::real().now() + kLong);
    if (!got.ok()) break;
    const std::span bytes(piece.data(), *got);
    const Verdict verdict = is_watched ? watch_(bytes, offset, connection) : Verdict::kPass;
    if (verdict == Verdict::kHangUp) break;
    if (verdict == Verdict::kStall) {  // until the test is over
      pollfd wait{stop_.fd(), POLLIN, 0};
      (void)::poll(&wait, 1, -1);
      break;
    }
    offset += *got;
    if (!to.write_all(bytes, Clock::real().now() + kLong).ok()) break;
  }
  from.interrupt();
  to.interrupt();
}

}  // namespace manta::object_store

// A TCP proxy in front of a listening address, for tests that cut connections: what is under way when it cuts is lost.
#pragma once

#include "common/check.h"
#include "common/fd.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace manta::wire::testing {

class Proxy {
 public:
  /// `endpoint` is tcp://127.0.0.1:PORT.
  explicit Proxy(const std::string& endpoint) : wake_(::eventfd(0, EFD_CLOEXEC)) {
    target_.sin_family = AF_INET;
    target_.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    target_.sin_port = htons(static_cast<uint16_t>(std::stoi(endpoint.substr(endpoint.rfind(':') + 1))));
    listener_ = Fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in here = target_;
    here.sin_port = 0;
    MANTA_CHECK(::bind(listener_.get(), reinterpret_cast<const sockaddr*>(&here), sizeof here) == 0);
    MANTA_CHECK(::listen(listener_.get(), 16) == 0);
    socklen_t size = sizeof here;
    ::getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&here), &size);
    endpoint_ = "tcp://127.0.0.1:" + std::to_string(ntohs(here.sin_port));
    thread_ = std::thread([this] { run(); });
  }
  ~Proxy() {
    is_over_ = true;
    wake();
    thread_.join();
  }
  Proxy(const Proxy&) = delete;
  Proxy& operator=(const Proxy&) = delete;

  [[nodiscard]] const std::string& endpoint() const { return endpoint_; }
  /// Ends the connections that stand; new ones are let through.
  void cut() {
    ++cuts_;
    wake();
  }

 private:
  struct Pair {
    Fd ends[2];
  };

  void wake() {
    const uint64_t one = 1;
    (void)!::write(wake_.get(), &one, sizeof one);
  }

  void run() {
    int cuts_done = 0;
    while (!is_over_) {
      std::vector<pollfd> polled{{wake_.get(), POLLIN, 0}, {listener_.get(), POLLIN, 0}};
      for (const Pair& pair : pairs_)
        for (const Fd& end : pair.ends) polled.push_back({end.get(), POLLIN, 0});
      ::poll(polled.data(), polled.size(), 1'000);
      if (polled[0].revents != 0) {
        uint64_t count = 0;
        (void)!::read(wake_.get(), &count, sizeof count);
      }
      if (std::exchange(cuts_done, cuts_.load()) != cuts_.load()) {
        pairs_.clear();
        continue;
      }
      for (size_t i = pairs_.size(); i-- > 0;) {
        const bool goes_on = (polled[2 + 2 * i].revents == 0 || pass_on(pairs_[i], 0)) &&
                             (polled[3 + 2 * i].revents == 0 || pass_on(pairs_[i], 1));
        if (!goes_on) pairs_.erase(pairs_.begin() + static_cast<std::ptrdiff_t>(i));
      }
      if (polled[1].revents != 0) accept();
    }
  }
  void accept() {
    Pair pair;
    pair.ends[0] = Fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    pair.ends[1] = Fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (::connect(pair.ends[1].get(), reinterpret_cast<const sockaddr*>(&target_), sizeof target_) != 0) return;
    pairs_.push_back(std::move(pair));
  }
  /// False at the end of the connection.
  bool pass_on(Pair& pair, int from) {
    const ssize_t size = ::read(pair.ends[from].get(), bytes_.data(), bytes_.size());
    if (size <= 0) return false;
    for (ssize_t at = 0; at < size;) {
      const ssize_t sent =
          ::send(pair.ends[1 - from].get(), bytes_.data() + at, static_cast<size_t>(size - at), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      at += sent;
    }
    return true;
  }

  const Fd wake_;
  Fd listener_;
  sockaddr_in target_{};
  std::string endpoint_;
  std::atomic<bool> is_over_{false};
  std::atomic<int> cuts_{0};
  std::array<char, 65'536> bytes_{};
  std::vector<Pair> pairs_;  // the thread's own
  std::thread thread_;
};

}  // namespace manta::wire::testing

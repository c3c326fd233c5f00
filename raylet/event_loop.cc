#include "raylet/event_loop.h"

#include "common/check.h"

#include <sys/epoll.h>

#include <array>
#include <cerrno>
#include <cstring>

namespace manta::raylet {

Result<std::unique_ptr<EventLoop>> EventLoop::create() {
  Fd epoll(epoll_create1(EPOLL_CLOEXEC));
  if (!epoll) return Status(Code::kIo, std::string("epoll_create1: ") + std::strerror(errno));
  return std::unique_ptr<EventLoop>(new EventLoop(std::move(epoll)));
}

Result<EventLoop::Id> EventLoop::add(int fd, uint32_t events, Handler handler) {
  const Id id = next_id_++;
  epoll_event event{.events = events, .data = {.u64 = id}};
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0)
    return Status(Code::kIo, std::string("epoll_ctl: ") + std::strerror(errno));
  registrations_[id] = {fd, std::make_shared<Handler>(std::move(handler))};
  return id;
}

void EventLoop::change(Id id, uint32_t events) {
  const auto it = registrations_.find(id);
  if (it == registrations_.end()) return;
  epoll_event event{.events = events, .data = {.u64 = id}};
  MANTA_CHECK(epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, it->second.fd, &event) == 0, errno);
}

void EventLoop::remove(Id id) {
  const auto it = registrations_.find(id);
  if (it == registrations_.end()) return;
  epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, it->second.fd, nullptr);
  registrations_.erase(it);
}

void EventLoop::run_once(int timeout_ms) {
  std::array<epoll_event, 64> ready{};
  const int count = epoll_wait(epoll_.get(), ready.data(), static_cast<int>(ready.size()), timeout_ms);
  for (int i = 0; i < count; ++i) {
    const auto it = registrations_.find(ready[static_cast<size_t>(i)].data.u64);
    if (it == registrations_.end()) continue;
    const std::shared_ptr<Handler> handler = it->second.handler;
    (*handler)(ready[static_cast<size_t>(i)].events);
  }
}

}  // namespace manta::raylet

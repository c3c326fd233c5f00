// A thread's epoll loop: calls a handler when its descriptor is ready. Used by one thread; handlers may add and remove
// descriptors, their own among them.
#pragma once

#include "common/fd.h"

#include <manta/status.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <unordered_map>

namespace manta::raylet {

class EventLoop {
 public:
  /// Called with the epoll events that are ready (EPOLLIN, ...).
  using Handler = std::function<void(uint32_t events)>;
  using Id = uint64_t;

  static Result<std::unique_ptr<EventLoop>> create();

  /// Watches `fd`, which stays the caller's and must outlive the registration.
  Result<Id> add(int fd, uint32_t events, Handler handler);
  void change(Id id, uint32_t events);
  /// No handler of this registration runs after this, not even for what is ready already.
  void remove(Id id);

  /// Waits until something is ready or the time is up (-1: without limit), and calls the handlers.
  void run_once(int timeout_ms);

 private:
  struct Registration {
    int fd = -1;
    std::shared_ptr<Handler> handler;  // shared, because a handler may remove itself while it runs
  };

  explicit EventLoop(Fd epoll) : epoll_(std::move(epoll)) {}

  Fd epoll_;
  std::unordered_map<Id, Registration> registrations_;
  Id next_id_ = 1;
};

}  // namespace manta::raylet

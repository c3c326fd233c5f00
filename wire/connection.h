// One end of a Unix stream socket that carries frames and descriptors, blocking or driven by an event loop.
//
// Sending never blocks the caller: bytes go out at once if the socket takes them, else into a bounded outbox that `flush`
// empties. An outbox past its bound (64 MiB) fails with kFull: the peer is too slow and the owner of the connection decides.
// Thread safety: `send` may be called by any thread (a lock inside); `receive`, `flush` and `close` belong to one thread.
#pragma once

#include "common/fd.h"
#include "wire/frame.h"

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace manta::wire {

/// A received frame. `body` decodes with decode<M>(); descriptors that nobody takes are closed with it.
struct Frame {
  Type type{};
  std::string body;
  std::vector<Fd> descriptors;
};

struct PeerCredentials {
  int pid = 0;
  unsigned uid = 0;
};

class Connection {
 public:
  static constexpr size_t kMaxOutboxBytes = size_t{64} << 20;

  /// Takes a connected stream socket and makes it non-blocking and close-on-exec.
  explicit Connection(Fd socket);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  /// A connected pair, for a child that inherits one end. Both ends are close-on-exec: the child's is dup'ed for it.
  static Result<std::pair<Fd, Fd>> make_pair();

  /// Descriptors in `fds` are duplicated by the kernel: the caller keeps its own. kUnavailable once the peer is gone.
  template <typename Message>
  Status send(const Message& message, const std::vector<int>& fds = {}) {
    return send_frame(Message::kType, encode(message), fds);
  }
  Status send_frame(Type type, std::string_view body, const std::vector<int>& fds = {});

  /// Reads what is there, 4 MiB a call at most (poll level-triggered). Appends whole frames to `frames`. kUnavailable at end
  /// of file or a broken peer (frames that came before are appended first); kInvalid on a malformed frame, after which the
  /// connection is unusable.
  Status receive(std::vector<Frame>& frames);

  /// Waits until a frame is there or the deadline passes (kTimeout).
  Result<Frame> receive_one(std::chrono::milliseconds timeout);

  /// Sends what the outbox holds; true when it is empty.
  Result<bool> flush();
  [[nodiscard]] bool wants_write() const;
  /// `blocked` is called by the sending thread, no lock held, when its frame had to wait in an empty outbox: an event loop
  /// must now poll for writing. Set it before other threads send.
  void on_blocked(std::function<void()> blocked);

  /// Waits until the outbox is empty or the deadline passes.
  Status drain(std::chrono::milliseconds timeout);

  [[nodiscard]] int fd() const;
  [[nodiscard]] Result<PeerCredentials> peer() const;
  void close();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace manta::wire

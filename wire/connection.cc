#include "wire/connection.h"

#include "common/check.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <deque>
#include <mutex>

namespace manta::wire {
namespace {

constexpr size_t kReadBytes = size_t{64} << 10;
constexpr size_t kMaxReceiveBytes = size_t{4} << 20;
constexpr size_t kJoinBytes = size_t{64} << 10;

Status gone(const char* how) { return Status(Code::kUnavailable, std::string("the peer is gone: ") + how); }
Status system_error(const char* call) { return Status(Code::kIo, std::string(call) + ": " + std::strerror(errno)); }

/// Bytes that wait to go out. The descriptors travel with the first byte.
struct Chunk {
  std::string bytes;
  std::vector<Fd> descriptors;
  size_t sent = 0;
};

int milliseconds_left(std::chrono::steady_clock::time_point deadline) {
  auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now()).count();
  return static_cast<int>(std::clamp<int64_t>(left, 0, 1 << 30));
}

/// How many of the bytes the socket took; 0 when it takes none now.
Result<size_t> send_some(int socket, iovec* parts, size_t count, const std::vector<int>& fds) {
  alignas(cmsghdr) char control[CMSG_SPACE(kMaxDescriptors * sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = parts;
  message.msg_iovlen = count;
  if (!fds.empty()) {
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(fds.size() * sizeof(int));
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
    std::memcpy(CMSG_DATA(header), fds.data(), fds.size() * sizeof(int));
  }
  while (true) {
    ssize_t sent = ::sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent >= 0) return static_cast<size_t>(sent);
    if (errno == EINTR) continue;
    // Too many descriptors in flight passes when the peer reads, like a full socket.
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS || errno == ETOOMANYREFS) return size_t{0};
    if (errno == EPIPE || errno == ECONNRESET || errno == ENOTCONN) return gone("it closed the connection");
    return system_error("sendmsg");
  }
}

}  // namespace

struct Connection::State {
  explicit State(Fd given) : socket(std::move(given)) {}

  Fd socket;

  std::mutex mutex;  // guards the sending half
  std::deque<Chunk> outbox;
  size_t outbox_bytes = 0;
  bool closed = false;
  std::function<void()> blocked;

  // The receiving half: one thread.
  std::string inbox;
  size_t inbox_used = 0;  // bytes of complete frames at the front
  std::deque<Fd> descriptors;
  std::deque<Frame> ready;
  Status broken;

  Status enqueue(std::string_view header, std::string_view body, size_t sent, const std::vector<int>& fds);
  Result<bool> flush();
  Status read_once(size_t& bytes_read, bool& would_block);
  Status split();
  Status fill();
};

Status Connection::State::enqueue(std::string_view header, std::string_view body, size_t sent, const std::vector<int>& fds) {
  Chunk chunk;
  if (sent == 0) {
    for (int fd : fds) {
      Fd copy(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
      if (!copy) return system_error("duplicating a descriptor");
      chunk.descriptors.push_back(std::move(copy));
    }
  }
  size_t size = header.size() + body.size() - sent;
  outbox_bytes += size;
  bool join = chunk.descriptors.empty() && !outbox.empty() && outbox.back().bytes.size() < kJoinBytes;
  if (!join) outbox.push_back(std::move(chunk));
  std::string& bytes = outbox.back().bytes;
  if (sent < header.size()) bytes += header.substr(sent);
  bytes += body.substr(sent > header.size() ? sent - header.size() : 0);
  return {};
}

Result<bool> Connection::State::flush() {
  while (!outbox.empty()) {
    Chunk& chunk = outbox.front();
    std::vector<int> fds;
    for (const Fd& fd : chunk.descriptors) fds.push_back(fd.get());
    while (chunk.sent < chunk.bytes.size()) {
      iovec part{chunk.bytes.data() + chunk.sent, chunk.bytes.size() - chunk.sent};
      MANTA_ASSIGN_OR_RETURN(size_t sent, send_some(socket.get(), &part, 1, fds));
      if (sent == 0) return false;
      chunk.sent += sent;
      outbox_bytes -= sent;
      fds.clear();
      chunk.descriptors.clear();
    }
    outbox.pop_front();
  }
  return true;
}

/// One recvmsg. The kernel ends a read after bytes that carry descriptors, so none arrive ahead of their frame.
Status Connection::State::read_once(size_t& bytes_read, bool& would_block) {
  if (inbox_used > 0) {
    inbox.erase(0, inbox_used);
    inbox_used = 0;
  }
  size_t had = inbox.size();
  size_t want = kReadBytes;
  if (had >= kFrameHeaderBytes) {  // a large frame: as much as came so far again, so that memory follows what really arrives
    FrameHeader header = read_header(inbox.data()).value();
    want = std::clamp(kFrameHeaderBytes + header.size_bytes - had, kReadBytes, std::max(kReadBytes, had));
  }
  // Most reads are short: they go through the stack, so that no room is zeroed for bytes that do not come.
  char small[kReadBytes];
  const bool is_small = want <= sizeof small;
  if (!is_small) inbox.resize(had + want);
  iovec part{is_small ? small : inbox.data() + had, want};
  alignas(cmsghdr) char control[CMSG_SPACE(kMaxDescriptors * sizeof(int))];
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  ssize_t got = 0;
  do {
    got = ::recvmsg(socket.get(), &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  } while (got < 0 && errno == EINTR);
  int error = errno;
  const auto came = static_cast<size_t>(std::max<ssize_t>(got, 0));
  is_small ? void(inbox.append(small, came)) : inbox.resize(had + came);
  if (got < 0) {
    would_block = error == EAGAIN || error == EWOULDBLOCK;
    if (would_block) return {};
    errno = error;
    return error == ECONNRESET ? gone("the connection was reset") : system_error("recvmsg");
  }
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof fd);
      descriptors.emplace_back(fd);
    }
  }
  if ((message.msg_flags & MSG_CTRUNC) != 0) {
    return detail::malformed("descriptors were cut off: more than 8 came, or this process has no free descriptor");
  }
  bytes_read = static_cast<size_t>(got);
  if (got == 0)
    return gone(inbox.empty() ? "it closed the connection" : "it closed the connection in the middle of a frame");
  return {};
}

/// Takes the whole frames off the inbox.
Status Connection::State::split() {
  while (true) {
    size_t left = inbox.size() - inbox_used;
    size_t declared = left == 0 ? 0 : kMaxDescriptors;
    if (left >= kFrameHeaderBytes) {
      MANTA_ASSIGN_OR_RETURN(FrameHeader header, read_header(inbox.data() + inbox_used));
      declared = header.descriptors;
      if (left >= kFrameHeaderBytes + header.size_bytes) {
        if (descriptors.size() < declared) return detail::malformed("it declares descriptors that did not come");
        Frame frame{header.type, inbox.substr(inbox_used + kFrameHeaderBytes, header.size_bytes), {}};
        for (size_t i = 0; i < declared; ++i) {
          frame.descriptors.push_back(std::move(descriptors.front()));
          descriptors.pop_front();
        }
        ready.push_back(std::move(frame));
        inbox_used += kFrameHeaderBytes + header.size_bytes;
        continue;
      }
    }
    // What is left belongs to the frame that has begun; more than it declares belongs to nothing.
    if (descriptors.size() > declared) return detail::malformed("descriptors came that no frame declares");
    return {};
  }
}

Status Connection::State::fill() {
  size_t total = 0;
  while (broken.ok() && total < kMaxReceiveBytes) {
    size_t bytes_read = 0;
    bool would_block = false;
    broken = read_once(bytes_read, would_block);
    if (would_block) break;
    if (broken.ok()) broken = split();
    total += bytes_read;
  }
  if (!broken.ok()) descriptors.clear();
  return broken;
}

Connection::Connection(Fd socket) : state_(std::make_unique<State>(std::move(socket))) {
  int fd = state_->socket.get();
  ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK);
  ::fcntl(fd, F_SETFD, FD_CLOEXEC);
}

Connection::~Connection() = default;

Result<std::pair<Fd, Fd>> Connection::make_pair() {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) return system_error("socketpair");
  return std::pair<Fd, Fd>(Fd(ends[0]), Fd(ends[1]));
}

Status Connection::send_frame(Type type, std::string_view body, const std::vector<int>& fds) {
  if (body.size() > kMaxFrameBytes)
    return Status(Code::kInvalid, "a message of " + std::to_string(body.size()) + " bytes exceeds 16 MiB");
  if (fds.size() > kMaxDescriptors) return Status(Code::kInvalid, "a message with more than 8 descriptors");
  std::array<char, kFrameHeaderBytes> header{};
  write_header(header.data(), {type, static_cast<uint16_t>(fds.size()), static_cast<uint32_t>(body.size())});
  size_t size = header.size() + body.size();

  std::function<void()> blocked;
  {
    std::lock_guard lock(state_->mutex);
    if (state_->closed) return gone("this end is closed");
    size_t sent = 0;
    bool was_empty = state_->outbox.empty();
    if (was_empty) {
      iovec parts[2] = {{header.data(), header.size()}, {const_cast<char*>(body.data()), body.size()}};
      MANTA_ASSIGN_OR_RETURN(sent, send_some(state_->socket.get(), parts, 2, fds));
      if (sent == size) return {};
    }
    if (state_->outbox_bytes + size - sent > kMaxOutboxBytes) {
      return Status(Code::kFull,
                    "the peer reads too slowly: " + std::to_string(state_->outbox_bytes) + " bytes wait for it");
    }
    MANTA_RETURN_IF_ERROR(state_->enqueue({header.data(), header.size()}, body, sent, fds));
    if (was_empty) blocked = state_->blocked;
  }
  if (blocked) blocked();
  return {};
}

Status Connection::receive(std::vector<Frame>& frames) {
  Status status = state_->fill();
  for (Frame& frame : state_->ready) frames.push_back(std::move(frame));
  state_->ready.clear();
  return status;
}

Result<Frame> Connection::receive_one(std::chrono::milliseconds timeout) {
  auto deadline = std::chrono::steady_clock::now() + timeout;
  while (true) {
    if (state_->ready.empty()) (void)state_->fill();
    if (!state_->ready.empty()) {
      Frame frame = std::move(state_->ready.front());
      state_->ready.pop_front();
      return frame;
    }
    if (!state_->broken.ok()) return state_->broken;
    if (std::chrono::steady_clock::now() >= deadline) {
      return Status(Code::kTimeout, "no message within " + std::to_string(timeout.count()) + " ms");
    }
    pollfd poll_for{fd(), static_cast<short>(POLLIN | (wants_write() ? POLLOUT : 0)), 0};
    ::poll(&poll_for, 1, milliseconds_left(deadline));
    if ((poll_for.revents & POLLOUT) != 0) (void)flush();  // a broken peer shows when reading
  }
}

Result<bool> Connection::flush() {
  std::lock_guard lock(state_->mutex);
  if (state_->closed) return gone("this end is closed");
  return state_->flush();
}

bool Connection::wants_write() const {
  std::lock_guard lock(state_->mutex);
  return !state_->outbox.empty();
}

void Connection::on_blocked(std::function<void()> blocked) {
  std::lock_guard lock(state_->mutex);
  state_->blocked = std::move(blocked);
}

Status Connection::drain(std::chrono::milliseconds timeout) {
  auto deadline = std::chrono::steady_clock::now() + timeout;
  while (true) {
    MANTA_ASSIGN_OR_RETURN(bool empty, flush());
    if (empty) return {};
    if (std::chrono::steady_clock::now() >= deadline) return Status(Code::kTimeout, "the peer does not read");
    pollfd poll_for{fd(), POLLOUT, 0};
    ::poll(&poll_for, 1, milliseconds_left(deadline));
  }
}

int Connection::fd() const { return state_->socket.get(); }

Result<PeerCredentials> Connection::peer() const {
  ucred credentials{};
  socklen_t size = sizeof credentials;
  if (::getsockopt(fd(), SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0) return system_error("SO_PEERCRED");
  return PeerCredentials{credentials.pid, credentials.uid};
}

void Connection::close() {
  std::lock_guard lock(state_->mutex);
  state_->closed = true;
  state_->outbox.clear();
  state_->outbox_bytes = 0;
  state_->broken = gone("this end is closed");
  state_->socket.reset();
}

}  // namespace manta::wire

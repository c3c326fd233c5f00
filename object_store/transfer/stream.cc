#include "object_store/transfer/stream.h"

#include "common/check.h"
#include "object_store/transfer/tls_bio.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace manta::object_store {
namespace {

constexpr int kBacklog = 128;

Status system_error(const std::string& what, int error) {
  const bool may_pass = error == ECONNREFUSED || error == ECONNRESET || error == EPIPE || error == EHOSTUNREACH ||
                        error == ENETUNREACH || error == ETIMEDOUT || error == ECONNABORTED;
  return Status(may_pass ? Code::kUnavailable : Code::kIo, what + ": " + std::strerror(error));
}

std::string tls_reason() {
  const unsigned long error = ::ERR_get_error();
  ::ERR_clear_error();
  const char* reason = error == 0 ? nullptr : ::ERR_reason_error_string(error);
  return reason == nullptr ? "the peer broke off" : reason;
}

struct FreeAddresses {
  void operator()(addrinfo* list) const { ::freeaddrinfo(list); }
};
using Addresses = std::unique_ptr<addrinfo, FreeAddresses>;

Result<Addresses> addresses_of(const Endpoint& endpoint, int flags) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags | AI_NUMERICSERV;
  addrinfo* list = nullptr;
  if (int error = ::getaddrinfo(endpoint.host.c_str(), endpoint.port.c_str(), &hints, &list); error != 0)
    return Status(Code::kUnavailable, endpoint.host + ":" + endpoint.port + ": " + ::gai_strerror(error));
  return Addresses(list);
}

}  // namespace

Result<Endpoint> parse_endpoint(const std::string& text) {
  const size_t colon = text.rfind(':');
  Endpoint endpoint;
  if (colon != std::string::npos) endpoint = {text.substr(0, colon), text.substr(colon + 1)};
  if (endpoint.host.size() > 2 && endpoint.host.front() == '[' && endpoint.host.back() == ']')
    endpoint.host = endpoint.host.substr(1, endpoint.host.size() - 2);
  const bool digits = !endpoint.port.empty() && endpoint.port.find_first_not_of("0123456789") == std::string::npos;
  if (endpoint.host.empty() || !digits || endpoint.port.size() > 5 || std::stoul(endpoint.port) > 65'535)
    return Status(Code::kInvalid, "\"" + text + "\" is no host:port");
  return endpoint;
}

// ---------------------------------------------------------------------------------------------------- sockets

Result<Fd> Stream::listen_on(const Endpoint& endpoint) {
  MANTA_ASSIGN_OR_RETURN(Addresses list, addresses_of(endpoint, AI_PASSIVE));
  const std::string what = "listening on " + endpoint.host + ":" + endpoint.port;
  Fd socket(::socket(list->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket) return system_error(what, errno);
  const int yes = 1;
  (void)::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  if (::bind(socket.get(), list->ai_addr, list->ai_addrlen) != 0 || ::listen(socket.get(), kBacklog) != 0)
    return Status(Code::kIo, what + ": " + std::strerror(errno));
  return socket;
}

Result<std::string> Stream::endpoint_of(const Fd& socket) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  if (::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&address), &size) != 0)
    return system_error("getsockname", errno);
  char host[NI_MAXHOST], port[NI_MAXSERV];
  if (int error = ::getnameinfo(reinterpret_cast<sockaddr*>(&address), size, host, sizeof host, port, sizeof port,
                                NI_NUMERICHOST | NI_NUMERICSERV);
      error != 0)
    return Status(Code::kIo, std::string("getnameinfo: ") + ::gai_strerror(error));
  std::string name;
  const bool in_brackets = address.ss_family == AF_INET6;
  name.append(in_brackets ? "[" : "").append(host).append(in_brackets ? "]:" : ":").append(port);
  return name;
}

bool Stream::is_loopback(const Fd& listener) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  if (::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &size) != 0) return false;
  if (address.ss_family == AF_INET) return (ntohl(reinterpret_cast<sockaddr_in*>(&address)->sin_addr.s_addr) >> 24) == 127;
  return address.ss_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&reinterpret_cast<sockaddr_in6*>(&address)->sin6_addr);
}

Result<std::unique_ptr<Stream>> Stream::connect(const Endpoint& endpoint, Time deadline) {
  MANTA_ASSIGN_OR_RETURN(Addresses list, addresses_of(endpoint, 0));
  const std::string what = "connecting to " + endpoint.host + ":" + endpoint.port;
  Status status;
  for (addrinfo* each = list.get(); each != nullptr; each = each->ai_next) {
    Fd socket(::socket(each->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!socket) return system_error(what, errno);
    int error = ::connect(socket.get(), each->ai_addr, each->ai_addrlen) == 0 ? 0 : errno;
    auto stream = std::make_unique<Stream>(std::move(socket));
    if (error == EINPROGRESS) {
      status = stream->wait_for(POLLOUT, deadline);
      socklen_t size = sizeof error;
      if (status.ok() && ::getsockopt(stream->fd(), SOL_SOCKET, SO_ERROR, &error, &size) != 0) error = errno;
      if (!status.ok()) continue;
    }
    if (error == 0) return stream;
    status = system_error(what, error);
  }
  return status.ok() ? Status(Code::kUnavailable, what + ": no address") : status.with_context(what);
}

Stream::Stream(Fd socket) : socket_(std::move(socket)) {
  const int yes = 1;
  (void)::setsockopt(socket_.get(), IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
}

Stream::~Stream() = default;
void Stream::FreeSsl::operator()(ssl_st* ssl) const { ::SSL_free(ssl); }
void Stream::interrupt() { (void)::shutdown(socket_.get(), SHUT_RDWR); }

Status Stream::wait_for(short events, Time deadline) {
  while (true) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::real().now()).count();
    if (left <= 0) return Status(Code::kTimeout, "the peer of a bulk connection was too slow");
    pollfd wait{socket_.get(), events, 0};
    const int ready = ::poll(&wait, 1, static_cast<int>(std::min<int64_t>(left, 60'000)));
    if (ready > 0) return {};
    if (ready < 0 && errno != EINTR) return system_error("poll", errno);
  }
}

// ---------------------------------------------------------------------------------------------------- TLS

Status Stream::start_tls(ssl_ctx_st* context, Side side, Time deadline) {
  bio_ = std::make_unique<TlsBio>(socket_.get());
  ssl_.reset(::SSL_new(context));
  BIO* bio = ssl_ ? bio_->make() : nullptr;
  if (bio == nullptr) return Status(Code::kIo, "TLS: " + tls_reason());
  ::SSL_set_bio(ssl_.get(), bio, bio);
  while (true) {
    ::ERR_clear_error();
    const int result = side == Side::kClient ? ::SSL_connect(ssl_.get()) : ::SSL_accept(ssl_.get());
    MANTA_RETURN_IF_ERROR(flush_tls(deadline));
    if (result == 1) break;
    MANTA_RETURN_IF_ERROR(after_tls(result, "the TLS handshake", deadline));
  }
  std::unique_ptr<X509, decltype(&::X509_free)> peer(::SSL_get1_peer_certificate(ssl_.get()), &::X509_free);
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  if (!peer || ::X509_digest(peer.get(), ::EVP_sha256(), digest, &size) != 1)
    return Status(Code::kUnavailable, "the TLS handshake: the peer showed no certificate");
  for (unsigned int i = 0; i < size; ++i) {
    constexpr char kDigits[] = "0123456789abcdef";
    peer_fingerprint_ += kDigits[digest[i] >> 4];
    peer_fingerprint_ += kDigits[digest[i] & 15];
  }
  return {};
}

Status Stream::flush_tls(Time deadline) {
  while (true) {
    const int error = bio_->flush();
    if (error == 0) return {};
    if (error != EAGAIN) return system_error("writing", error);
    MANTA_RETURN_IF_ERROR(wait_for(POLLOUT, deadline));
  }
}

Status Stream::after_tls(int result, const char* what, Time deadline) {
  switch (::SSL_get_error(ssl_.get(), result)) {
    case SSL_ERROR_WANT_READ: return wait_for(POLLIN, deadline);
    case SSL_ERROR_WANT_WRITE: return wait_for(POLLOUT, deadline);
    case SSL_ERROR_ZERO_RETURN: return Status(Code::kUnavailable, std::string(what) + ": the peer hung up");
    case SSL_ERROR_SYSCALL:
      if (errno != 0) return system_error(what, errno);
      [[fallthrough]];
    default: return Status(Code::kUnavailable, std::string(what) + ": " + tls_reason());
  }
}

// ---------------------------------------------------------------------------------------------------- bytes

Result<size_t> Stream::read_some(std::span<std::byte> bytes, Time deadline) {
  while (true) {
    if (ssl_) {
      ::ERR_clear_error();
      size_t got = 0;
      const int result = ::SSL_read_ex(ssl_.get(), bytes.data(), bytes.size(), &got);
      if (result == 1) return got;
      MANTA_RETURN_IF_ERROR(after_tls(result, "reading", deadline));
      continue;
    }
    const ssize_t got = ::recv(socket_.get(), bytes.data(), bytes.size(), 0);
    if (got > 0) return static_cast<size_t>(got);
    if (got == 0) return Status(Code::kUnavailable, "reading: the peer hung up");
    if (errno == EAGAIN) {
      MANTA_RETURN_IF_ERROR(wait_for(POLLIN, deadline));
    } else if (errno != EINTR) {
      return system_error("reading", errno);
    }
  }
}

Status Stream::read_all(std::span<std::byte> bytes, Time deadline) {
  while (!bytes.empty()) {
    MANTA_ASSIGN_OR_RETURN(const size_t got, read_some(bytes, deadline));
    bytes = bytes.subspan(got);
  }
  return {};
}

Status Stream::write_all(std::span<const std::byte> bytes, Time deadline) {
  while (!bytes.empty()) {
    if (ssl_) {
      ::ERR_clear_error();
      size_t put = 0;
      const int result = ::SSL_write_ex(ssl_.get(), bytes.data(), bytes.size(), &put);
      if (result != 1) {
        MANTA_RETURN_IF_ERROR(after_tls(result, "writing", deadline));
      } else {
        bytes = bytes.subspan(put);
      }
      continue;
    }
    const ssize_t put = ::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (put >= 0) {
      bytes = bytes.subspan(static_cast<size_t>(put));
    } else if (errno == EAGAIN) {
      MANTA_RETURN_IF_ERROR(wait_for(POLLOUT, deadline));
    } else if (errno != EINTR) {
      return system_error("writing", errno);
    }
  }
  return ssl_ ? flush_tls(deadline) : Status();
}

}  // namespace manta::object_store

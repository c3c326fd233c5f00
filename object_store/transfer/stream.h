// A connected byte stream between two nodes: TCP, in the clear or inside TLS. Whole reads and writes with a deadline.
//
// Thread safety: one thread reads and writes; `interrupt` may be called by any, and makes whatever waits fail.
#pragma once

#include "common/clock.h"
#include "common/fd.h"

#include <manta/status.h>

#include <cstddef>
#include <memory>
#include <span>
#include <string>

struct ssl_st;
struct ssl_ctx_st;

namespace manta::object_store {

class TlsBio;

/// host:port in its parts; kInvalid when it is not that. [::1]:80 is an IPv6 one.
struct Endpoint {
  std::string host;
  std::string port;
};
[[nodiscard]] Result<Endpoint> parse_endpoint(const std::string& text);

class Stream {
 public:
  enum class Side : uint8_t { kClient, kServer };

  /// A listening socket; kIo when the address cannot be had. Port 0 takes any: see endpoint_of.
  [[nodiscard]] static Result<Fd> listen_on(const Endpoint& endpoint);
  /// "host:port" of a bound socket.
  [[nodiscard]] static Result<std::string> endpoint_of(const Fd& socket);
  [[nodiscard]] static bool is_loopback(const Fd& listener);

  /// kUnavailable when nobody listens there, kTimeout at the deadline.
  [[nodiscard]] static Result<std::unique_ptr<Stream>> connect(const Endpoint& endpoint, Time deadline);
  /// Of an accepted socket.
  explicit Stream(Fd socket);
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  /// From here on everything is inside TLS. kUnavailable when the handshake fails, with OpenSSL's reason.
  [[nodiscard]] Status start_tls(ssl_ctx_st* context, Side side, Time deadline);
  /// SHA-256 of the peer's certificate, hex; empty without TLS.
  [[nodiscard]] const std::string& peer_fingerprint() const { return peer_fingerprint_; }
  /// What is read is what was written: TLS says so.
  [[nodiscard]] bool is_authenticated() const { return ssl_ != nullptr; }

  /// At least one byte, at most all; 0 never. kUnavailable when the peer hung up, kTimeout at the deadline.
  [[nodiscard]] Result<size_t> read_some(std::span<std::byte> bytes, Time deadline);
  [[nodiscard]] Status read_all(std::span<std::byte> bytes, Time deadline);
  [[nodiscard]] Status write_all(std::span<const std::byte> bytes, Time deadline);

  void interrupt();
  [[nodiscard]] int fd() const { return socket_.get(); }

 private:
  [[nodiscard]] Status wait_for(short events, Time deadline);
  /// What an SSL call that did not succeed wants: to be called again when ok.
  [[nodiscard]] Status after_tls(int result, const char* what, Time deadline);

  struct FreeSsl {
    void operator()(ssl_st* ssl) const;
  };
  [[nodiscard]] Status flush_tls(Time deadline);

  Fd socket_;
  std::unique_ptr<TlsBio> bio_;
  std::unique_ptr<ssl_st, FreeSsl> ssl_;  // uses bio_
  std::string peer_fingerprint_;
};

}  // namespace manta::object_store

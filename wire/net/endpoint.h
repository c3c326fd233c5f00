// tcp://HOST:PORT, taken apart and put together.
#pragma once

#include <manta/status.h>

#include <string>
#include <string_view>

namespace manta::wire {

struct Endpoint {
  std::string host;  ///< As written; an IPv6 address without its brackets.
  std::string port;  ///< A number, or * for any.
  bool is_ipv6 = false;

  [[nodiscard]] std::string text() const { return "tcp://" + (is_ipv6 ? "[" + host + "]" : host) + ":" + port; }
  /// An address of 127.0.0.0/8 or ::1; a name is none.
  [[nodiscard]] bool is_loopback() const;
};

/// kInvalid when `text` is none.
[[nodiscard]] Result<Endpoint> parse_endpoint(std::string_view text);

}  // namespace manta::wire

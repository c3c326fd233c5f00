#include "wire/net/endpoint.h"

#include <arpa/inet.h>

#include <algorithm>
#include <cstdint>

namespace manta::wire {
namespace {

constexpr std::string_view kScheme = "tcp://";
constexpr size_t kMaxHostCharacters = 253;

bool is_host_character(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '_';
}
bool is_ipv6_character(char c) { return is_host_character(c) || c == ':' || c == '%'; }

bool is_port(std::string_view text) {
  if (text == "*") return true;
  if (text.empty() || text.size() > 5 || !std::ranges::all_of(text, [](char c) { return c >= '0' && c <= '9'; }))
    return false;
  return std::stoi(std::string(text)) <= UINT16_MAX;
}

}  // namespace

bool Endpoint::is_loopback() const {
  if (is_ipv6) {
    in6_addr address{};
    return ::inet_pton(AF_INET6, host.c_str(), &address) == 1 && IN6_IS_ADDR_LOOPBACK(&address);
  }
  in_addr address{};
  return ::inet_pton(AF_INET, host.c_str(), &address) == 1 && ntohl(address.s_addr) >> 24 == 127;
}

Result<Endpoint> parse_endpoint(std::string_view text) {
  const Status wrong(Code::kInvalid, std::string(text.substr(0, 300)) + " is no endpoint: write tcp://HOST:PORT");
  if (!text.starts_with(kScheme)) return wrong;
  text.remove_prefix(kScheme.size());
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos || !is_port(text.substr(colon + 1))) return wrong;
  std::string_view host = text.substr(0, colon);
  Endpoint endpoint{.host = {}, .port = std::string(text.substr(colon + 1))};
  endpoint.is_ipv6 = host.size() > 2 && host.front() == '[' && host.back() == ']';
  if (endpoint.is_ipv6) host = host.substr(1, host.size() - 2);
  const bool is_any = host == "*";
  if (host.empty() || host.size() > kMaxHostCharacters) return wrong;
  if (!is_any && !std::ranges::all_of(host, endpoint.is_ipv6 ? is_ipv6_character : is_host_character)) return wrong;
  endpoint.host = host;
  return endpoint;
}

}  // namespace manta::wire

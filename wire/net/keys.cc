#include "wire/net/keys.h"

#include "common/check.h"
#include "common/fd.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <zmq.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <optional>

#include "wire/net/endpoint.h"

namespace manta::wire {
namespace {

constexpr std::string_view kTokenStart = "manta1.";
constexpr std::string_view kAlphabet =
    "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#";
constexpr size_t kMaxFileBytes = 4'096;
constexpr std::array kRoles{LinkRole::kNode, LinkRole::kDriver, LinkRole::kViewer, LinkRole::kJoin};

Status system_error(const std::string& path, const char* call) {
  const Code code = errno == ENOENT ? Code::kNotFound : errno == EEXIST ? Code::kExists : Code::kIo;
  return {code, path + ": " + call + ": " + std::strerror(errno)};
}

Status no_token(const std::string& why) { return {Code::kInvalid, "this is no join token: " + why}; }

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n";
  const size_t begin = text.find_first_not_of(kSpace);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kSpace) - begin + 1);
}

/// It is there whole or not at all, whoever looks; kExists when it, or another, was there first.
Status write_secret(const std::string& path, std::string_view text) {
  std::string part = path + ".XXXXXX";
  const Fd file(::mkostemp(part.data(), O_CLOEXEC));  // 0600, and nobody else's
  if (!file) return system_error(path, "open");
  Status status;
  if (::write(file.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()) || ::fsync(file.get()) != 0)
    status = system_error(path, "write");
  if (status.ok() && ::link(part.c_str(), path.c_str()) != 0) status = system_error(path, "link");
  ::unlink(part.c_str());
  return status;
}

Result<std::string> read_secret(const std::string& path) {
  const Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) return system_error(path, "open");
  struct stat about {};
  if (::fstat(file.get(), &about) != 0) return system_error(path, "stat");
  if (!S_ISREG(about.st_mode) || (about.st_mode & 077) != 0 || about.st_uid != ::geteuid())
    return Status(Code::kInvalid, path + " holds a secret and must be a file that only its owner may read: chmod 600 it");
  std::string text(kMaxFileBytes, '\0');
  const ssize_t size = ::read(file.get(), text.data(), text.size());
  if (size < 0) return system_error(path, "read");
  text.resize(static_cast<size_t>(size));
  return text;
}

/// Takes the key and the point before it off the end.
std::optional<std::string> take_key(std::string_view& text) {
  if (text.size() <= kKeyCharacters || text[text.size() - kKeyCharacters - 1] != '.') return std::nullopt;
  std::string key(text.substr(text.size() - kKeyCharacters));
  if (!is_key(key)) return std::nullopt;
  text.remove_suffix(kKeyCharacters + 1);
  return key;
}

}  // namespace

std::string_view role_name(LinkRole role) {
  switch (role) {
    case LinkRole::kNode: return "node";
    case LinkRole::kDriver: return "driver";
    case LinkRole::kViewer: return "viewer";
    case LinkRole::kJoin: return "join";
  }
  return "?";
}

bool is_key(std::string_view text) {
  return text.size() == kKeyCharacters &&
         std::ranges::all_of(text, [](char c) { return kAlphabet.find(c) != std::string_view::npos; });
}

Status check_keys(const LinkKeys& keys) {
  if (keys.public_key.empty() && keys.secret_key.empty()) return {};
  if (!is_key(keys.public_key) || !is_key(keys.secret_key)) return {Code::kInvalid, "a key is 40 characters of z85"};
  std::array<char, kKeyCharacters + 1> derived{};
  if (zmq_curve_public(derived.data(), keys.secret_key.c_str()) != 0 || keys.public_key != derived.data())
    return {Code::kInvalid, "the public and the secret key do not belong together"};
  return {};
}

Result<LinkKeys> make_keys() {
  std::array<char, kKeyCharacters + 1> public_key{};
  std::array<char, kKeyCharacters + 1> secret_key{};
  if (zmq_curve_keypair(public_key.data(), secret_key.data()) != 0)
    return Status(Code::kInternal, "this ZeroMQ was built without CURVE");
  return LinkKeys{public_key.data(), secret_key.data()};
}

Status save_keys(const std::string& path, const LinkKeys& keys) {
  return write_secret(path, keys.public_key + "\n" + keys.secret_key + "\n");
}

Result<LinkKeys> load_keys(const std::string& path) {
  MANTA_ASSIGN_OR_RETURN(const std::string text, read_secret(path));
  const std::string_view both = trimmed(text);
  const size_t end = both.find('\n');
  if (end == std::string_view::npos) return Status(Code::kInvalid, path + " holds no key pair");
  LinkKeys keys{std::string(both.substr(0, end)), std::string(both.substr(end + 1))};
  if (const Status status = check_keys(keys); !status.ok()) return status.with_context(path);
  return keys;
}

std::string token_text(const JoinToken& token) {
  return std::string(kTokenStart) + std::string(role_name(token.role)) + "." + token.head_endpoint + "." +
         token.head_public_key + "." + token.keys.public_key + "." + token.keys.secret_key;
}

Result<JoinToken> parse_token(std::string_view text) {
  text = trimmed(text);
  if (text.size() > kMaxFileBytes) return no_token("it is too long");
  if (!text.starts_with(kTokenStart)) return no_token("it does not begin with manta1.");
  text.remove_prefix(kTokenStart.size());
  const size_t point = text.find('.');
  const auto role = std::ranges::find_if(kRoles, [&](LinkRole one) { return role_name(one) == text.substr(0, point); });
  if (point == std::string_view::npos || role == kRoles.end()) return no_token("its role is none");
  text.remove_prefix(point + 1);
  const auto secret_key = take_key(text);
  const auto public_key = secret_key ? take_key(text) : std::nullopt;
  const auto head_key = public_key ? take_key(text) : std::nullopt;
  if (!head_key) return no_token("it does not end in three keys");
  JoinToken token{*role, std::string(text), *head_key, {*public_key, *secret_key}};
  if (const Status status = parse_endpoint(text).status(); !status.ok()) return no_token(status.message());
  if (const Status status = check_keys(token.keys); !status.ok()) return no_token(status.message());
  return token;
}

Status save_token(const std::string& path, const JoinToken& token) { return write_secret(path, token_text(token) + "\n"); }

Result<JoinToken> load_token(const std::string& path) {
  MANTA_ASSIGN_OR_RETURN(const std::string text, read_secret(path));
  Result<JoinToken> token = parse_token(text);
  return token.ok() ? token : Result<JoinToken>(token.status().with_context(path));
}

}  // namespace manta::wire

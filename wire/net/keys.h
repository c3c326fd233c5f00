// The keys of a cluster: CURVE pairs in files that only their owner reads, and join tokens.
//
// A join token is what a node, driver or viewer needs in order to come in: where the head is, by which key it knows the
// head, and a key pair that the head knows. As text, in a file:
//
//   manta1.<role>.<head endpoint>.<head public key>.<token public key>.<token secret key>
//
// Keys are z85: 40 characters, which may hold a point, so the fields are read from both ends by their length.
// Thread safety: values and plain functions.
#pragma once

#include <manta/status.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace manta::wire {

inline constexpr size_t kKeyCharacters = 40;

/// What whoever holds a key may do.
enum class LinkRole : uint8_t { kNode = 0, kDriver = 1, kViewer = 2, kJoin = 3 };
/// "node", "driver", "viewer", "join".
[[nodiscard]] std::string_view role_name(LinkRole role);

/// A CURVE key pair, z85. Both empty: no keys.
struct LinkKeys {
  std::string public_key;
  std::string secret_key;
  [[nodiscard]] bool are_given() const { return !public_key.empty(); }
};

/// Whether this is 40 characters of z85.
[[nodiscard]] bool is_key(std::string_view text);
/// Both are keys and belong together, or both are empty: else kInvalid (the message holds no key).
[[nodiscard]] Status check_keys(const LinkKeys& keys);

[[nodiscard]] Result<LinkKeys> make_keys();
/// Writes the pair to a new file that only this user may read; kExists when there is one.
[[nodiscard]] Status save_keys(const std::string& path, const LinkKeys& keys);
/// kInvalid when others may read the file or it holds no key pair; kNotFound when there is none.
[[nodiscard]] Result<LinkKeys> load_keys(const std::string& path);

struct JoinToken {
  LinkRole role = LinkRole::kJoin;
  std::string head_endpoint;  ///< tcp://HOST:PORT
  std::string head_public_key;
  LinkKeys keys;
};
[[nodiscard]] std::string token_text(const JoinToken& token);
/// kInvalid when `text` is no token, with what is wrong and no key in the message. White space around it is passed over.
[[nodiscard]] Result<JoinToken> parse_token(std::string_view text);
[[nodiscard]] Status save_token(const std::string& path, const JoinToken& token);
[[nodiscard]] Result<JoinToken> load_token(const std::string& path);

}  // namespace manta::wire

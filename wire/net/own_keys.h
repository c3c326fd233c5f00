// The keys folder of who comes into a cluster, as files: a node that joins, a driver's machine, a visitor.
//
//   <keys>/node.keys       its own pair, made at first
//   <keys>/node.keys.next  the pair that takes its place when a mantad is started (`manta keys rotate`)
//   <keys>/node.keys.old   the pair before
//   <keys>/head            the head's public key once it was let in, and in a second line the one that the head will have
//
// Thread safety: plain functions.
#pragma once

#include "wire/net/keys.h"
#include "wire/net/node_link.h"

#include <string>
#include <vector>

namespace manta::wire {

inline constexpr const char* kOwnKeys = "node.keys";
inline constexpr const char* kNextKeys = "node.keys.next";

/// The pair in <keys_dir>/node.keys, made when there is none; no keys for an empty folder name.
[[nodiscard]] Result<LinkKeys> own_keys(const std::string& keys_dir, bool may_make);
/// Makes the pair that comes next; the same again when there is one.
[[nodiscard]] Result<LinkKeys> next_keys(const std::string& keys_dir);
/// The next pair, if there is one, takes the place of the present one.
Status take_next_keys(const std::string& keys_dir);

/// How to reach the head: by the token, if there is one; else by what the last token said: the key that it had, and perhaps
/// another that it has by now. Never empty. kNotFound: there is neither.
[[nodiscard]] Result<std::vector<LinkPeer>> find_head(const std::string& address, const std::string& keys_dir,
                                                      const std::string& token_file);
/// It was let in by the head of this key: from now on it needs no token.
Status remember_head(const std::string& keys_dir, const std::string& head_public_key);
/// The head will have another key; empty: it will not.
Status remember_next_head(const std::string& keys_dir, const std::string& next_public_key);

}  // namespace manta::wire

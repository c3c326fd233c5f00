#include "wire/net/own_keys.h"

#include "common/check.h"

#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>

namespace manta::wire {
namespace {

namespace fs = std::filesystem;

/// Of the head: the present one, and perhaps the next.
std::vector<std::string> known_heads(const std::string& keys_dir) {
  constexpr size_t kMost = 2;
  std::vector<std::string> keys;
  std::ifstream file(keys_dir + "/head");
  for (std::string key; keys.size() < kMost && file >> key && is_key(key);) keys.push_back(key);
  return keys;
}

/// Whole or not at all.
Status write_heads(const std::string& keys_dir, const std::vector<std::string>& keys) {
  const std::string path = keys_dir + "/head";
  const std::string part = path + ".part-" + std::to_string(::getpid());
  std::ofstream file(part);
  for (const std::string& key : keys) file << key << "\n";
  file.close();
  if (!file || std::rename(part.c_str(), path.c_str()) != 0)
    return Status(Code::kIo, "cannot write " + path + ": " + std::strerror(errno));
  return {};
}

/// The pair in that file; made when there is none and `may_make`.
Result<LinkKeys> keys_in(const std::string& path, bool may_make) {
  Result<LinkKeys> keys = load_keys(path);
  if (keys.ok() || keys.status().code() != Code::kNotFound || !may_make) return keys;
  MANTA_ASSIGN_OR_RETURN(LinkKeys made, make_keys());
  const Status saved = save_keys(path, made);
  if (saved.code() == Code::kExists) return load_keys(path);  // another process of this user was first
  MANTA_RETURN_IF_ERROR(saved);
  return made;
}

}  // namespace

Result<LinkKeys> own_keys(const std::string& keys_dir, bool may_make) {
  if (keys_dir.empty()) return LinkKeys{};
  std::error_code error;
  if (may_make) fs::create_directories(keys_dir, error);
  const std::string path = keys_dir + "/" + kOwnKeys;
  Result<LinkKeys> keys = keys_in(path, may_make);
  if (keys.status().code() != Code::kNotFound) return keys;
  return Status(Code::kNotFound,
                "there is no " + path + "; make the head's keys with: manta keys create --keys " + keys_dir);
}

Result<LinkKeys> next_keys(const std::string& keys_dir) { return keys_in(keys_dir + "/" + kNextKeys, true); }

Status take_next_keys(const std::string& keys_dir) {
  const fs::path folder(keys_dir);
  std::error_code error;
  if (keys_dir.empty() || !fs::exists(folder / kNextKeys, error)) return {};
  MANTA_RETURN_IF_ERROR(load_keys((folder / kNextKeys).string()).status());
  fs::rename(folder / kOwnKeys, folder / (std::string(kOwnKeys) + ".old"), error);
  if (!error || error == std::errc::no_such_file_or_directory) fs::rename(folder / kNextKeys, folder / kOwnKeys, error);
  return error ? Status(Code::kIo, "taking the next keys in " + keys_dir + ": " + error.message()) : Status();
}

Result<std::vector<LinkPeer>> find_head(const std::string& address, const std::string& keys_dir,
                                        const std::string& token_file) {
  LinkPeer head{.number = kHeadNode, .endpoint = address, .public_key = {}};
  if (keys_dir.empty()) return std::vector{head};
  if (!token_file.empty()) {
    MANTA_ASSIGN_OR_RETURN(const JoinToken token, load_token(token_file));
    head.public_key = token.head_public_key;
    head.as = token.keys;
    return std::vector{head};
  }
  std::vector<LinkPeer> heads;
  for (const std::string& key : known_heads(keys_dir)) {
    heads.push_back(head);
    heads.back().public_key = key;
  }
  if (heads.empty())
    return Status(Code::kNotFound, "this machine has not joined a cluster with the keys in " + keys_dir +
                                       " before; give it a token: --join-token FILE (manta token create)");
  return heads;
}

Status remember_head(const std::string& keys_dir, const std::string& head_public_key) {
  const std::vector<std::string> known = known_heads(keys_dir);
  if (!known.empty() && known.front() == head_public_key) return {};
  return write_heads(keys_dir, {head_public_key});
}

Status remember_next_head(const std::string& keys_dir, const std::string& next_public_key) {
  const std::vector<std::string> known = known_heads(keys_dir);
  if (known.empty() || next_public_key.empty() || !is_key(next_public_key) || next_public_key == known.front()) return {};
  return write_heads(keys_dir, {known.front(), next_public_key});
}

}  // namespace manta::wire

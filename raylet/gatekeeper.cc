#include "raylet/gatekeeper.h"

#include "common/check.h"
#include "common/log.h"
#include "wire/net/own_keys.h"

#include <sys/inotify.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace manta::raylet {

using wire::LinkRole;

namespace {
constexpr size_t kMaxUsed = 10'000;
}

Result<wire::KeyRecords> Gatekeeper::read(const std::string& which) const {
  return wire::read_records(folder_ / which, [](const Status& why) {
    MANTA_LOG(kWarn, "raylet", "a key record is passed over", {"why", why});
  });
}

Result<Gatekeeper> Gatekeeper::open(const std::string& keys_folder, wire::NodeLink& link) {
  Gatekeeper keeper(keys_folder, link);
  keeper.changes_ = Fd(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  MANTA_RETURN_IF_ERROR(keeper.refresh(0));
  for (const char* which : {"tokens", "allowed"})
    if (::inotify_add_watch(keeper.changes_.get(), (keeper.folder_ / which).c_str(),
                            IN_MOVED_TO | IN_DELETE | IN_MOVED_FROM) < 0)
      return Status(Code::kIo, "watching " + (keeper.folder_ / which).string() + ": " + std::strerror(errno));
  return keeper;
}

Status Gatekeeper::refresh(int64_t now_s) {
  char events[4096];
  while (::read(changes_.get(), events, sizeof events) > 0) {
  }
  MANTA_ASSIGN_OR_RETURN(wire::KeyRecords tokens, read("tokens"));
  MANTA_ASSIGN_OR_RETURN(wire::KeyRecords allowed, read("allowed"));
  for (wire::KeyRecords* records : {&tokens, &allowed})
    std::erase_if(*records,
                  [&](const auto& entry) { return entry.second.expires_s != 0 && entry.second.expires_s < now_s; });
  for (const auto& [key, record] : tokens_)
    if (!tokens.contains(key)) link_->revoke(key);
  for (const auto& [key, record] : allowed_)
    if (!allowed.contains(key)) link_->revoke(key);
  for (const auto& [key, record] : tokens)
    if (!tokens_.contains(key)) link_->allow(key, LinkRole::kJoin);
  for (const auto& [key, record] : allowed)
    if (!allowed_.contains(key)) link_->allow(key, record.role);
  tokens_ = std::move(tokens);
  allowed_ = std::move(allowed);
  return {};
}

Result<std::string> Gatekeeper::make_token(LinkRole role, const std::string& head_endpoint,
                                           const std::string& head_public_key, int64_t expires_s) {
  MANTA_ASSIGN_OR_RETURN(wire::LinkKeys keys, wire::make_keys());
  const wire::KeyRecord record{.role = role, .public_key = keys.public_key, .name = {}, .expires_s = expires_s};
  MANTA_RETURN_IF_ERROR(wire::write_record(folder_ / "tokens", record));
  link_->allow(record.public_key, LinkRole::kJoin);
  tokens_.insert_or_assign(record.public_key, record);
  return wire::token_text({role, head_endpoint, head_public_key, std::move(keys)});
}

void Gatekeeper::forget(const std::string& public_key) {
  (void)wire::remove_record(folder_ / "allowed", wire::key_id(public_key));  // it may have been revoked before
  allowed_.erase(public_key);
  link_->revoke(public_key);
}

Status Gatekeeper::admit(const wire::LinkEvent& event, const wire::NodeInfo& info, int64_t now_s) {
  const LinkRole wanted = info.is_driver ? LinkRole::kDriver : LinkRole::kNode;
  if (!wire::is_key(info.public_key)) return Status(Code::kInvalid, "it brings no key of its own");
  if (const auto known = allowed_.find(event.from_key); known != allowed_.end()) {
    if (known->second.role != wanted || info.public_key != event.from_key)
      return Status(Code::kInvalid, "its key is one of a " + std::string(wire::role_name(known->second.role)));
    return {};
  }
  return let_in(event.from_key, wanted, info.public_key, info.name, now_s);
}

Status Gatekeeper::enroll(const std::string& token, const wire::Enroll& wish, int64_t now_s) {
  if (!wire::is_key(wish.public_key)) return Status(Code::kInvalid, "it brings no key of its own");
  return let_in(token, std::nullopt, wish.public_key, wish.name, now_s);
}

Status Gatekeeper::rotate(const std::string& old_key, const wire::RotateKey& wish, int64_t now_s) {
  constexpr int64_t kMostOverlapS = int64_t{30} * 24 * 3600;
  if (!wire::is_key(wish.public_key)) return Status(Code::kInvalid, "it brings no new key");
  const auto old = allowed_.find(old_key);
  if (old == allowed_.end()) return Status(Code::kInvalid, "the key that it comes by is not in the list of keys");
  const auto known = allowed_.find(wish.public_key);
  const bool is_again = known != allowed_.end() && old->second.expires_s != 0 && known->second.role == old->second.role;
  if (is_again) return {};
  if (known != allowed_.end() || wish.public_key == old_key)
    return Status(Code::kExists, "the new key is one that is let in already");
  wire::KeyRecord fresh = old->second;
  fresh.public_key = wish.public_key;
  fresh.expires_s = 0;
  wire::KeyRecord ending = old->second;
  ending.expires_s = now_s + std::clamp<int64_t>(wish.overlap_s, 1, kMostOverlapS);
  MANTA_RETURN_IF_ERROR(wire::write_record(folder_ / "allowed", fresh));
  MANTA_RETURN_IF_ERROR(wire::write_record(folder_ / "allowed", ending));
  link_->allow(fresh.public_key, fresh.role);
  old->second = std::move(ending);
  allowed_.insert_or_assign(fresh.public_key, std::move(fresh));
  return {};
}

std::string Gatekeeper::next_head_key() const {
  const Result<wire::LinkKeys> next = wire::load_keys((folder_ / wire::kNextKeys).string());
  return next.ok() ? next->public_key : "";
}

Status Gatekeeper::let_in(const std::string& token, std::optional<LinkRole> role, const std::string& key,
                          const std::string& name, int64_t now_s) {
  if (const auto used = used_.find(token); used != used_.end() && used->second == key) return {};
  const auto found = tokens_.find(token);
  if (found == tokens_.end() || (found->second.expires_s != 0 && found->second.expires_s < now_s))
    return Status(Code::kInvalid, "its join token was used, revoked or has expired");
  if (role && found->second.role != *role)
    return Status(Code::kInvalid, "its join token is for a " + std::string(wire::role_name(found->second.role)));
  if (allowed_.contains(key)) return Status(Code::kExists, "its key was let in before, by another token");
  const wire::KeyRecord record{.role = found->second.role, .public_key = key, .name = name, .expires_s = 0};
  MANTA_RETURN_IF_ERROR(wire::write_record(folder_ / "allowed", record));
  (void)wire::remove_record(folder_ / "tokens", wire::key_id(token));  // it may have been revoked just now
  link_->allow(key, record.role);
  allowed_.insert_or_assign(key, record);
  if (used_.size() >= kMaxUsed) used_.clear();
  used_[token] = key;
  link_->revoke(token);
  tokens_.erase(found);
  return {};
}

}  // namespace manta::raylet

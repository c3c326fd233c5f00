// Who may speak to a NodeLink: the keys on its list, and those that lost the right for a while.
// Thread safety: everything. Cost: a lock and a look into a table a batch.
#pragma once

#include "common/clock.h"
#include "wire/net/keys.h"

#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

namespace manta::wire {

class Access {
 public:
  static constexpr Duration kBan = std::chrono::seconds(10);

  /// Without keys everybody is a node.
  explicit Access(bool has_keys) : has_keys_(has_keys) {}

  void allow(const std::string& key, LinkRole role) {
    std::lock_guard lock(mutex_);
    roles_[key] = role;
  }
  void revoke(const std::string& key) {
    std::lock_guard lock(mutex_);
    roles_.erase(key);
  }
  /// Nothing for a key that is not on the list.
  [[nodiscard]] std::optional<LinkRole> role_of(const std::string& key) {
    if (!has_keys_) return LinkRole::kNode;
    std::lock_guard lock(mutex_);
    const auto found = roles_.find(key);
    return found == roles_.end() ? std::nullopt : std::optional(found->second);
  }

  /// `who` is a key or, without keys, a connection's name.
  void ban(const std::string& who, Time now) {
    std::lock_guard lock(mutex_);
    std::erase_if(bans_, [&](const auto& ban) { return ban.second <= now; });
    // Whoever can fill it has a key that was given out: the one that is forgotten is found out again by its next batch.
    if (bans_.size() >= kMaxBans) bans_.erase(bans_.begin());
    bans_[who] = now + kBan;
  }
  [[nodiscard]] bool is_banned(const std::string& who, Time now) {
    std::lock_guard lock(mutex_);
    if (bans_.empty()) return false;
    const auto found = bans_.find(who);
    return found != bans_.end() && found->second > now;
  }

 private:
  static constexpr size_t kMaxBans = 1024;

  const bool has_keys_;
  std::mutex mutex_;
  std::map<std::string, LinkRole> roles_;
  std::map<std::string, Time> bans_;
};

}  // namespace manta::wire

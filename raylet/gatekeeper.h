// Who may come into the cluster, on the head's node: reads the keys folder (wire/net/key_records.h) and tells the link.
//
//   token made --> may say Join, nothing else --Join with a key of its own--> that key is allowed, the token gone
//
// Thread safety: none; the raylet's loop.
#pragma once

#include "common/fd.h"
#include "wire/net/key_records.h"
#include "wire/net/node_link.h"
#include "wire/visitor_messages.h"

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>

namespace manta::raylet {

class Gatekeeper {
 public:
  /// Reads the folder (made when it is not there) and tells `link` whom to let in.
  static Result<Gatekeeper> open(const std::string& keys_folder, wire::NodeLink& link);

  /// Readable when something in the folder has changed: then `refresh`.
  [[nodiscard]] int wake_fd() const { return changes_.get(); }
  /// Looks at the folder again. What is not in it any more, or has expired, is refused from now on.
  Status refresh(int64_t now_s);

  /// A token that is good once until then, as text (wire/net/keys.h).
  Result<std::string> make_token(wire::LinkRole role, const std::string& head_endpoint, const std::string& head_public_key,
                                 int64_t expires_s);
  /// This key is let in no more.
  void forget(const std::string& public_key);

  /// Somebody says Join with the key it came with. kInvalid when it may not: a used or expired token, another role than the
  /// token's, a key that is none. OK: its own key is allowed now, and written down; or it was before, and says so again.
  Status admit(const wire::LinkEvent& event, const wire::NodeInfo& info, int64_t now_s);
  /// The bearer of this token brings its own key: it is let in with the token's role, whichever that is.
  Status enroll(const std::string& token, const wire::Enroll& wish, int64_t now_s);
  /// Another key takes the place of this one, which is let in for a while yet. Asked again it says OK again.
  Status rotate(const std::string& old_key, const wire::RotateKey& wish, int64_t now_s);
  /// The key that the head will have when it is started again; empty: the same.
  [[nodiscard]] std::string next_head_key() const;

 private:
  Gatekeeper(std::filesystem::path folder, wire::NodeLink& link) : folder_(std::move(folder)), link_(&link) {}
  /// By the token that it came with. None: any role.
  Status let_in(const std::string& token, std::optional<wire::LinkRole> role, const std::string& key,
                const std::string& name, int64_t now_s);
  [[nodiscard]] Result<wire::KeyRecords> read(const std::string& which) const;

  std::filesystem::path folder_;
  wire::NodeLink* link_;
  wire::KeyRecords tokens_;
  wire::KeyRecords allowed_;
  std::map<std::string, std::string> used_;  // token to the key that came in by it, for those who ask again
  Fd changes_;
};

}  // namespace manta::raylet

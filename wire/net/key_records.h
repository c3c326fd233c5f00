// The keys folder of a head, as files: who may come into its cluster. Whoever may write there decides, and nobody over the
// network.
//
//   <keys>/node.keys            this node's own pair
//   <keys>/tokens/<id>          a join token that was given out: role, public key, expiry; gone once it is used
//   <keys>/allowed/<id>         a key that came in by one, or was put there: role, public key, name
//
// An id is the first 16 hex digits of the SHA-256 of the public key. Used by the head's mantad (raylet/gatekeeper.h) and by
// `manta token`, `manta keys`.
// Thread safety: plain functions; two processes that write at once each leave whole files.
#pragma once

#include "wire/net/keys.h"

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <string_view>

namespace manta::wire {

struct KeyRecord {
  LinkRole role{};
  std::string public_key;
  std::string name;       ///< For people: who came in by it.
  int64_t expires_s = 0;  ///< Since 1970; 0: never. Of a token.
};
using KeyRecords = std::map<std::string, KeyRecord>;  ///< By public key.

[[nodiscard]] std::string key_id(const std::string& public_key);
/// kNotFound for a name that is none: "node", "driver", "viewer".
[[nodiscard]] Result<LinkRole> role_of(const std::string& name);

/// What stands in the file. Of the name, whatever its bytes are, the first 256, and what is no UTF-8 replaced.
[[nodiscard]] std::string record_text(const KeyRecord& record);
/// kInvalid when `text`, of any origin, is no record.
[[nodiscard]] Result<KeyRecord> parse_record(std::string_view text);

/// Makes the file whole or not at all (0600, in a folder that is 0700), and durable.
Status write_record(const std::filesystem::path& folder, const KeyRecord& record);
/// kNotFound when there is none of that id.
Status remove_record(const std::filesystem::path& folder, const std::string& id);
/// All that are whole; `skipped` is told why another was passed over. The folder is made when it is not there.
Result<KeyRecords> read_records(const std::filesystem::path& folder, const std::function<void(const Status&)>& skipped);

}  // namespace manta::wire

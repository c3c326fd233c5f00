// A node's TLS identity: a self-signed certificate with a P-256 key, made when the node first starts and kept, so that its
// fingerprint stays the same. What others know of it is the fingerprint alone (see Peers).
//
// Thread safety: values; `load_or_make` may be called by two processes at once, and both get the same one.
#pragma once

#include <manta/status.h>

#include <string>

namespace manta::object_store {

struct Identity {
  std::string certificate;  ///< PEM.
  std::string key;          ///< PEM, unencrypted: for this node only.
  std::string fingerprint;  ///< SHA-256 of the certificate, hex: for everybody.

  /// A new one, of no file. Costs about a millisecond.
  [[nodiscard]] static Result<Identity> make();

  /// What `path` holds; when there is no such file, a new one is written there with mode 0600. kInvalid when the file holds
  /// something else, or others may read it; kIo when it cannot be read or written.
  [[nodiscard]] static Result<Identity> load_or_make(const std::string& path);
};

}  // namespace manta::object_store

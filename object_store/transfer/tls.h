// What both ends of a bulk connection need for TLS 1.3: a certificate of this node's own, shown by each side and known to
// the other by its fingerprint. No authority signs anything; who is allowed is in Peers.
//
// Thread safety: constant after creation.
#pragma once

#include <manta/status.h>

#include <memory>
#include <string>

struct ssl_ctx_st;

namespace manta::object_store {

class TlsContext {
 public:
  /// `certificate` and `key` are PEM. kInvalid when they are no pair.
  [[nodiscard]] static Result<std::unique_ptr<TlsContext>> create(const std::string& certificate, const std::string& key);

  [[nodiscard]] ssl_ctx_st* client() const { return client_.get(); }
  [[nodiscard]] ssl_ctx_st* server() const { return server_.get(); }

 private:
  struct FreeContext {
    void operator()(ssl_ctx_st* context) const;
  };
  using Context = std::unique_ptr<ssl_ctx_st, FreeContext>;
  [[nodiscard]] static Result<Context> make(bool is_server, const std::string& certificate, const std::string& key);

  Context client_, server_;
};

}  // namespace manta::object_store

#include "object_store/transfer/tls.h"

#include "common/check.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>

namespace manta::object_store {
namespace {

Status failed(const char* what) {
  const unsigned long error = ::ERR_get_error();
  ::ERR_clear_error();
  const char* reason = error == 0 ? nullptr : ::ERR_reason_error_string(error);
  return Status(Code::kInvalid, std::string("TLS: ") + what + (reason == nullptr ? "" : std::string(": ") + reason));
}

using Bio = std::unique_ptr<BIO, decltype(&::BIO_free)>;
Bio reading(const std::string& text) { return {::BIO_new_mem_buf(text.data(), static_cast<int>(text.size())), &::BIO_free}; }

/// Every certificate is let through the handshake, because none is signed by anybody: the fingerprint decides after it.
int accept_any(int, X509_STORE_CTX*) { return 1; }

}  // namespace

void TlsContext::FreeContext::operator()(ssl_ctx_st* context) const { ::SSL_CTX_free(context); }

Result<std::unique_ptr<TlsContext>> TlsContext::create(const std::string& certificate, const std::string& key) {
  auto context = std::make_unique<TlsContext>();
  MANTA_ASSIGN_OR_RETURN(context->client_, make(false, certificate, key));
  MANTA_ASSIGN_OR_RETURN(context->server_, make(true, certificate, key));
  return context;
}

Result<TlsContext::Context> TlsContext::make(bool is_server, const std::string& certificate, const std::string& key) {
  Context context(::SSL_CTX_new(is_server ? ::TLS_server_method() : ::TLS_client_method()));
  if (!context) return failed("no context");
  SSL_CTX* raw = context.get();
  const Bio certificate_in = reading(certificate), key_in = reading(key);
  std::unique_ptr<X509, decltype(&::X509_free)> x509(::PEM_read_bio_X509(certificate_in.get(), nullptr, nullptr, nullptr),
                                                     &::X509_free);
  std::unique_ptr<EVP_PKEY, decltype(&::EVP_PKEY_free)> pkey(
      ::PEM_read_bio_PrivateKey(key_in.get(), nullptr, nullptr, nullptr), &::EVP_PKEY_free);
  if (!x509 || !pkey) return failed("the certificate or its key is no PEM");
  if (::SSL_CTX_set_min_proto_version(raw, TLS1_3_VERSION) != 1 ||
      ::SSL_CTX_set_max_proto_version(raw, TLS1_3_VERSION) != 1 ||
      ::SSL_CTX_set_ciphersuites(raw, "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384") != 1)
    return failed("TLS 1.3 with AES-GCM is not to be had");
  if (::SSL_CTX_use_certificate(raw, x509.get()) != 1 || ::SSL_CTX_use_PrivateKey(raw, pkey.get()) != 1 ||
      ::SSL_CTX_check_private_key(raw) != 1)
    return failed("the certificate and its key are no pair");
  ::SSL_CTX_set_verify(raw, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, &accept_any);
  ::SSL_CTX_set_mode(raw, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_AUTO_RETRY);
  ::SSL_CTX_set_session_cache_mode(raw, SSL_SESS_CACHE_OFF);
  ::SSL_CTX_set_num_tickets(raw, 0);
  return context;
}

}  // namespace manta::object_store

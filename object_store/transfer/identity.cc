#include "object_store/transfer/identity.h"

#include "common/check.h"
#include "common/fd.h"
#include "common/random.h"

#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <memory>

namespace manta::object_store {
namespace {

constexpr size_t kMaxFileBytes = 64 << 10;
constexpr long kValidSeconds = 100L * 365 * 86'400;  // pinned by fingerprint: time does not end the trust, revoking does

struct Free {
  void operator()(BIO* bio) const { ::BIO_free(bio); }
  void operator()(EVP_PKEY* key) const { ::EVP_PKEY_free(key); }
  void operator()(X509* certificate) const { ::X509_free(certificate); }
};
using Bio = std::unique_ptr<BIO, Free>;
using Key = std::unique_ptr<EVP_PKEY, Free>;
using Certificate = std::unique_ptr<X509, Free>;

Status tls_error(const std::string& what) {
  const unsigned long error = ::ERR_get_error();
  ::ERR_clear_error();
  const char* reason = error == 0 ? nullptr : ::ERR_reason_error_string(error);
  return Status(Code::kInternal, what + ": " + (reason == nullptr ? "OpenSSL does not say why" : reason));
}
Status system_error(const std::string& what) { return Status(Code::kIo, what + ": " + std::strerror(errno)); }

std::string text_of(BIO* bio) {
  char* data = nullptr;
  const long size = ::BIO_get_mem_data(bio, &data);
  return std::string(data, static_cast<size_t>(size));
}

Result<std::string> fingerprint_of(const X509* certificate) {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  if (::X509_digest(certificate, ::EVP_sha256(), digest, &size) != 1) return tls_error("the certificate's fingerprint");
  constexpr char kDigits[] = "0123456789abcdef";
  std::string hex;
  for (unsigned int i = 0; i < size; ++i) {
    hex += kDigits[digest[i] >> 4];
    hex += kDigits[digest[i] & 15];
  }
  return hex;
}

Result<Identity> parse(const std::string& text, const std::string& path) {
  const Status invalid(Code::kInvalid, path + " does not hold a certificate and its key");
  const Bio in(::BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
  const Key key(::PEM_read_bio_PrivateKey(in.get(), nullptr, nullptr, nullptr));
  const Certificate certificate(::PEM_read_bio_X509(in.get(), nullptr, nullptr, nullptr));
  const bool fits = key && certificate && ::X509_check_private_key(certificate.get(), key.get()) == 1;
  ::ERR_clear_error();
  const size_t split = text.find("-----BEGIN CERTIFICATE-----");
  if (!fits || split == std::string::npos) return invalid;
  MANTA_ASSIGN_OR_RETURN(std::string fingerprint, fingerprint_of(certificate.get()));
  return Identity{text.substr(split), text.substr(0, split), std::move(fingerprint)};
}

Result<std::string> read_private(const Fd& file, const std::string& path) {
  struct stat info {};
  if (::fstat(file.get(), &info) != 0) return system_error(path);
  if ((info.st_mode & 077) != 0) return Status(Code::kInvalid, path + " may be read by others: chmod 600 it");
  std::string text(kMaxFileBytes, '\0');
  const ssize_t got = ::pread(file.get(), text.data(), text.size(), 0);
  if (got < 0) return system_error(path);
  text.resize(static_cast<size_t>(got));
  return text;
}

/// Whole or not at all: written beside it, then linked, which fails when another process was quicker.
Status write_private(const std::string& path, const std::string& text) {
  const std::string temporary = path + "." + std::to_string(random_id()) + ".tmp";
  Status status;
  {
    Fd file(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (!file) return system_error(temporary);
    if (::write(file.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()) || ::fsync(file.get()) != 0)
      status = system_error(temporary);
  }
  if (status.ok() && ::link(temporary.c_str(), path.c_str()) != 0 && errno != EEXIST) status = system_error(path);
  ::unlink(temporary.c_str());
  return status;
}

}  // namespace

Result<Identity> Identity::make() {
  const Key key(::EVP_EC_gen("P-256"));
  const Certificate certificate(::X509_new());
  if (!key || !certificate) return tls_error("making a key");
  X509* x509 = certificate.get();
  X509_NAME* name = ::X509_get_subject_name(x509);
  const auto* common_name = reinterpret_cast<const unsigned char*>("manta node");
  const bool made = ::X509_set_version(x509, X509_VERSION_3) == 1 &&
                    ::ASN1_INTEGER_set_uint64(::X509_get_serialNumber(x509), random_id() >> 1) == 1 &&
                    ::X509_gmtime_adj(::X509_getm_notBefore(x509), -86'400) != nullptr &&  // clocks differ
                    ::X509_gmtime_adj(::X509_getm_notAfter(x509), kValidSeconds) != nullptr &&
                    ::X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, common_name, -1, -1, 0) == 1 &&
                    ::X509_set_issuer_name(x509, name) == 1 && ::X509_set_pubkey(x509, key.get()) == 1 &&
                    ::X509_sign(x509, key.get(), ::EVP_sha256()) > 0;
  if (!made) return tls_error("making a certificate");
  const Bio key_out(::BIO_new(::BIO_s_mem())), certificate_out(::BIO_new(::BIO_s_mem()));
  if (::PEM_write_bio_PrivateKey(key_out.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr) != 1 ||
      ::PEM_write_bio_X509(certificate_out.get(), x509) != 1)
    return tls_error("writing a certificate");
  MANTA_ASSIGN_OR_RETURN(std::string fingerprint, fingerprint_of(x509));
  return Identity{text_of(certificate_out.get()), text_of(key_out.get()), std::move(fingerprint)};
}

Result<Identity> Identity::load_or_make(const std::string& path) {
  Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file && errno != ENOENT) return system_error(path);
  if (!file) {
    MANTA_ASSIGN_OR_RETURN(const Identity made, make());
    MANTA_RETURN_IF_ERROR(write_private(path, made.key + made.certificate));
    file = Fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!file) return system_error(path);
  }
  MANTA_ASSIGN_OR_RETURN(const std::string text, read_private(file, path));
  return parse(text, path);
}

}  // namespace manta::object_store

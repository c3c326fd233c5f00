#include "wire/net/sha256.h"

#include "common/check.h"

#include <openssl/evp.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <vector>

namespace manta::wire {

struct Sha256::State {
  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context{EVP_MD_CTX_new(), &EVP_MD_CTX_free};
};

Sha256::Sha256() : state_(std::make_unique<State>()) {
  MANTA_CHECK(state_->context && EVP_DigestInit_ex(state_->context.get(), EVP_sha256(), nullptr) == 1);
}
Sha256::~Sha256() = default;
Sha256::Sha256(Sha256&&) noexcept = default;
Sha256& Sha256::operator=(Sha256&&) noexcept = default;

void Sha256::add(std::string_view bytes) { EVP_DigestUpdate(state_->context.get(), bytes.data(), bytes.size()); }

std::string Sha256::finish() {
  static constexpr char kHex[] = "0123456789abcdef";
  unsigned char bytes[EVP_MAX_MD_SIZE];
  unsigned length = 0;
  EVP_DigestFinal_ex(state_->context.get(), bytes, &length);
  std::string hex;
  for (unsigned i = 0; i < length; ++i) {
    hex += kHex[bytes[i] >> 4];
    hex += kHex[bytes[i] & 15];
  }
  return hex;
}

Result<Digest> digest(const Fd& file) {
  Sha256 sum;
  Digest out;
  std::vector<char> buffer(size_t{1} << 20);
  while (true) {
    const ssize_t size = ::pread(file.get(), buffer.data(), buffer.size(), static_cast<off_t>(out.size_bytes));
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return Status(Code::kIo, std::string("reading a program: ") + std::strerror(errno));
    if (size == 0) break;
    sum.add({buffer.data(), static_cast<size_t>(size)});
    out.size_bytes += static_cast<uint64_t>(size);
  }
  out.hash = sum.finish();
  return out;
}

bool is_hash(std::string_view text) {
  return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

}  // namespace manta::wire

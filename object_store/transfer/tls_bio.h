// What OpenSSL reads from and writes to: a non-blocking socket with a large buffer for either way, since records of 16 KiB
// would cost a system call each. What is written lies there until `flush`. Reading ahead is done here and not by OpenSSL,
// which moves all that it has read ahead once more for each record. Never raises SIGPIPE.
//
// Thread safety: one thread's.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

struct bio_st;

namespace manta::object_store {

class TlsBio {
 public:
  explicit TlsBio(int socket) : socket_(socket), in_(kInBytes) { out_.reserve(kOutBytes); }

  /// For SSL_set_bio, which then owns it; this must outlive that. Null when there is no memory.
  [[nodiscard]] bio_st* make();

  /// Sends what the socket takes: 0 when nothing is left, else the errno.
  [[nodiscard]] int flush();
  [[nodiscard]] bool has_output() const { return sent_ < out_.size(); }

 private:
  friend struct TlsBioMethod;
  static constexpr size_t kInBytes = size_t{256} << 10;
  static constexpr size_t kOutBytes = size_t{320} << 10;

  /// Bytes, or -errno; 0 at the end of the stream.
  [[nodiscard]] long read(char* data, size_t size);
  [[nodiscard]] long receive(char* data, size_t size) const;
  [[nodiscard]] long write(const char* data, size_t size);

  int socket_;
  std::vector<char> in_;
  size_t begin_ = 0, end_ = 0;  // what of in_ was received and not read
  std::vector<char> out_;
  size_t sent_ = 0;
};

}  // namespace manta::object_store

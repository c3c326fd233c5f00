#include "object_store/transfer/tls_bio.h"

#include <openssl/bio.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace manta::object_store {

/// The functions that OpenSSL calls.
struct TlsBioMethod {
  static int read(BIO* bio, char* data, size_t size, size_t* got) {
    return finish(bio, static_cast<TlsBio*>(::BIO_get_data(bio))->read(data, size), got, BIO_FLAGS_READ);
  }
  static int write(BIO* bio, const char* data, size_t size, size_t* put) {
    return finish(bio, static_cast<TlsBio*>(::BIO_get_data(bio))->write(data, size), put, BIO_FLAGS_WRITE);
  }
  static long control(BIO*, int command, long, void*) { return command == BIO_CTRL_FLUSH ? 1 : 0; }
  static int finish(BIO* bio, long result, size_t* count, int direction) {
    ::BIO_clear_retry_flags(bio);
    if (result == -EAGAIN) ::BIO_set_flags(bio, direction | BIO_FLAGS_SHOULD_RETRY);
    errno = result < 0 ? static_cast<int>(-result) : 0;
    if (result <= 0) return 0;
    *count = static_cast<size_t>(result);
    return 1;
  }
  static const BIO_METHOD* get() {
    static const BIO_METHOD* method = [] {
      BIO_METHOD* made = ::BIO_meth_new(::BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "bulk socket");
      if (made == nullptr) return made;
      ::BIO_meth_set_read_ex(made, &read);
      ::BIO_meth_set_write_ex(made, &write);
      ::BIO_meth_set_ctrl(made, &control);
      return made;
    }();
    return method;
  }
};

BIO* TlsBio::make() {
  BIO* bio = TlsBioMethod::get() == nullptr ? nullptr : ::BIO_new(TlsBioMethod::get());
  if (bio == nullptr) return nullptr;
  ::BIO_set_data(bio, this);
  ::BIO_set_init(bio, 1);
  return bio;
}

long TlsBio::read(char* data, size_t size) {
  if (begin_ == end_) {
    const long got = receive(in_.data(), in_.size());
    if (got <= 0) return got;
    begin_ = 0;
    end_ = static_cast<size_t>(got);
  }
  const size_t part = std::min(size, end_ - begin_);
  std::memcpy(data, in_.data() + begin_, part);
  begin_ += part;
  return static_cast<long>(part);
}

long TlsBio::receive(char* data, size_t size) const {
  ssize_t got = 0;
  do got = ::recv(socket_, data, size, 0);
  while (got < 0 && errno == EINTR);
  return got < 0 ? -errno : got;
}

long TlsBio::write(const char* data, size_t size) {
  if (out_.size() + size > kOutBytes && has_output()) {
    if (const int error = flush(); error != 0) return -error;
  }
  out_.insert(out_.end(), data, data + size);
  return static_cast<long>(size);
}

int TlsBio::flush() {
  while (has_output()) {
    const ssize_t put = ::send(socket_, out_.data() + sent_, out_.size() - sent_, MSG_NOSIGNAL);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return errno;
    sent_ += static_cast<size_t>(put);
  }
  out_.clear();
  sent_ = 0;
  return 0;
}

}  // namespace manta::object_store

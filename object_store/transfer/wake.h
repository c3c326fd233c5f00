// An eventfd that threads ring and an event loop waits for.
// Thread safety: everything.
#pragma once

#include "common/fd.h"

#include <manta/status.h>

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <string>

namespace manta::object_store {

class Wake {
 public:
  [[nodiscard]] static Result<Wake> create() {
    Fd fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!fd) return Status(Code::kIo, std::string("eventfd: ") + std::strerror(errno));
    return Wake(std::move(fd));
  }
  void ring() const {
    const uint64_t one = 1;
    if (::write(fd_.get(), &one, sizeof one) < 0) return;  // full: it is readable anyway
  }
  void clear() const {
    uint64_t count = 0;
    if (::read(fd_.get(), &count, sizeof count) < 0) return;  // nothing was rung
  }
  [[nodiscard]] int fd() const { return fd_.get(); }

 private:
  explicit Wake(Fd fd) : fd_(std::move(fd)) {}
  Fd fd_;
};

}  // namespace manta::object_store

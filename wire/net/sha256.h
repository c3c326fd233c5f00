// SHA-256, the name of programs that travel.
#pragma once

#include "common/fd.h"

#include <manta/status.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace manta::wire {

/// Of bytes that come piece by piece. Movable.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(Sha256&&) noexcept;
  Sha256& operator=(Sha256&&) noexcept;

  void add(std::string_view bytes);
  /// In hex; nothing may be added after.
  [[nodiscard]] std::string finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

struct Digest {
  std::string hash;  ///< Hex.
  uint64_t size_bytes = 0;
};
/// Of what `file` holds from its beginning; its position stays.
[[nodiscard]] Result<Digest> digest(const Fd& file);

/// Whether it is 64 lower-case hex digits.
[[nodiscard]] bool is_hash(std::string_view text);

}  // namespace manta::wire

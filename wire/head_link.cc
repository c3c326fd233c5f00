#include "wire/head_link.h"

#include "common/check.h"

namespace manta::wire {

std::string encode_to_head(const ToHead& message) { return encode_one_of(message); }
std::string encode_from_head(const FromHead& message) { return encode_one_of(message); }

Result<ToHead> decode_to_head(std::string_view bytes) {
  MANTA_ASSIGN_OR_RETURN(OneOf<ToHead> one, decode<OneOf<ToHead>>(bytes));
  return std::move(one.value);
}

Result<FromHead> decode_from_head(std::string_view bytes) {
  MANTA_ASSIGN_OR_RETURN(OneOf<FromHead> one, decode<OneOf<FromHead>>(bytes));
  return std::move(one.value);
}

}  // namespace manta::wire

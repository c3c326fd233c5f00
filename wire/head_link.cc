#include "wire/head_link.h"

#include "common/check.h"

namespace manta::wire {

std::string encode_to_head(const Told& told) { return encode(told); }
std::string encode_from_head(const FromHead& message) { return encode_one_of(message); }

Result<Told> decode_to_head(std::string_view bytes) { return decode<Told>(bytes); }

Result<FromHead> decode_from_head(std::string_view bytes) {
  MANTA_ASSIGN_OR_RETURN(OneOf<FromHead> one, decode<OneOf<FromHead>>(bytes));
  return std::move(one.value);
}

}  // namespace manta::wire

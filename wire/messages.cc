#include "wire/messages.h"

namespace manta::wire {

WireStatus to_wire(const Status& status) {
  return {static_cast<uint8_t>(status.code()), status.message(), status.origin_type()};
}

Status from_wire(const WireStatus& status) {
  if (status.code == 0) return {};
  // A code that this build does not know can only come from a broken peer.
  Code code = status.code <= static_cast<uint8_t>(Code::kInternal) ? static_cast<Code>(status.code) : Code::kInternal;
  return Status(code, status.message).with_origin_type(status.origin_type);
}

}  // namespace manta::wire

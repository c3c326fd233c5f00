// What clients may say to a raylet, from bytes of any origin.
#pragma once

#include "raylet/core_types.h"
#include "wire/connection.h"

namespace manta::raylet {

/// kInvalid for a frame that is no message of a client, or is malformed.
[[nodiscard]] Result<ClientMessage> decode_client_message(const wire::Frame& frame);

}  // namespace manta::raylet

// What clients may say to a raylet, from bytes of any origin.
#pragma once

#include "raylet/core_types.h"

#include <cstdint>
#include <string_view>

namespace manta::raylet {

/// kInvalid for a type that is no message of a client, or a body that is malformed.
[[nodiscard]] Result<ClientMessage> decode_client_message(wire::Type type, std::string_view body);

/// What a visitor must have the right to before it may say this: to look at the cluster, to change it, or nothing helps.
enum class VisitorRight : uint8_t { kLook, kAct, kNone };
[[nodiscard]] VisitorRight visitor_right(const ClientMessage& message);

}  // namespace manta::raylet

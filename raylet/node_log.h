// What mantad writes into its log: lines made from the events and effects of raylet_core, so that the core itself does no
// I/O and nothing that happens goes by unseen. Info: processes and actors come and go. Warn: somebody was cut off, something
// could not start. Debug: leases.
#pragma once

#include "raylet/core_types.h"

namespace manta::raylet {

void log_event(const Event& event);
void log_effect(const Effect& effect);

}  // namespace manta::raylet

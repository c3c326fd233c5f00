// Where a visit goes: the head at an address, by this user's keys, or a mantad of this user on this machine.
#pragma once

#include "cli/session.h"

#include <string>
#include <vector>

namespace manta::cli {

/// A line there, on which nothing was said yet.
[[nodiscard]] Result<std::unique_ptr<wire::VisitorLine>> open_line(const Where& where, std::chrono::milliseconds patience);

/// Where mantads make their sessions' folders, unless they are told another place.
[[nodiscard]] std::string sessions_folder();
/// The session folders of the mantads of this user that run on this machine.
[[nodiscard]] std::vector<std::string> local_sessions();

/// Says Hello and waits for Welcome.
Status greet(wire::VisitorLine& line, std::chrono::milliseconds patience);

}  // namespace manta::cli

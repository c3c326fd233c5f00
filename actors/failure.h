// Runs user code and turns whatever it throws into a Status: kTaskFailed with the exception's type and message.
#pragma once

#include <manta/detail/runtime.h>

namespace manta {

[[nodiscard]] Status run_guarded(detail::Thunk thunk, detail::Invocation& call);

}  // namespace manta

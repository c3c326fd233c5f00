// Why work waits: which resource is short and where, which arguments are not there, who is before it. For people and logs;
// the words may change.
#pragma once

#include <manta/actor.h>

#include <string>

namespace manta {

/// Of a task's or call's result. Asks the node, a fraction of a millisecond. Throws nothing; says when it does not know.
template <typename T>
[[nodiscard]] std::string explain(const Ref<T>& ref) {
  return detail::explain(ref.handle());
}

template <typename C>
[[nodiscard]] std::string explain(const Actor<C>& actor) {
  return detail::explain(actor.handle());
}

}  // namespace manta

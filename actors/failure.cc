#include "actors/failure.h"

#include <manta/error.h>

#include <cxxabi.h>

#include <new>

namespace manta {

Status run_guarded(detail::Thunk thunk, detail::Invocation& call) {
  try {
    thunk(call);
    return {};
  } catch (const Error& error) {
    return error.status();  // passes on as it is: a chain of tasks keeps the first cause
  } catch (const std::exception& error) {
    return Status(Code::kTaskFailed, std::string(error.what())).with_origin_type(detail::type_name(typeid(error).name()));
  } catch (...) {
    const std::type_info* const type = abi::__cxa_current_exception_type();
    const std::string name = type != nullptr ? detail::type_name(type->name()) : "unknown";
    return Status(Code::kTaskFailed, "an exception of type " + name).with_origin_type(name);
  }
}

}  // namespace manta

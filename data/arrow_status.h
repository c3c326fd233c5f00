// Arrow's outcomes as ours, with the context that Arrow does not know.
#pragma once

#include <manta/error.h>

#include <arrow/result.h>
#include <arrow/status.h>

namespace manta::data {

/// The same outcome with `context` before its message; memory that ran out becomes kFull, a refusal of the system kIo, a
/// missing key or index kNotFound, a defect kInternal, and everything else, which is about the data, kInvalid.
Status from_arrow_status(const arrow::Status& status, std::string_view context);

}  // namespace manta::data

#define MANTA_ARROW_OK(context, expression)                                  \
  do {                                                                       \
    if (::arrow::Status arrow_status_ = (expression); !arrow_status_.ok()) { \
      return ::manta::data::from_arrow_status(arrow_status_, context);       \
    }                                                                        \
  } while (false)

#define MANTA_ARROW_ASSIGN(declaration, context, expression) \
  MANTA_ARROW_ASSIGN_AS(MANTA_CONCAT(arrow_result_, __LINE__), declaration, context, expression)
#define MANTA_ARROW_ASSIGN_AS(name, declaration, context, expression)              \
  auto name = (expression);                                                        \
  if (!name.ok()) return ::manta::data::from_arrow_status(name.status(), context); \
  declaration = std::move(name).ValueUnsafe()

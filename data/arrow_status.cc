#include "data/arrow_status.h"

#include <manta/detail/data_blocks.h>

namespace manta::data {

Status from_arrow_status(const arrow::Status& status, std::string_view context) {
  if (status.ok()) return {};
  Code code = Code::kInvalid;
  if (status.IsOutOfMemory() || status.IsCapacityError()) code = Code::kFull;
  if (status.IsIOError()) code = Code::kIo;
  if (status.IsKeyError() || status.IsIndexError()) code = Code::kNotFound;
  if (status.IsUnknownError()) code = Code::kInternal;
  const Status out(code, status.message());
  return context.empty() ? out : out.with_context(context);
}

void throw_arrow(const arrow::Status& status) { throw Error(from_arrow_status(status, "")); }

}  // namespace manta::data

// What the head's core wants done with the files of submitted jobs: programs and logs. Carried out by job_files.h, which
// answers whom the order names.
#pragma once

#include "wire/cluster.h"
#include "wire/job_messages.h"

#include <cstdint>
#include <string>
#include <variant>

namespace manta::head {

/// A client, and the node through which it asks.
struct Asker {
  wire::NodeNumber node = 0;
  uint64_t client = 0;
};

struct StoreProgram {  ///< Answer: ProgramReceived.
  Asker asker;
  uint64_t total_bytes = 0;
  wire::UploadProgram part;
};
struct ReadProgram {  ///< Answer: ProgramChunk.
  wire::NodeNumber node = 0;
  wire::GetProgramPart part;
};
struct DropProgram {
  std::string hash;
};
struct AppendLog {  ///< Answer: JobNoted.
  wire::NodeNumber node = 0;
  wire::JobLogPart part;
};
struct ReadLog {  ///< Answer: JobLogChunk.
  Asker asker;
  wire::ReadJobLog request;
  bool is_over = false;  ///< Nothing more comes to the log.
};
/// Nothing comes any more: who waits for more is answered.
struct EndLog {
  uint64_t job = 0;
};
struct DropLog {
  uint64_t job = 0;
};

using FileOrder = std::variant<StoreProgram, ReadProgram, DropProgram, AppendLog, ReadLog, EndLog, DropLog>;

}  // namespace manta::head

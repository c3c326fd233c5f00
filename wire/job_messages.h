// Messages about submitted jobs: drivers that run on the cluster under the head's care. Between a client and the head, and
// between the head and the node that runs a driver. See docs/cluster-internals.md, "Submitted jobs".
//
// A client's message has a number that comes back in the answer. Each may be repeated: a submission is known by its key,
// bytes by their offset, an attempt of a job by (job, attempt).
#pragma once

#include "wire/message_types.h"
#include "wire/net/program_parts.h"

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace manta::wire {

inline constexpr size_t kJobChunkBytes = size_t{1} << 20;       ///< Of a program that is uploaded or fetched.
inline constexpr size_t kJobLogChunkBytes = size_t{256} << 10;  ///< Of a log.

/// Types of the messages between clients and the head start here.
inline constexpr uint16_t kFirstJobType = 140;

/// Of the node that a submitted job's driver brings along: "<job>.<attempt>".
inline constexpr const char* kJobLabel = "manta/job";

enum class JobState : uint8_t {
  kSubmitted = 0,  ///< Its program is being uploaded.
  kPending,        ///< It waits for a node, or is being started on one.
  kRunning,
  kSucceeded,
  kFailed,
  kStopped,
};
[[nodiscard]] constexpr bool is_over(JobState state) { return state >= JobState::kSucceeded; }

// ---------------------------------------------------------------------------------------------------- client -> head

/// What shall run. Whoever may say this runs code on the cluster: for drivers' keys only.
struct SubmitJob {
  static constexpr Type kType{kFirstJobType + 0};
  uint64_t request = 0;
  std::string key;  ///< The same key again is the same job.
  std::string name;
  std::string program_name;
  std::string program_hash;  ///< SHA-256, hex.
  uint64_t program_bytes = 0;
  std::vector<std::string> arguments;  ///< Without the program's own name.
  std::map<std::string, std::string> env;
  int32_t retries = 0;       ///< Further attempts, when the driver was killed or its node was lost.
  bool retry_exits = false;  ///< And when it ended with a code that is not 0.
  int64_t deadline_us = 0;   ///< From the submission; 0: none. Then it is stopped.
  std::vector<ProgramLibrary> libraries = {};
  MSGPACK_DEFINE(request, key, name, program_name, program_hash, program_bytes, arguments, env, retries, retry_exits,
                 deadline_us, libraries)
};

/// A piece of a program, or of a library of one, that a submitted job waits for.
struct UploadProgram {
  static constexpr Type kType{kFirstJobType + 1};
  uint64_t request = 0;
  std::string hash;
  uint64_t offset = 0;
  std::string bytes;
  MSGPACK_DEFINE(request, hash, offset, bytes)
};

struct StopJob {
  static constexpr Type kType{kFirstJobType + 2};
  uint64_t request = 0;
  uint64_t job = 0;
  MSGPACK_DEFINE(request, job)
};

struct FindJob {
  static constexpr Type kType{kFirstJobType + 3};
  uint64_t request = 0;
  uint64_t job = 0;
  MSGPACK_DEFINE(request, job)
};

struct ReadJobLog {
  static constexpr Type kType{kFirstJobType + 4};
  uint64_t request = 0;
  uint64_t job = 0;
  uint64_t offset = 0;  ///< In bytes from the beginning of the first attempt.
  int64_t wait_us = 0;  ///< When nothing is there yet, the answer may take so long; 20 s at most.
  MSGPACK_DEFINE(request, job, offset, wait_us)
};

// ---------------------------------------------------------------------------------------------------- head -> client

struct JobInfo {
  uint64_t job = 0;
  std::string name;
  uint8_t state = 0;
  uint32_t attempt = 0;  ///< From 1; 0: none yet.
  uint32_t node = 0;     ///< Of the attempt; 0: none.
  int32_t pid = 0;
  int32_t exit_code = 0;     ///< When it is over: what `manta submit --wait` exits with.
  WireStatus cause;          ///< Why it failed or was stopped; or what it waits for.
  int64_t submitted_us = 0;  ///< Since 1970, as the others; 0: not yet.
  int64_t started_us = 0;
  int64_t ended_us = 0;
  std::vector<std::string> wanted = {};  ///< Hashes of what is not there yet of its program.
  MSGPACK_DEFINE(job, name, state, attempt, node, pid, exit_code, cause, submitted_us, started_us, ended_us, wanted)
};

/// To SubmitJob, StopJob and FindJob.
struct JobAnswer {
  static constexpr Type kType{kFirstJobType + 5};
  uint64_t request = 0;
  WireStatus status;
  JobInfo info;
  MSGPACK_DEFINE(request, status, info)
};

struct ProgramReceived {
  static constexpr Type kType{kFirstJobType + 6};
  uint64_t request = 0;
  WireStatus status;
  uint64_t next_offset = 0;  ///< All before it is there. kNotFound in the status: no job waits for it (any more).
  MSGPACK_DEFINE(request, status, next_offset)
};

struct JobLogChunk {
  static constexpr Type kType{kFirstJobType + 7};
  uint64_t request = 0;
  WireStatus status;
  uint64_t offset = 0;  ///< Of the first byte; more than was asked for: what lay before was dropped.
  uint32_t attempt = 0;
  std::string bytes;     ///< Of one attempt.
  bool is_over = false;  ///< The job is, and nothing comes after these bytes.
  MSGPACK_DEFINE(request, status, offset, attempt, bytes, is_over)
};

// ---------------------------------------------------------------------------------------------------- head -> node

/// Run this attempt of the job, and report (JobReport): also if it is known already. Older attempts end. Repeated until it
/// is answered.
struct RunJob {
  uint64_t job = 0;
  uint32_t attempt = 0;
  SubmitJob spec;
  std::string join_token;  ///< Of a cluster with keys: lets its driver in, once.
  bool has_begun = false;  ///< It runs, as far as the head knows: not to be begun again.
  MSGPACK_DEFINE(job, attempt, spec, join_token, has_begun)
};

/// SIGTERM, after a while SIGKILL; then JobReport. Repeated until that has come.
struct EndJob {
  uint64_t job = 0;
  uint32_t attempt = 0;
  std::string reason;
  MSGPACK_DEFINE(job, attempt, reason)
};

/// What the head has written down of an attempt.
struct JobNoted {
  uint64_t job = 0;
  uint32_t attempt = 0;
  uint64_t log_bytes = 0;  ///< Of the attempt's log.
  bool is_done = false;    ///< The attempt is over and nothing of it is wanted any more.
  MSGPACK_DEFINE(job, attempt, log_bytes, is_done)
};

// ---------------------------------------------------------------------------------------------------- node -> head

enum class JobEvent : uint8_t {
  kTaken = 0,    ///< Its program is being fetched.
  kStarted = 1,  ///< The driver is process `pid`.
  kEnded = 2,    ///< With `exit_code`, or by signal; or it could not be started: then `cause` says why.
};

struct JobReport {
  uint64_t job = 0;
  uint32_t attempt = 0;
  uint8_t event = 0;
  int32_t pid = 0;
  bool has_run = false;    ///< With kEnded: the driver was started.
  bool by_signal = false;  ///< With kEnded.
  int32_t exit_code = 0;   ///< Or the signal.
  WireStatus cause;        ///< For people: how it ended, with its last words.
  MSGPACK_DEFINE(job, attempt, event, pid, has_run, by_signal, exit_code, cause)
};

/// More of an attempt's log; repeated until JobNoted has come. An offset beyond what was noted: what lies between was
/// dropped, because it came faster than it could be sent.
struct JobLogPart {
  uint64_t job = 0;
  uint32_t attempt = 0;
  uint64_t offset = 0;  ///< Of the attempt's log.
  std::string bytes;
  MSGPACK_DEFINE(job, attempt, offset, bytes)
};

/// Answer: ProgramChunk.
struct GetProgramPart {
  uint64_t job = 0;
  uint32_t attempt = 0;
  std::string hash;
  uint64_t offset = 0;
  MSGPACK_DEFINE(job, attempt, hash, offset)
};

}  // namespace manta::wire

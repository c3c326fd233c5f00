// The rows of the head's tables as bytes: msgpack values under readable keys.
#pragma once

#include "common/check.h"
#include "head/store.h"
#include "wire/cluster.h"
#include "wire/frame.h"
#include "wire/group_messages.h"
#include "wire/job_messages.h"
#include "wire/messages.h"

#include <manta/ids.h>

namespace manta::head {

/// One row, beside those of the nodes.
struct ClusterRecord {
  static constexpr Table kTable = Table::kNodes;
  static constexpr const char* kKey = "cluster";
  std::string cluster;
  wire::NodeNumber next_node = 0;
  uint64_t life = 0;
  [[nodiscard]] std::string key() const { return kKey; }
  MSGPACK_DEFINE(cluster, next_node, life)
};

struct NodeRecord {
  static constexpr Table kTable = Table::kNodes;
  wire::NodeInfo info;
  uint64_t nonce = 0;
  [[nodiscard]] std::string key() const { return detail::hex64(info.number); }
  MSGPACK_DEFINE(info, nonce)
};

/// Up to which number (wire::Told) the tables have what a node told.
struct HeardRecord {
  static constexpr Table kTable = Table::kNodes;
  static constexpr const char* kPrefix = "heard-";
  wire::NodeNumber node = 0;
  uint64_t up_to = 0;
  [[nodiscard]] std::string key() const { return kPrefix + detail::hex64(node); }
  MSGPACK_DEFINE(node, up_to)
};

struct JobRecord {
  static constexpr Table kTable = Table::kJobs;
  uint64_t driver = 0;
  std::string name;
  uint64_t ended = 0;  ///< 0: it runs; else the how-manieth to end.
  wire::WireStatus cause;
  uint64_t submission = 0;   ///< The submitted job whose driver it is; 0: it came by itself.
  wire::Amounts quota = {};  ///< Its own; empty: none.
  [[nodiscard]] std::string key() const { return detail::hex64(driver); }
  MSGPACK_DEFINE(driver, name, ended, cause, submission, quota)
};

struct ActorRecord {
  static constexpr Table kTable = Table::kActors;
  wire::CreateActor spec;
  uint8_t phase = 0;
  uint32_t incarnation = 0;
  int32_t restarts_used = 0;
  wire::NodeNumber node = 0;  ///< Where it is or shall be; 0: not decided.
  uint64_t worker = 0;
  int32_t worker_pid = 0;
  int32_t bundle = -1;
  bool is_draining = false;
  [[nodiscard]] std::string key() const { return ActorId{spec.actor.owner, spec.actor.sequence}.to_string(); }
  MSGPACK_DEFINE(spec, phase, incarnation, restarts_used, node, worker, worker_pid, bundle, is_draining)
};

struct ActorStateRecord {
  static constexpr Table kTable = Table::kActorStates;
  wire::ActorKey actor;
  std::string state;
  [[nodiscard]] std::string key() const { return ActorId{actor.owner, actor.sequence}.to_string(); }
  MSGPACK_DEFINE(actor, state)
};

struct LineageRecord {
  static constexpr Table kTable = Table::kLineage;
  uint64_t owner = 0;
  uint64_t sequence = 0;
  std::string spec;
  [[nodiscard]] std::string key() const { return TaskId{owner, sequence}.to_string(); }
  MSGPACK_DEFINE(owner, sequence, spec)
};

struct PlacementGroupRecord {
  static constexpr Table kTable = Table::kPlacementGroups;
  uint64_t group = 0;
  uint64_t owner = 0;
  uint64_t job = 0;
  wire::CreatePlacementGroup spec;
  uint64_t attempt = 0;
  std::vector<wire::NodeNumber> nodes;  ///< Of each bundle; none while it is not reserved.
  [[nodiscard]] std::string key() const { return detail::hex64(group); }
  MSGPACK_DEFINE(group, owner, job, spec, attempt, nodes)
};

struct SubmittedJobRecord {
  static constexpr Table kTable = Table::kSubmittedJobs;
  uint64_t job = 0;
  wire::SubmitJob spec;
  uint8_t state = 0;
  uint32_t attempt = 0;  ///< From 1; 0: none was made.
  int32_t retries_used = 0;
  wire::NodeNumber node = 0;  ///< Where the attempt is; 0: nowhere.
  bool has_begun = false;     ///< The attempt: its driver was started.
  int32_t pid = 0;
  int32_t exit_code = 0;
  wire::WireStatus cause;
  wire::WireStatus stop;     ///< Why it shall end; OK: it shall not.
  int64_t submitted_us = 0;  ///< Since 1970.
  int64_t started_us = 0;
  int64_t ended_us = 0;
  uint64_t ended = 0;  ///< 0: not over; else the how-manieth to end.
  [[nodiscard]] std::string key() const { return detail::hex64(job); }
  MSGPACK_DEFINE(job, spec, state, attempt, retries_used, node, has_begun, pid, exit_code, cause, stop, submitted_us,
                 started_us, ended_us, ended)
};

template <typename Row>
[[nodiscard]] Record to_record(const Row& row) {
  return {Row::kTable, row.key(), wire::encode(row), false};
}

template <typename Row>
[[nodiscard]] Record removal(const Row& row) {
  return {Row::kTable, row.key(), {}, true};
}

/// kInvalid when the bytes are no such row, or stand under another row's key.
template <typename Row>
[[nodiscard]] Result<Row> from_record(const Record& record) {
  MANTA_ASSIGN_OR_RETURN(Row row, wire::decode<Row>(record.value));
  if (row.key() != record.key)
    return Status(Code::kInvalid, "a row of the head's store stands under the wrong key: " + record.key);
  return row;
}

}  // namespace manta::head

// The rows of the head's tables as bytes: msgpack values under readable keys.
#pragma once

#include "common/check.h"
#include "head/store.h"
#include "wire/frame.h"
#include "wire/messages.h"

#include <manta/ids.h>

namespace manta::head {

struct JobRecord {
  static constexpr Table kTable = Table::kJobs;
  uint64_t driver = 0;
  std::string name;
  [[nodiscard]] std::string key() const { return detail::hex64(driver); }
  MSGPACK_DEFINE(driver, name)
};

struct ActorRecord {
  static constexpr Table kTable = Table::kActors;
  wire::CreateActor spec;
  uint8_t phase = 0;
  uint32_t incarnation = 0;
  int32_t restarts_used = 0;
  [[nodiscard]] std::string key() const { return ActorId{spec.actor.owner, spec.actor.sequence}.to_string(); }
  MSGPACK_DEFINE(spec, phase, incarnation, restarts_used)
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

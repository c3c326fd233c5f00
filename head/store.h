// Where the head writes down what it must not forget: tables of key and value, changed by records in order.
//
// The head keeps everything in memory and only appends; it reads once, when it starts. Replaying what `load` gives leads to
// the memory state. SqliteStore is the real one; MemoryStore is for tests and passes the same suite.
#pragma once

#include <manta/status.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace manta::head {

enum class Table : uint8_t {
  kNodes = 0,
  kJobs = 1,
  kActors = 2,
  kActorStates = 3,
  kLineage = 4,
  kPlacementGroups = 5,
  kSubmittedJobs = 6,
};
inline constexpr int kTables = 7;

/// One change: the row `key` of `table` becomes `value`, or is gone. Keys are unique within a table.
struct Record {
  Table table{};
  std::string key;
  std::string value;
  bool is_removal = false;
  auto operator<=>(const Record&) const = default;
};

/// Used by one thread.
class Store {
 public:
  virtual ~Store() = default;

  /// Makes all of the batch durable, in order, or none of it. kFull when the disk is full, kIo for other refusals of the
  /// disk, kInvalid when the file is damaged. After a failure the store still holds what was durable before.
  virtual Status append(const std::vector<Record>& batch) = 0;

  /// Every row, by table and then by key.
  virtual Result<std::vector<Record>> load() = 0;
};

/// In memory only.
class MemoryStore : public Store {
 public:
  Status append(const std::vector<Record>& batch) override;
  Result<std::vector<Record>> load() override;

 private:
  std::map<std::pair<Table, std::string>, std::string> rows_;
};

}  // namespace manta::head

#include "head/store.h"

namespace manta::head {

Status MemoryStore::append(const std::vector<Record>& batch) {
  for (const Record& record : batch) {
    if (record.is_removal) {
      rows_.erase({record.table, record.key});
    } else {
      rows_[{record.table, record.key}] = record.value;
    }
  }
  return {};
}

Result<std::vector<Record>> MemoryStore::load() {
  std::vector<Record> rows;
  for (const auto& [key, value] : rows_) rows.push_back({key.first, key.second, value, false});
  return rows;
}

}  // namespace manta::head

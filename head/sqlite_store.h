// The head's store in one SQLite file (WAL journal), to be looked at with `sqlite3` while it is in use.
//
// One writer. A batch is one transaction: all of it or none of it is there after a crash. With `is_durable`, append returns
// after fsync; without, after the operating system has the bytes (a crash of the machine may lose the last ones, never
// damage the file).
#pragma once

#include "head/store.h"

#include <memory>
#include <string>

struct sqlite3;
struct sqlite3_stmt;

namespace manta::head {

class SqliteStore : public Store {
 public:
  /// Opens or makes the file (0600). kInvalid when it is no database, is damaged, or of another version; kIo otherwise.
  static Result<std::unique_ptr<Store>> open(const std::string& path, bool is_durable);
  ~SqliteStore() override;

  Status append(const std::vector<Record>& batch) override;
  Result<std::vector<Record>> load() override;

 private:
  struct CloseDatabase {
    void operator()(sqlite3* database) const;
  };
  struct Finalize {
    void operator()(sqlite3_stmt* statement) const;
  };
  using Statement = std::unique_ptr<sqlite3_stmt, Finalize>;

  SqliteStore() = default;
  Status set_up(bool is_durable);
  Status run(const char* sql);
  Result<Statement> prepare(const std::string& sql);
  Status apply(const Record& record);
  Status load_table(Table table, std::vector<Record>& rows);
  [[nodiscard]] Status error(const std::string& doing) const;

  std::string path_;
  std::unique_ptr<sqlite3, CloseDatabase> database_;
  Statement put_[kTables];
  Statement remove_[kTables];
};

}  // namespace manta::head

#include "head/sqlite_store.h"

#include "common/check.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <unistd.h>

namespace manta::head {
namespace {

constexpr int kVersion = 3;
constexpr const char* kNames[kTables] = {"nodes",         "jobs", "actors", "actor_states", "lineage", "placement_groups",
                                         "submitted_jobs"};

size_t index_of(Table table) {
  const auto index = static_cast<size_t>(table);
  MANTA_CHECK(index < kTables, index);
  return index;
}

}  // namespace

void SqliteStore::CloseDatabase::operator()(sqlite3* database) const { sqlite3_close(database); }
void SqliteStore::Finalize::operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }

SqliteStore::~SqliteStore() = default;

Status SqliteStore::error(const std::string& doing) const {
  const int code = sqlite3_errcode(database_.get()) & 0xff;
  const std::string text = path_ + ": " + doing + ": " + sqlite3_errmsg(database_.get());
  if (code == SQLITE_FULL) return Status(Code::kFull, text);
  if (code == SQLITE_CORRUPT || code == SQLITE_NOTADB) return Status(Code::kInvalid, text);
  return Status(Code::kIo, text);
}

Result<std::unique_ptr<Store>> SqliteStore::open(const std::string& path, bool is_durable) {
  std::unique_ptr<SqliteStore> store(new SqliteStore);
  store->path_ = path;
  // Made here, because SQLite would give it the umask's mode.
  if (const int fd = ::open(path.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600); fd >= 0) ::close(fd);
  sqlite3* database = nullptr;
  const int code = sqlite3_open_v2(path.c_str(), &database, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, nullptr);
  store->database_.reset(database);
  if (code != SQLITE_OK) return database == nullptr ? Status(Code::kIo, path + ": out of memory") : store->error("opening");
  MANTA_RETURN_IF_ERROR(store->set_up(is_durable));
  return std::unique_ptr<Store>(std::move(store));
}

Status SqliteStore::set_up(bool is_durable) {
  sqlite3_busy_timeout(database_.get(), 2000);  // somebody looks at it with sqlite3
  MANTA_RETURN_IF_ERROR(run("PRAGMA journal_mode=WAL"));
  MANTA_RETURN_IF_ERROR(run(is_durable ? "PRAGMA synchronous=FULL" : "PRAGMA synchronous=OFF"));
  MANTA_ASSIGN_OR_RETURN(Statement version_query, prepare("PRAGMA user_version"));
  if (sqlite3_step(version_query.get()) != SQLITE_ROW) return error("reading its version");
  const int version = sqlite3_column_int(version_query.get(), 0);
  version_query.reset();
  if (version != 0 && version != kVersion)
    return Status(Code::kInvalid, path_ + ": written by another version of Manta (format " + std::to_string(version) + ")");
  if (version == 0) {
    std::string schema = "BEGIN;";
    for (const char* name : kNames)
      schema += "CREATE TABLE " + std::string(name) + "(key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;";
    schema += "PRAGMA user_version=" + std::to_string(kVersion) + ";COMMIT;";
    MANTA_RETURN_IF_ERROR(run(schema.c_str()));
  }
  for (size_t i = 0; i < kTables; ++i) {
    MANTA_ASSIGN_OR_RETURN(put_[i], prepare("INSERT OR REPLACE INTO " + std::string(kNames[i]) + " VALUES(?1, ?2)"));
    MANTA_ASSIGN_OR_RETURN(remove_[i], prepare("DELETE FROM " + std::string(kNames[i]) + " WHERE key = ?1"));
  }
  return {};
}

Status SqliteStore::run(const char* sql) {
  return sqlite3_exec(database_.get(), sql, nullptr, nullptr, nullptr) == SQLITE_OK ? Status()
                                                                                    : error("running a statement");
}

Result<SqliteStore::Statement> SqliteStore::prepare(const std::string& sql) {
  sqlite3_stmt* statement = nullptr;
  if (sqlite3_prepare_v2(database_.get(), sql.c_str(), -1, &statement, nullptr) != SQLITE_OK)
    return error("preparing a statement");
  return Statement(statement);
}

Status SqliteStore::apply(const Record& record) {
  sqlite3_stmt* statement = (record.is_removal ? remove_ : put_)[index_of(record.table)].get();
  sqlite3_reset(statement);
  sqlite3_bind_text64(statement, 1, record.key.data(), record.key.size(), SQLITE_STATIC, SQLITE_UTF8);
  if (!record.is_removal) sqlite3_bind_blob64(statement, 2, record.value.data(), record.value.size(), SQLITE_STATIC);
  const bool done = sqlite3_step(statement) == SQLITE_DONE;
  Status status = done ? Status() : error("writing to " + std::string(kNames[index_of(record.table)]));
  sqlite3_reset(statement);
  sqlite3_clear_bindings(statement);
  return status;
}

Status SqliteStore::append(const std::vector<Record>& batch) {
  MANTA_RETURN_IF_ERROR(run("BEGIN IMMEDIATE"));
  Status status;
  for (size_t i = 0; i < batch.size() && status.ok(); ++i) status = apply(batch[i]);
  if (status.ok()) status = run("COMMIT");
  if (!status.ok() && sqlite3_get_autocommit(database_.get()) == 0)
    sqlite3_exec(database_.get(), "ROLLBACK", nullptr, nullptr, nullptr);
  return status;
}

Status SqliteStore::load_table(Table table, std::vector<Record>& rows) {
  MANTA_ASSIGN_OR_RETURN(Statement query,
                         prepare("SELECT key, value FROM " + std::string(kNames[index_of(table)]) + " ORDER BY key"));
  while (true) {
    const int code = sqlite3_step(query.get());
    if (code == SQLITE_DONE) return {};
    if (code != SQLITE_ROW) return error("reading " + std::string(kNames[index_of(table)]));
    const auto bytes = [&](int column) {
      const auto* data = static_cast<const char*>(sqlite3_column_blob(query.get(), column));
      const auto size = static_cast<size_t>(sqlite3_column_bytes(query.get(), column));
      return data == nullptr ? std::string() : std::string(data, size);
    };
    rows.push_back({table, bytes(0), bytes(1), false});
  }
}

Result<std::vector<Record>> SqliteStore::load() {
  std::vector<Record> rows;
  for (int i = 0; i < kTables; ++i) MANTA_RETURN_IF_ERROR(load_table(static_cast<Table>(i), rows));
  return rows;
}

}  // namespace manta::head

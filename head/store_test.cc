// One suite for every store, and what only a file can suffer.
#include "head/store.h"
#include "head/sqlite_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>

namespace manta::head {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class Folder {
 public:
  Folder() {
    static int number = 0;
    path_ = std::filesystem::temp_directory_path() /
            ("manta-store-" + std::to_string(getpid()) + "-" + std::to_string(++number));
    std::filesystem::create_directories(path_);
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  std::string file() const { return path_ / "head.db"; }

 private:
  std::filesystem::path path_;
};

Record put(const std::string& key, const std::string& value, Table table = Table::kActors) {
  return {table, key, value, false};
}
Record gone(const std::string& key, Table table = Table::kActors) { return {table, key, {}, true}; }

struct AnyStore {
  std::string name;
  std::function<std::unique_ptr<Store>(const std::string& file)> open;
};

class EveryStore : public ::testing::TestWithParam<AnyStore> {
 protected:
  Folder folder;
};

TEST_P(EveryStore, KeepsTheLastValueOfEachKey) {
  const auto store = GetParam().open(folder.file());
  ASSERT_TRUE(store->append({put("a", "1"), put("b", "2"), put("a", "3")}).ok());
  ASSERT_TRUE(store->append({gone("b"), gone("never was"), put("a", "4", Table::kJobs)}).ok());
  EXPECT_THAT(*store->load(), ElementsAre(put("a", "4", Table::kJobs), put("a", "3")));
}

TEST_P(EveryStore, ValuesAreBytes) {
  const auto store = GetParam().open(folder.file());
  const std::string bytes("\0\xff'\"; DROP TABLE actors", 24);
  ASSERT_TRUE(store->append({put("k'ey", bytes), put("empty", "")}).ok());
  EXPECT_THAT(*store->load(), ElementsAre(put("empty", ""), put("k'ey", bytes)));
}

TEST_P(EveryStore, AnEmptyBatchIsNothing) {
  const auto store = GetParam().open(folder.file());
  ASSERT_TRUE(store->append({}).ok());
  EXPECT_THAT(*store->load(), IsEmpty());
}

INSTANTIATE_TEST_SUITE_P(
    Stores, EveryStore,
    ::testing::Values(AnyStore{"memory", [](const std::string&) { return std::make_unique<MemoryStore>(); }},
                      AnyStore{"sqlite", [](const std::string& file) { return SqliteStore::open(file, true).value(); }},
                      AnyStore{"sqlite_local",
                               [](const std::string& file) { return SqliteStore::open(file, false).value(); }}),
    [](const auto& store) { return store.param.name; });

TEST(SqliteStore, WhatWasAppendedIsThereInTheNextLife) {
  Folder folder;
  ASSERT_TRUE(SqliteStore::open(folder.file(), true).value()->append({put("a", "1")}).ok());
  EXPECT_THAT(*SqliteStore::open(folder.file(), true).value()->load(), ElementsAre(put("a", "1")));
}

TEST(SqliteStore, OnlyItsUserMayReadTheFile) {
  Folder folder;
  const auto store = SqliteStore::open(folder.file(), true).value();
  EXPECT_EQ(std::filesystem::status(folder.file()).permissions(),
            std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
}

TEST(SqliteStore, RefusesWhatIsNoDatabase) {
  Folder folder;
  std::ofstream(folder.file()) << std::string(5000, 'x');
  const auto store = SqliteStore::open(folder.file(), true);
  ASSERT_FALSE(store.ok());
  EXPECT_EQ(store.status().code(), Code::kInvalid) << store.status().to_string();
}

TEST(SqliteStore, ADamagedPageIsATypedErrorAndNoCrash) {
  Folder folder;
  {
    const auto store = SqliteStore::open(folder.file(), true).value();
    std::vector<Record> rows;
    for (int i = 0; i < 2000; ++i) rows.push_back(put("key" + std::to_string(i), std::string(200, 'v')));
    ASSERT_TRUE(store->append(rows).ok());
  }
  const auto size = static_cast<std::streamoff>(std::filesystem::file_size(folder.file()));
  ASSERT_GT(size, 300'000);
  std::fstream file(folder.file(), std::ios::in | std::ios::out | std::ios::binary);
  for (std::streamoff at = size / 3; at < size * 2 / 3; at += 4096)
    file.seekp(at).write(std::string(4000, '\xa5').data(), 4000);
  file.close();
  const auto store = SqliteStore::open(folder.file(), true);
  const Status status = store.ok() ? (*store)->load().status() : store.status();
  EXPECT_EQ(status.code(), Code::kInvalid) << status.to_string();
}

TEST(SqliteStore, AFullDiskIsATypedErrorAndLosesNothing) {
  Folder folder;
  const auto store = SqliteStore::open(folder.file(), true).value();
  ASSERT_TRUE(store->append({put("kept", "1")}).ok());
  // As good as a full disk: this process may write no file beyond 1 MiB.
  struct Limited {
    Limited() {
      previous_handler = std::signal(SIGXFSZ, SIG_IGN);
      getrlimit(RLIMIT_FSIZE, &before);
      const rlimit limit{.rlim_cur = 1 << 20, .rlim_max = before.rlim_max};
      setrlimit(RLIMIT_FSIZE, &limit);
    }
    ~Limited() {
      setrlimit(RLIMIT_FSIZE, &before);
      std::signal(SIGXFSZ, previous_handler);
    }
    rlimit before{};
    void (*previous_handler)(int) = nullptr;
  };
  {
    Limited limited;
    const Status status = store->append({put("first", "1"), put("large", std::string(4 << 20, 'x'))});
    EXPECT_TRUE(status.code() == Code::kFull || status.code() == Code::kIo) << status.to_string();
    EXPECT_THAT(*store->load(), ElementsAre(put("kept", "1")));
  }
  EXPECT_TRUE(store->append({put("later", "2")}).ok());
  EXPECT_THAT(*store->load(), SizeIs(2));
}

}  // namespace
}  // namespace manta::head

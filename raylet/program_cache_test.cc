#include "raylet/program_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace manta::raylet {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

std::string hash_of(const std::string& text) {
  wire::Sha256 sum;
  sum.add(text);
  return sum.finish();
}

std::string content(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

class ProgramCacheTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder = fs::temp_directory_path() / ("program-cache-" + std::to_string(::getpid()));
    make(uint64_t{2} << 30);
  }
  void TearDown() override { fs::remove_all(folder); }
  void make(uint64_t max_kept_bytes) {
    cache.emplace(
        folder, [this](wire::NodeNumber node, const wire::GetProgram& ask) { asked.emplace_back(node, ask); },
        [this](uint64_t job, const Result<std::string>& path) { done[job].push_back(path); }, max_kept_bytes);
  }
  static wire::JobSpec job(uint64_t number, const std::string& program, std::map<std::string, std::string> libraries = {}) {
    wire::JobSpec spec;
    spec.job = number;
    spec.program_name = "prog";
    spec.program_hash = hash_of(program);
    spec.program_bytes = program.size();
    for (const auto& [name, text] : libraries) spec.libraries.push_back({name, hash_of(text), text.size()});
    return spec;
  }
  /// Answers what was asked for, from these contents; how often.
  int serve(const std::vector<std::string>& contents) {
    int count = 0;
    while (!asked.empty()) {
      for (const auto& [node, ask] : std::exchange(asked, {}))
        for (const std::string& text : contents)
          if (hash_of(text) == ask.hash) {
            ++count;
            cache->on_chunk(node, {.status = {},
                                   .hash = ask.hash,
                                   .offset = ask.offset,
                                   .bytes = text.substr(ask.offset, wire::kProgramChunkBytes)});
          }
    }
    return count;
  }
  Status failure(uint64_t number) { return done.at(number).at(0).status(); }

  std::string folder;
  std::optional<ProgramCache> cache;
  std::vector<std::pair<wire::NodeNumber, wire::GetProgram>> asked;
  std::map<uint64_t, std::vector<Result<std::string>>> done;
};

TEST_F(ProgramCacheTest, AProgramAndItsLibrariesAreLaidTogether) {
  const std::string big(3 * wire::kProgramChunkBytes + 5, 'x');
  const wire::JobSpec spec = job(1, big, {{"liba.so.1", "aaa"}, {"libb.so", "bbb"}});
  cache->start(spec, 7);
  EXPECT_EQ(serve({big, "aaa", "bbb"}), 6);
  ASSERT_THAT(done[1], SizeIs(1));
  const std::string path = *done[1][0];
  EXPECT_EQ(fs::path(path).filename(), "prog");
  EXPECT_EQ(content(path), big);
  EXPECT_EQ(::access(path.c_str(), X_OK), 0);
  const std::string libraries = ProgramCache::library_folder(path, spec.libraries);
  EXPECT_EQ(content(libraries + "/liba.so.1"), "aaa");
  EXPECT_EQ(content(libraries + "/libb.so"), "bbb");
  EXPECT_EQ(ProgramCache::library_folder(path, {}), "");
  struct stat info {};
  ASSERT_EQ(::stat(path.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0222, 0u);
}

TEST_F(ProgramCacheTest, WhatIsHereIsNotFetchedAgain) {
  cache->start(job(1, "one", {{"lib.so", "shared"}}), 7);
  EXPECT_EQ(serve({"one", "shared"}), 2);
  cache->start(job(2, "two", {{"lib.so", "shared"}}), 8);
  EXPECT_EQ(serve({"two"}), 1);
  cache->release(1);
  cache->release(2);
  EXPECT_FALSE(fs::exists(*done[1][0]));
  EXPECT_FALSE(fs::exists(*done[2][0]));
  cache->start(job(3, "one", {{"lib.so", "shared"}}), 9);  // kept since
  EXPECT_THAT(asked, IsEmpty());
  EXPECT_EQ(content(*done[3][0]), "one");
  cache->start(job(3, "one", {{"lib.so", "shared"}}), 9);  // asked for again
  ASSERT_THAT(done[3], SizeIs(2));
  EXPECT_EQ(*done[3][1], *done[3][0]);
}

TEST_F(ProgramCacheTest, TheOldestGoWhenMoreIsKeptThanMayBe) {
  make(5);
  for (uint64_t number : {1, 2, 3}) {
    const std::string program = "p" + std::to_string(number);
    cache->start(job(number, program), 7);
    serve({program});
    cache->release(number);
  }
  cache->start(job(4, "p3"), 7);
  cache->start(job(5, "p2"), 7);
  EXPECT_THAT(asked, IsEmpty());
  cache->start(job(6, "p1"), 7);
  EXPECT_THAT(asked, SizeIs(1));
  make(5);  // another life, the same folder
  EXPECT_FALSE(fs::exists(folder));
}

TEST_F(ProgramCacheTest, WhatIsNotWhatWasPromisedIsRefused) {
  cache->start(job(1, "right", {{"lib.so", "library"}}), 7);
  serve({"right"});
  ASSERT_THAT(asked, IsEmpty());
  cache->on_chunk(7, {.status = {}, .hash = hash_of("library"), .offset = 0, .bytes = "rubbish"});
  EXPECT_THAT(failure(1).message(), HasSubstr("promised"));
  EXPECT_FALSE(fs::exists(folder + "/parts/" + hash_of("library")));
  // Nothing of it is left: it is fetched anew.
  done.clear();
  cache->start(job(1, "right", {{"lib.so", "library"}}), 7);
  EXPECT_EQ(serve({"right", "library"}), 1);
  EXPECT_TRUE(done[1][0].ok());
}

TEST_F(ProgramCacheTest, AnothersPartThatFailsIsFetchedFromOnesOwnNode) {
  cache->start(job(1, "one", {{"lib.so", "library"}}), 7);
  cache->start(job(2, "two", {{"lib.so", "library"}}), 8);
  serve({"one", "two"});
  asked.clear();
  cache->on_chunk(8, {.status = {}, .hash = hash_of("library"), .offset = 0, .bytes = "library"});  // was not asked
  cache->on_chunk(7, {.status = {}, .hash = hash_of("library"), .offset = 0, .bytes = "rubbish"});
  EXPECT_FALSE(failure(1).ok());
  EXPECT_FALSE(done.contains(2));
  ASSERT_THAT(asked, SizeIs(1));
  EXPECT_EQ(asked[0].first, 8u);
  serve({"library"});
  EXPECT_TRUE(done[2][0].ok());

  cache->start(job(3, "three"), 7);
  cache->start(job(4, "three"), 9);
  asked.clear();
  cache->on_node_lost(7, Status(Code::kDied, "lost"));
  EXPECT_EQ(failure(3).code(), Code::kDied);
  serve({"three"});
  EXPECT_TRUE(done[4][0].ok());
}

TEST_F(ProgramCacheTest, OddNamesAndSizesAreRefused) {
  uint64_t number = 0;
  for (const char* name : {"", ".", "..", "../x", "a/b", "/etc/ld.so.preload"}) {
    cache->start(job(++number, "p", {{name, "library"}}), 7);
    EXPECT_EQ(failure(number).code(), Code::kInvalid) << name;
    wire::JobSpec spec = job(++number, "p");
    spec.program_name = name;
    cache->start(spec, 7);
    EXPECT_EQ(failure(number).code(), Code::kInvalid) << name;
  }
  wire::JobSpec spec = job(100, "p", {{"lib.so", "library"}});
  spec.libraries[0].hash = "../../" + std::string(58, 'a');
  cache->start(spec, 7);
  EXPECT_THAT(failure(100).message(), HasSubstr("hash"));
  spec = job(101, "p");
  for (size_t i = 0; i <= wire::kMaxLibraries; ++i) spec.libraries.push_back({std::to_string(i), hash_of("x"), 1});
  cache->start(spec, 7);
  EXPECT_THAT(failure(101).message(), HasSubstr("at most 256"));
  cache->start(job(102, "p"), 7);
  spec = job(103, "p");
  spec.program_bytes = 2;
  cache->start(spec, 7);
  EXPECT_THAT(failure(103).message(), HasSubstr("has 1 bytes"));
  for (int i = 0; i < 3; ++i) {
    spec = job(104 + i, "p" + std::to_string(i));
    spec.program_bytes = wire::kMaxPartBytes;
    spec.libraries = {{"big.so", hash_of("big" + std::to_string(i)), wire::kMaxPartBytes}};
    cache->start(spec, 7);
  }
  EXPECT_EQ(failure(106).code(), Code::kFull);
}

TEST_F(ProgramCacheTest, ADriversFilesAreServedByTheirContent) {
  fs::create_directories(folder);
  std::ofstream(folder + "/prog") << "program";
  std::ofstream(folder + "/lib.so") << "library";
  Result<ServedProgram> served = ServedProgram::open(folder + "/prog", {folder + "/lib.so"});
  ASSERT_TRUE(served.ok());
  fs::remove(folder + "/lib.so");  // gone, and still served
  ASSERT_TRUE(served->measure().ok());
  wire::JobSpec spec;
  served->describe(spec);
  EXPECT_EQ(spec.program_hash, hash_of("program"));
  EXPECT_THAT(spec.libraries, ElementsAre(wire::ProgramLibrary{"lib.so", hash_of("library"), 7}));
  EXPECT_EQ(*served->chunk(hash_of("library"), 3), "rary");
  EXPECT_EQ(served->chunk(hash_of("library"), 7).status().code(), Code::kInvalid);
  EXPECT_EQ(served->chunk(hash_of("other"), 0).status().code(), Code::kNotFound);
  const auto missing = ServedProgram::open(folder + "/prog", {folder + "/lib.so"});
  EXPECT_THAT(missing.status().message(), HasSubstr("lib.so"));
}

TEST(FindFirst, ComesBeforeWhatIsThere) {
  ::unsetenv("LD_LIBRARY_PATH");
  std::map<std::string, std::string> env;
  find_first(env, "");
  EXPECT_THAT(env, IsEmpty());
  find_first(env, "/cache/lib");
  EXPECT_EQ(env["LD_LIBRARY_PATH"], "/cache/lib");
  EXPECT_EQ(env["MANTA_LIBRARIES"], "/cache/lib");
  env = {{"LD_LIBRARY_PATH", "/own"}};
  find_first(env, "/cache/lib");
  EXPECT_EQ(env["LD_LIBRARY_PATH"], "/cache/lib:/own");
}

}  // namespace
}  // namespace manta::raylet

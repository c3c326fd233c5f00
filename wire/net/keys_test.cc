#include "wire/net/keys.h"
#include "wire/net/key_records.h"
#include "wire/net/endpoint.h"
#include "wire/net/own_keys.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <thread>
#include <vector>

namespace manta::wire {
namespace {

class Keys : public ::testing::Test {
 protected:
  Keys() {
    std::string name = ::testing::TempDir() + "manta-keys-XXXXXX";
    folder_ = ::mkdtemp(name.data());
  }
  ~Keys() override { std::filesystem::remove_all(folder_); }
  [[nodiscard]] std::string path(const std::string& name) const { return folder_ + "/" + name; }

  std::string folder_;
};

JoinToken some_token() {
  return {LinkRole::kDriver, "tcp://head.example:7777", make_keys().value().public_key, make_keys().value()};
}

// Each process of a user that comes first makes the pair: several at once must not go to the head with one each.
TEST_F(Keys, WhoeverComesAtOnceHasTheSamePair) {
  for (int round = 0; round < 20; ++round) {
    const std::string folder = path("round-" + std::to_string(round));
    std::vector<Result<LinkKeys>> found(8, Status(Code::kInternal, "did not run"));
    {
      std::vector<std::jthread> threads;
      for (Result<LinkKeys>& one : found) threads.emplace_back([&] { one = own_keys(folder, true); });
    }
    for (const Result<LinkKeys>& one : found) {
      ASSERT_TRUE(one.ok()) << one.status().to_string();
      EXPECT_EQ(one->public_key, found[0]->public_key);
    }
    EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder), {}), 1);
  }
}

TEST_F(Keys, APairIsStoredForItsOwnerOnly) {
  const LinkKeys keys = make_keys().value();
  EXPECT_TRUE(check_keys(keys).ok());
  ASSERT_TRUE(save_keys(path("keys"), keys).ok());
  struct stat about {};
  ASSERT_EQ(::stat(path("keys").c_str(), &about), 0);
  EXPECT_EQ(about.st_mode & 0777, 0600u);
  const LinkKeys loaded = load_keys(path("keys")).value();
  EXPECT_EQ(loaded.public_key, keys.public_key);
  EXPECT_EQ(loaded.secret_key, keys.secret_key);
  EXPECT_EQ(save_keys(path("keys"), keys).code(), Code::kExists);
}

TEST_F(Keys, AFileThatOthersMayReadIsRefused) {
  ASSERT_TRUE(save_keys(path("keys"), make_keys().value()).ok());
  for (const mode_t mode : {0640u, 0604u, 0660u}) {
    ASSERT_EQ(::chmod(path("keys").c_str(), mode), 0);
    EXPECT_EQ(load_keys(path("keys")).status().code(), Code::kInvalid);
  }
  EXPECT_EQ(load_keys(path("none")).status().code(), Code::kNotFound);
}

TEST_F(Keys, AFileWithoutAPairIsRefused) {
  const LinkKeys keys = make_keys().value();
  const LinkKeys others = make_keys().value();
  int number = 0;
  for (const std::string& text :
       {std::string(), std::string("\n\n"), keys.public_key, keys.public_key + "\n" + others.secret_key,
        keys.public_key + "\n" + keys.secret_key + "\nmore", std::string(100'000, 'x')}) {
    const std::string file = path(std::to_string(++number));
    std::ofstream(file) << text;
    ASSERT_EQ(::chmod(file.c_str(), 0600), 0);
    EXPECT_EQ(load_keys(file).status().code(), Code::kInvalid) << number;
  }
}

TEST_F(Keys, KeysThatDoNotBelongTogetherAreRefused) {
  const LinkKeys keys = make_keys().value();
  EXPECT_FALSE(check_keys({keys.public_key, make_keys().value().secret_key}).ok());
  EXPECT_FALSE(check_keys({keys.public_key, ""}).ok());
  EXPECT_FALSE(check_keys({"short", keys.secret_key}).ok());
  EXPECT_TRUE(check_keys({}).ok());
  EXPECT_FALSE(is_key(std::string(40, ' ')));
}

TEST_F(Keys, ATokenIsReadAsItWasWritten) {
  for (int i = 0; i < 50; ++i) {  // keys may hold points, of which fields are made too
    const JoinToken token = some_token();
    const auto parsed = parse_token("  " + token_text(token) + "\n");
    ASSERT_TRUE(parsed.ok()) << parsed.status().to_string();
    EXPECT_EQ(parsed->role, LinkRole::kDriver);
    EXPECT_EQ(parsed->head_endpoint, token.head_endpoint);
    EXPECT_EQ(parsed->head_public_key, token.head_public_key);
    EXPECT_EQ(parsed->keys.secret_key, token.keys.secret_key);
  }
  const JoinToken token = some_token();
  ASSERT_TRUE(save_token(path("token"), token).ok());
  EXPECT_EQ(load_token(path("token"))->keys.public_key, token.keys.public_key);
}

TEST_F(Keys, WhatIsNoTokenIsRefusedAndNotRepeated) {
  const std::string good = token_text(some_token());
  for (size_t size = 0; size < good.size(); ++size) EXPECT_FALSE(parse_token(good.substr(0, size)).ok()) << size;
  for (size_t at = 0; at < good.size(); ++at) {
    std::string bad = good;
    bad[at] = '\x7f';
    const auto parsed = parse_token(bad);
    EXPECT_EQ(parsed.status().code(), Code::kInvalid) << at;
    EXPECT_EQ(parsed.status().message().find(good.substr(good.size() - 40, 20)), std::string::npos);
  }
  EXPECT_FALSE(parse_token(std::string(1 << 20, '.')).ok());
}

TEST(KeyRecord, TakesANameOfAnyBytes) {
  const std::string key = make_keys().value().public_key;
  for (const std::string& name :
       {std::string("\xff\xc3"), std::string(10'000, '\0'), std::string(10'000, '"'), std::string()}) {
    const std::string text = record_text({.role = LinkRole::kDriver, .public_key = key, .name = name, .expires_s = 9});
    EXPECT_LT(text.size(), 4'096u);
    const KeyRecord record = parse_record(text).value();
    EXPECT_EQ(record.public_key, key);
    EXPECT_EQ(record.expires_s, 9);
  }
  EXPECT_FALSE(parse_record("{}").ok());
  EXPECT_FALSE(parse_record("[").ok());
}

TEST(Endpoint, IsTakenApart) {
  EXPECT_EQ(parse_endpoint("tcp://[::1]:80")->host, "::1");
  EXPECT_EQ(parse_endpoint("tcp://[::1]:80")->text(), "tcp://[::1]:80");
  EXPECT_EQ(parse_endpoint("tcp://a-host.example:*")->port, "*");
  for (const char* text : {"", "tcp://", "tcp://:1", "tcp://a", "tcp://a:", "tcp://a:70000", "tcp://a:-1", "udp://a:1",
                           "tcp://a b:1", "tcp://a:1:2", "tcp://[]:1", "ipc:///tmp/x", "tcp://a;b:1"})
    EXPECT_FALSE(parse_endpoint(text).ok()) << text;
}

TEST(Endpoint, KnowsLoopback) {
  for (const char* text : {"tcp://127.0.0.1:1", "tcp://127.9.9.9:*", "tcp://[::1]:1"})
    EXPECT_TRUE(parse_endpoint(text)->is_loopback()) << text;
  for (const char* text : {"tcp://*:1", "tcp://0.0.0.0:1", "tcp://localhost:1", "tcp://128.0.0.1:1", "tcp://[::]:1",
                           "tcp://lo:1", "tcp://127.1.example:1"})
    EXPECT_FALSE(parse_endpoint(text)->is_loopback()) << text;
}

}  // namespace
}  // namespace manta::wire

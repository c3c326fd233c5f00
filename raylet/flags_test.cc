#include "raylet/flags.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace manta::raylet {
namespace {

using ::testing::HasSubstr;

Result<NodeOptions> parse(std::vector<std::string> texts) {
  texts.insert(texts.begin(), "mantad");
  std::vector<char*> arguments;
  for (std::string& text : texts) arguments.push_back(text.data());
  return parse_flags(static_cast<int>(arguments.size()), arguments.data());
}

TEST(Flags, ReadsEverything) {
  const auto options =
      parse({"--local", "--driver-fd", "4", "--session-dir", "/s", "--cpus", "1.5", "--gpus", "2", "--memory", "1000",
             "--store-bytes", "5000", "--store-warm-bytes", "0", "--resources", "tpu=2,disk=0.5"});
  ASSERT_TRUE(options.ok()) << options.status().to_string();
  EXPECT_EQ(options->driver_fd, 4);
  EXPECT_EQ(options->session_dir, "/s");
  EXPECT_EQ(options->capacity.cpus, 15'000);
  EXPECT_EQ(options->capacity.devices.size(), 2u);
  EXPECT_EQ(options->capacity.memory_bytes, 1000);
  EXPECT_EQ(options->store_bytes, 5000u);
  EXPECT_EQ(options->store_warm_bytes, 0u);
  EXPECT_EQ(options->capacity.custom.at("tpu"), 20'000);
  EXPECT_EQ(options->capacity.custom.at("disk"), 5'000);
}

TEST(Flags, NamesTheFlagThatIsWrong) {
  const std::vector<std::string> good{"--local", "--driver-fd", "4", "--session-dir", "/s"};
  const std::vector<std::pair<std::vector<std::string>, std::string>> cases{{{"--cpus", "two"}, "two"},
                                                                            {{"--cpus", "-1"}, "-1"},
                                                                            {{"--gpus", "1.5"}, "--gpus"},
                                                                            {{"--memory", ""}, "--memory"},
                                                                            {{"--resources", "tpu"}, "tpu"},
                                                                            {{"--resources", "=1"}, "=1"},
                                                                            {{"--frobnicate", "1"}, "--frobnicate"},
                                                                            {{"--cpus"}, "--cpus"},
                                                                            {{"--gpus", "99999999"}, "at most"}};
  for (const auto& [extra, expected] : cases) {
    std::vector<std::string> all = good;
    all.insert(all.end(), extra.begin(), extra.end());
    const auto options = parse(all);
    ASSERT_FALSE(options.ok()) << expected;
    EXPECT_THAT(options.status().message(), HasSubstr(expected));
  }
  EXPECT_FALSE(parse({}).ok());
}

}  // namespace
}  // namespace manta::raylet

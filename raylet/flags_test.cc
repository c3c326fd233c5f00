#include "raylet/flags.h"

#include "common/check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace manta::raylet {
namespace {

using ::testing::HasSubstr;

Result<Flags> parse_all(std::vector<std::string> texts) {
  texts.insert(texts.begin(), "mantad");
  std::vector<char*> arguments;
  for (std::string& text : texts) arguments.push_back(text.data());
  return parse_flags(static_cast<int>(arguments.size()), arguments.data());
}

Result<NodeOptions> parse(std::vector<std::string> texts) {
  MANTA_ASSIGN_OR_RETURN(Flags flags, parse_all(std::move(texts)));
  return std::move(flags.node);
}

TEST(Flags, KnowsThePartsOfACluster) {
  const auto head = parse_all({"--head", "--listen", "tcp://127.0.0.1:7000", "--state-dir", "/s"});
  ASSERT_TRUE(head.ok() && head->cluster) << head.status().to_string();
  EXPECT_TRUE(head->cluster->is_head);
  EXPECT_EQ(head->node.driver_fd, -1);
  const auto node = parse_all({"--address", "tcp://a:1", "--labels", "zone=a,disk=fast", "--cpus", "3"});
  ASSERT_TRUE(node.ok() && node->cluster) << node.status().to_string();
  EXPECT_EQ(node->cluster->labels.at("disk"), "fast");
  EXPECT_EQ(node->node.capacity.cpus, 30'000);
  const auto driver = parse_all({"--address", "tcp://a:1", "--driver-fd", "3", "--session-dir", "/s"});
  ASSERT_TRUE(driver.ok()) << driver.status().to_string();
  EXPECT_EQ(driver->node.capacity.cpus, 0);  // a driver's node takes no work
  for (const std::vector<std::string>& wrong :
       std::vector<std::vector<std::string>>{{"--head", "--address", "tcp://a:1"},
                                             {"--head", "--driver-fd", "3"},
                                             {"--address", "tcp://a:1", "--labels", "zone"}})
    EXPECT_FALSE(parse_all(wrong).ok());
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

#include "wire/quota.h"

#include <gtest/gtest.h>

namespace manta::wire {
namespace {

TEST(Quota, ReadsWhatPeopleWrite) {
  const Amounts quota = parse_quota("cpus=8,gpus=0.5,memory=1000,licence=2").value();
  EXPECT_EQ(quota, (Amounts{{"cpus", 80'000}, {"gpus", 5'000}, {"memory", 1'000}, {"licence", 20'000}}));
  EXPECT_EQ(describe_amounts(quota), "8 CPUs, 0.5 GPUs, 2 licence, 1000 bytes of memory");
  EXPECT_TRUE(parse_quota("").value().empty());
  for (const char* bad : {"cpus", "=1", "cpus=", "cpus=x", "cpus=-1", "cpus=1e300", "cpus=nan", "cpus=1;gpus=2"})
    EXPECT_EQ(parse_quota(bad).status().code(), Code::kInvalid) << bad;
}

TEST(Quota, CountsWhatIsLimited) {
  const Amounts quota{{"cpus", 20'000}, {"licence", 10'000}};
  Resources demand;
  demand.cpus = 10'000;
  demand.gpus = 10'000;
  demand.custom["licence"] = 10'000;
  demand.custom["other"] = 10'000;
  const Amounts part = limited_part(quota, demand);
  EXPECT_EQ(part, (Amounts{{"cpus", 10'000}, {"licence", 10'000}}));
  EXPECT_EQ(kind_above(quota, {}, part), "");
  EXPECT_EQ(kind_above(quota, part, part), "licence");
  EXPECT_EQ(kind_above(quota, {{"cpus", 15'000}}, part), "cpus");
  EXPECT_TRUE(beyond_quota(quota, part).ok());
  const Status beyond = beyond_quota(quota, {{"cpus", 30'000}});
  EXPECT_EQ(beyond.code(), Code::kInvalid);
  EXPECT_NE(beyond.message().find("asks for 3 CPUs, the quota is 2 CPUs"), std::string::npos) << beyond.message();
  EXPECT_EQ(tighter(quota, {{"cpus", 10'000}, {"gpus", 5'000}}),
            (Amounts{{"cpus", 10'000}, {"gpus", 5'000}, {"licence", 10'000}}));
  EXPECT_FALSE(is_sane({{"cpus", -1}}));
}

}  // namespace
}  // namespace manta::wire

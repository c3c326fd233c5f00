#include "raylet/job_user.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <string>

namespace manta::raylet {
namespace {

TEST(JobUser, IsSomebodyElse) {
  if (::geteuid() != 0) {
    EXPECT_NE(find_job_user("nobody").status().message().find("runs as root"), std::string::npos);
    return;
  }
  EXPECT_NE(find_job_user("no-such-user").status().message().find("no user 'no-such-user'"), std::string::npos);
  EXPECT_NE(find_job_user("root").status().message().find("is root"), std::string::npos);
  ASSERT_TRUE(find_job_user("nobody").ok());
  EXPECT_EQ(find_job_user("nobody")->uid, 65'534u);
}

TEST(JobUser, MayRunWhatItCanReach) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root becomes another user";
  const JobUser nobody = find_job_user("nobody").value();
  char folder[] = "/tmp/manta-job-user-XXXXXX";
  ASSERT_NE(::mkdtemp(folder), nullptr);
  const std::string program = std::string(folder) + "/program";
  std::ofstream(program) << "#!/bin/sh\n";
  ::chmod(program.c_str(), 0755);
  const Status closed = check_may_run(nobody, program);  // a folder of mode 0700
  EXPECT_EQ(closed.code(), Code::kInvalid);
  EXPECT_NE(closed.message().find("'nobody' may not run " + program + " (Permission denied)"), std::string::npos)
      << closed.message();
  ::chmod(folder, 0711);
  EXPECT_TRUE(check_may_run(nobody, program).ok());
  ::chmod(program.c_str(), 0744);
  EXPECT_EQ(check_may_run(nobody, program).code(), Code::kInvalid);
  EXPECT_NE(check_may_run(nobody, program + "-not").message().find("No such file"), std::string::npos);
  ::unlink(program.c_str()), ::rmdir(folder);
}

}  // namespace
}  // namespace manta::raylet

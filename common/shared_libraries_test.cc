#include "common/shared_libraries.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace manta {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

TEST(SharedLibraries, TheSystemsStayWhereTheyAre) {
  EXPECT_TRUE(is_system_library("/lib/x86_64-linux-gnu/libz.so.1"));
  EXPECT_TRUE(is_system_library("/usr/lib/libfoo.so"));
  EXPECT_TRUE(is_system_library("/opt/gcc/lib64/libstdc++.so.6"));
  EXPECT_TRUE(is_system_library("/opt/libc.so.6"));
  EXPECT_FALSE(is_system_library("/usr/local/lib/libfoo.so"));
  EXPECT_FALSE(is_system_library("/opt/torch/lib/libc10.so"));
  EXPECT_FALSE(is_system_library("/home/lib/libcurl.so.4"));
}

TEST(SharedLibraries, TheLoaderIsAskedAndTheProgramDoesNotRun) {
  const auto own = needed_libraries("/proc/self/exe");
  ASSERT_TRUE(own.ok()) << own.status().to_string();
  for (const SharedLibrary& library : *own) EXPECT_TRUE(std::filesystem::exists(library.path)) << library.path;
  EXPECT_EQ(own->size(), loaded_libraries().size());
  const std::string text = std::filesystem::temp_directory_path() / ("no-program-" + std::to_string(::getpid()));
  std::ofstream(text) << "#!/bin/sh\n";
  EXPECT_EQ(needed_libraries(text).status().code(), Code::kInvalid);
  std::filesystem::remove(text);
  EXPECT_EQ(needed_libraries(text).status().code(), Code::kInvalid);
}

TEST(SharedLibraries, TwoOfOneNameAreRefused) {
  EXPECT_THAT(*with_needed({{"a.so", "/proc/self/exe"}, {"a.so", "/proc/self/exe"}}, {}), SizeIs(1));
  EXPECT_THAT(with_needed({{"a.so", "/proc/self/exe"}, {"a.so", "/bin/true"}}, {}).status().message(),
              HasSubstr("/bin/true"));
  EXPECT_THAT(*with_needed({}, {}), IsEmpty());
}

}  // namespace
}  // namespace manta

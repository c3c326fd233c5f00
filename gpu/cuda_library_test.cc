#include "gpu/cuda_library.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

namespace manta::gpu {
namespace {

TEST(CudaLibrary, AMissingOneIsUnavailable) {
  EXPECT_EQ(load_cuda_library({"/nonexistent/libmanta_cuda.so"}).status().code(), Code::kUnavailable);
  EXPECT_EQ(load_cuda_library({}).status().code(), Code::kUnavailable);
}

TEST(CudaLibrary, AFileThatIsNoLibraryIsUnavailableAndNamed) {
  const std::string path = ::testing::TempDir() + "/manta_not_a_library.so";
  std::ofstream(path) << "not an ELF file";
  const Status status = load_cuda_library({path}).status();
  EXPECT_EQ(status.code(), Code::kUnavailable);
  EXPECT_NE(status.message().find(path), std::string::npos) << status.message();
  std::filesystem::remove(path);
}

TEST(CudaLibrary, AnotherLibraryIsUnavailable) {
  const std::string path = "/lib/x86_64-linux-gnu/libm.so.6";
  ASSERT_TRUE(std::filesystem::exists(path));
  EXPECT_EQ(load_cuda_library({path}).status().code(), Code::kUnavailable);
}

// The CUDA code is built on every machine, so its library has to load on one without a driver, and then say that it has
// none.
TEST(CudaLibrary, LoadsWithoutADriverAndSaysSo) {
  if (!std::filesystem::exists(MANTA_CUDA_BUILT_AT)) GTEST_SKIP() << "built without nvcc";
  const Result<const MantaCudaTable*> library = load_cuda_library({"/nonexistent", MANTA_CUDA_BUILT_AT});
  ASSERT_TRUE(library.ok()) << library.status().to_string();
  const MantaCudaTable& cuda = **library;
  EXPECT_EQ(cuda.abi, MANTA_CUDA_ABI);
  int count = -1;
  const Status status = cuda_status(cuda, cuda.device_count(&count), "counting");
  EXPECT_TRUE(status.ok() ? count > 0 : status.code() == Code::kUnavailable) << status.to_string();
}

TEST(CudaLibrary, ErrorsBecomeWhatTheCallerDoesNext) {
  const Result<const MantaCudaTable*> library = cuda_library();
  if (!library.ok()) GTEST_SKIP() << library.status().message();
  EXPECT_TRUE(cuda_status(**library, 0, "x").ok());
  EXPECT_EQ(cuda_status(**library, 2, "x").code(), Code::kFull);
  EXPECT_EQ(cuda_status(**library, 1, "x").code(), Code::kInvalid);
  EXPECT_EQ(cuda_status(**library, 100, "x").code(), Code::kUnavailable);
  EXPECT_EQ(cuda_status(**library, 700, "x").code(), Code::kIo);
}

}  // namespace
}  // namespace manta::gpu

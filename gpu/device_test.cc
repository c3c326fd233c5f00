// One suite for every backend: what passes on the CPU twin has to pass on a GPU. Without one, the CUDA half reports itself
// skipped.
#include "gpu/device.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <numeric>
#include <vector>

#include "gpu/discover.h"

namespace manta::gpu {
namespace {

using namespace std::chrono_literals;
constexpr auto kLimit = 60s;  // a bound on a hang, not an expectation
constexpr size_t kMega = size_t{1} << 20;

class DeviceTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    std::vector<DeviceInfo> devices;
    std::string why;
    if (GetParam() == "cuda") {
      devices = discover_devices(&why);
      if (devices.empty()) GTEST_SKIP() << why;
    } else {
      devices = logical_devices(1, 64 * kMega);
    }
    Result<std::unique_ptr<Device>> device = open_device(devices[0]);
    ASSERT_TRUE(device.ok()) << device.status().to_string();
    device_ = *std::move(device);
    stream_ = new_stream();
  }

  std::unique_ptr<Stream> new_stream() { return device_->new_stream().value(); }
  std::unique_ptr<Event> new_event() { return device_->new_event().value(); }
  DeviceBuffer allocate(size_t size_bytes) { return device_->memory().allocate(size_bytes).value(); }

  template <typename T>
  DeviceBuffer to_device(const std::vector<T>& values) {
    DeviceBuffer buffer = allocate(values.size() * sizeof(T));
    EXPECT_TRUE(stream_->copy_to_device(buffer, 0, values.data(), buffer.size_bytes()).ok());
    EXPECT_TRUE(stream_->synchronize(kLimit).ok());
    return buffer;
  }

  template <typename T>
  std::vector<T> to_host(const DeviceBuffer& buffer) {
    std::vector<T> values(buffer.size_bytes() / sizeof(T));
    EXPECT_TRUE(stream_->copy_to_host(values.data(), buffer, 0, values.size() * sizeof(T)).ok());
    EXPECT_TRUE(stream_->synchronize(kLimit).ok());
    return values;
  }

  std::unique_ptr<Device> device_;
  std::unique_ptr<Stream> stream_;
};

TEST_P(DeviceTest, KnowsItself) {
  EXPECT_FALSE(device_->info().uuid.empty());
  EXPECT_FALSE(device_->info().name.empty());
  const MemoryUse use = device_->memory().use().value();
  EXPECT_GT(use.total_bytes, 0u);
  EXPECT_LE(use.free_bytes, use.total_bytes);
}

TEST_P(DeviceTest, BytesComeBackAsTheyWent) {
  std::vector<uint32_t> values(1'000'003);
  std::iota(values.begin(), values.end(), 7u);
  EXPECT_EQ(to_host<uint32_t>(to_device(values)), values);
}

TEST_P(DeviceTest, CopiesPartsAtOffsets) {
  DeviceBuffer buffer = allocate(16);
  ASSERT_TRUE(stream_->fill(buffer, 0xEE).ok());
  ASSERT_TRUE(stream_->copy_to_device(buffer, 4, "abcd", 4).ok());
  char middle[3] = {};
  ASSERT_TRUE(stream_->copy_to_host(middle, buffer, 5, 2).ok());
  ASSERT_TRUE(stream_->synchronize(kLimit).ok());
  EXPECT_STREQ(middle, "bc");
  const std::vector<uint8_t> all = to_host<uint8_t>(buffer);
  EXPECT_EQ(all[3], 0xEE);
  EXPECT_EQ(all[4], 'a');
  EXPECT_EQ(all[8], 0xEE);
}

TEST_P(DeviceTest, RefusesRangesOutsideTheBuffer) {
  DeviceBuffer buffer = allocate(16);
  char host[64] = {};
  for (const auto& [offset, size] :
       std::vector<std::pair<size_t, size_t>>{{0, 17}, {16, 1}, {17, 0}, {1, SIZE_MAX}, {SIZE_MAX, 2}}) {
    EXPECT_EQ(stream_->copy_to_device(buffer, offset, host, size).code(), Code::kInvalid) << offset << " " << size;
    EXPECT_EQ(stream_->copy_to_host(host, buffer, offset, size).code(), Code::kInvalid) << offset << " " << size;
  }
  EXPECT_EQ(stream_->normalize_rows(buffer, 5, 1).code(), Code::kInvalid);
  EXPECT_EQ(stream_->normalize_rows(buffer, SIZE_MAX / 2, 8).code(), Code::kInvalid);
  EXPECT_TRUE(stream_->copy_to_device(buffer, 16, host, 0).ok());
}

TEST_P(DeviceTest, MemoryIsBoundedAndComesBack) {
  const uint64_t total = device_->memory().use()->total_bytes;
  EXPECT_EQ(device_->memory().allocate(0).status().code(), Code::kInvalid);
  EXPECT_EQ(device_->memory().allocate(total + 1).status().code(), Code::kFull);
  EXPECT_EQ(device_->memory().allocate(SIZE_MAX / 2).status().code(), Code::kFull);
  const uint64_t before = device_->memory().use()->free_bytes;
  {
    DeviceBuffer held = allocate(32 * kMega);
    EXPECT_LE(device_->memory().use()->free_bytes, before - 32 * kMega);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(held.address()) % 256, 0u);
    DeviceBuffer moved = std::move(held);
    EXPECT_EQ(held.address(), nullptr);  // NOLINT(bugprone-use-after-move): what a moved-from buffer is, is the question
  }
  EXPECT_EQ(device_->memory().use()->free_bytes, before);
  EXPECT_EQ(to_host<uint8_t>(to_device(std::vector<uint8_t>{1, 2})),
            (std::vector<uint8_t>{1, 2}));  // still works after a refusal
}

TEST_P(DeviceTest, NormalizesRows) {
  for (const size_t columns : {1, 3, 384, 1000}) {
    std::vector<float> matrix(5 * columns);
    for (size_t i = 0; i < matrix.size(); ++i) matrix[i] = static_cast<float>(i % 17) - 8;
    std::fill_n(matrix.begin() + static_cast<ptrdiff_t>(2 * columns), columns, 0.0f);
    DeviceBuffer buffer = to_device(matrix);
    ASSERT_TRUE(stream_->normalize_rows(buffer, 5, columns).ok());
    const std::vector<float> result = to_host<float>(buffer);
    for (size_t row = 0; row < 5; ++row) {
      double norm = 0;
      for (size_t i = row * columns; i < (row + 1) * columns; ++i) norm += double{matrix[i]} * matrix[i];
      for (size_t i = row * columns; i < (row + 1) * columns; ++i) {
        const double expected = norm == 0 ? 0 : matrix[i] / std::sqrt(norm);
        ASSERT_NEAR(result[i], expected, 1e-6) << "row " << row << " of " << columns << " columns";
      }
    }
  }
}

TEST_P(DeviceTest, AStreamKeepsItsOrder) {
  DeviceBuffer buffer = allocate(8 * kMega);
  for (int i = 0; i < 200; ++i) ASSERT_TRUE(stream_->fill(buffer, static_cast<uint8_t>(i)).ok());
  const std::vector<uint8_t> bytes = to_host<uint8_t>(buffer);
  EXPECT_EQ(bytes, std::vector<uint8_t>(8 * kMega, 199));
}

TEST_P(DeviceTest, AStreamWaitsForAnEventOfAnother) {
  DeviceBuffer buffer = allocate(8 * kMega);
  const std::unique_ptr<Stream> other = new_stream();
  for (int round = 0; round < 10; ++round) {
    const std::unique_ptr<Event> written = new_event();
    for (int i = 0; i < 20; ++i) ASSERT_TRUE(other->fill(buffer, static_cast<uint8_t>(round)).ok());
    ASSERT_TRUE(other->record(*written).ok());
    ASSERT_TRUE(stream_->wait_for(*written).ok());
    const std::vector<uint8_t> bytes = to_host<uint8_t>(buffer);
    ASSERT_EQ(bytes, std::vector<uint8_t>(8 * kMega, static_cast<uint8_t>(round)));
    EXPECT_TRUE(written->is_done().value());
  }
}

TEST_P(DeviceTest, EventsMeasureTime) {
  const std::unique_ptr<Event> start = new_event();
  const std::unique_ptr<Event> end = new_event();
  EXPECT_TRUE(start->is_done().value()) << "never recorded";
  EXPECT_FALSE(device_->elapsed_ms(*start, *end).ok()) << "never recorded";
  DeviceBuffer buffer = allocate(8 * kMega);
  ASSERT_TRUE(stream_->record(*start).ok());
  ASSERT_TRUE(stream_->fill(buffer, 1).ok());
  ASSERT_TRUE(stream_->record(*end).ok());
  ASSERT_TRUE(stream_->synchronize(kLimit).ok());
  EXPECT_GE(device_->elapsed_ms(*start, *end).value(), 0.0);
  EXPECT_EQ(device_->elapsed_ms(*start, *start).value(), 0.0);
}

TEST_P(DeviceTest, AWaitThatTimesOutLosesNothing) {
  DeviceBuffer buffer = allocate(32 * kMega);
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(stream_->fill(buffer, static_cast<uint8_t>(i)).ok());
  const Status early = stream_->synchronize(0ms);
  EXPECT_TRUE(early.ok() || early.code() == Code::kTimeout) << early.to_string();
  EXPECT_EQ(to_host<uint8_t>(buffer).back(), 99);
}

TEST_P(DeviceTest, RegisteredHostMemoryIsCopiedFrom) {
  std::vector<uint8_t> host(4 * kMega, 0x5A);
  Result<HostRegistration> registration = device_->memory().register_host(host.data(), host.size());
  ASSERT_TRUE(registration.ok()) << registration.status().to_string();
  EXPECT_EQ(to_host<uint8_t>(to_device(host)), host);
  EXPECT_EQ(device_->memory().register_host(nullptr, 5).status().code(), Code::kInvalid);
}

INSTANTIATE_TEST_SUITE_P(Backends, DeviceTest, ::testing::Values("cpu", "cuda"),
                         [](const auto& backend) { return backend.param; });

TEST(CpuDevice, AFullQueueHoldsTheCallerBackAndLosesNothing) {
  const std::unique_ptr<Device> device = open_device(logical_devices(1, kMega)[0]).value();
  const std::unique_ptr<Stream> stream = device->new_stream().value();
  DeviceBuffer buffer = device->memory().allocate(64).value();
  for (int i = 0; i < 10'000; ++i) ASSERT_TRUE(stream->fill(buffer, static_cast<uint8_t>(i)).ok());
  uint8_t last = 0;
  ASSERT_TRUE(stream->copy_to_host(&last, buffer, 63, 1).ok());
  ASSERT_TRUE(stream->synchronize(kLimit).ok());
  EXPECT_EQ(last, static_cast<uint8_t>(9'999));
}

TEST(Discover, LogicalDevicesAreSeparate) {
  const std::vector<DeviceInfo> devices = logical_devices(4, kMega);
  ASSERT_EQ(devices.size(), 4u);
  EXPECT_EQ(devices[3].uuid, "logical-3");
  const std::unique_ptr<Device> first = open_device(devices[0]).value();
  const std::unique_ptr<Device> second = open_device(devices[1]).value();
  const DeviceBuffer whole = first->memory().allocate(kMega).value();
  EXPECT_EQ(first->memory().allocate(1).status().code(), Code::kFull);
  EXPECT_TRUE(second->memory().allocate(kMega).ok());
}

TEST(Discover, NoGpuIsNoErrorAndSaysWhy) {
  std::string why;
  if (discover_devices(&why).empty()) {
    EXPECT_FALSE(why.empty());
  }
}

}  // namespace
}  // namespace manta::gpu

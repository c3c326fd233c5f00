#include "wire/frame.h"

#include <gtest/gtest.h>

#include <random>

namespace manta::wire {
namespace {

LeaseGranted sample() {
  return {
      .request = 7, .lease = 8, .worker = 9, .worker_pid = -1, .channel = 10, .new_channel = false, .devices = {1, 0, 3}};
}

TEST(Frame, MessagesComeBackAsTheyWere) {
  LeaseGranted back = decode<LeaseGranted>(encode(sample())).value();
  EXPECT_EQ(back.request, 7u);
  EXPECT_EQ(back.worker_pid, -1);
  EXPECT_FALSE(back.new_channel);
  EXPECT_EQ(back.devices, (std::vector<int32_t>{1, 0, 3}));

  RequestLease lease;
  lease.scheduling_class.resources.custom["tape drives"] = 3 * kWhole;
  lease.scheduling_class.env["A"] = std::string("\0b", 2);
  RequestLease lease_back = decode<RequestLease>(encode(lease)).value();
  EXPECT_EQ(lease_back.scheduling_class, lease.scheduling_class);
}

TEST(Frame, StatusCrossesWithCodeMessageAndOrigin) {
  Status status = Status(Code::kTaskFailed, "boom").with_origin_type("std::runtime_error");
  Status back = from_wire(decode<WireStatus>(encode(to_wire(status))).value());
  EXPECT_EQ(back.code(), Code::kTaskFailed);
  EXPECT_EQ(back.message(), "boom");
  EXPECT_EQ(back.origin_type(), "std::runtime_error");
  EXPECT_TRUE(from_wire(to_wire(Status())).ok());
  EXPECT_EQ(from_wire({200, "from the future", ""}).code(), Code::kInternal);
}

TEST(Frame, FieldsAppendedByANewerPeerAreLeftOut) {
  std::string longer("\x93\x05\xc3\xa1x", 5);  // [5, true, "x"]
  EXPECT_EQ(decode<ReturnLease>(longer).value().lease, 5u);
  EXPECT_EQ(decode<LeaseBlocked>(std::string("\x91\x05", 2)).value().blocked, true);  // a missing field keeps its default
}

TEST(Frame, EveryPrefixIsRefused) {
  std::string bytes = encode(sample());
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_EQ(decode<LeaseGranted>(std::string_view(bytes).substr(0, size)).status().code(), Code::kInvalid) << size;
  }
  EXPECT_EQ(decode<LeaseGranted>(bytes + "x").status().code(), Code::kInvalid);
}

TEST(Frame, CountsAreNotBelieved) {
  for (std::string_view hostile : {
           std::string_view("\xdd\xff\xff\xff\xff", 5),          // array of 4 billion
           std::string_view("\xdf\x80\x00\x00\x00", 5),          // map of 2 billion pairs
           std::string_view("\x91\xdb\xff\xff\xff\xff", 6),      // string of 4 GiB
           std::string_view("\x91\xc6\xff\xff\xff\xff", 6),      // binary of 4 GiB
           std::string_view("\x92\xdd\x00\x00\x00\x05\x01", 7),  // array of 5 with 1 byte left
           std::string_view("\xc1", 1),
           std::string_view("\xc7\x01\x05x", 4),
           std::string_view("\xd4\x05x", 3),
       }) {
    EXPECT_EQ(decode<LeaseGranted>(hostile).status().code(), Code::kInvalid);
  }
}

TEST(Frame, DepthIsCapped) {
  auto nested = [](int depth) { return std::string(static_cast<size_t>(depth), '\x91') + "\x05"; };
  EXPECT_TRUE(detail::parse(nested(kMaxDepth)).ok());
  EXPECT_EQ(detail::parse(nested(kMaxDepth + 1)).status().code(), Code::kInvalid);
  EXPECT_EQ(detail::parse(nested(1'000'000)).status().code(), Code::kInvalid);
}

TEST(Frame, ValuesAreCapped) {
  std::string nils("\xdd\x00\x1f\xff\xff", 5);
  nils += std::string(0x1fffff, '\xc0');
  EXPECT_EQ(detail::parse(nils).status().code(), Code::kInvalid);
}

TEST(Frame, WrongTypesAreAStatus) {
  EXPECT_EQ(decode<ReturnLease>("\x91\xa1x").status().code(), Code::kInvalid);
  EXPECT_EQ(decode<ReturnLease>("\x05").status().code(), Code::kInvalid);
  EXPECT_EQ(decode<LeaseGranted>("\x91\xff").status().code(), Code::kInvalid);  // a negative id
  EXPECT_EQ(decode<Blocked>("\x91\x05").status().code(), Code::kInvalid);
}

TEST(Frame, RandomDamageNeverThrows) {
  unsigned seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  Hello hello;
  hello.arguments = {"a", "b"};
  hello.env["K"] = "V";
  const std::string good = encode(hello);
  size_t refused = 0;
  for (int round = 0; round < 20'000; ++round) {
    std::string bytes = good;
    for (int i = 0; i < 3; ++i) bytes[random() % bytes.size()] = static_cast<char>(random());
    if (Result<Hello> result = decode<Hello>(bytes); !result.ok()) {
      ++refused;
      EXPECT_EQ(result.status().code(), Code::kInvalid);
    }
  }
  EXPECT_GT(refused, 0u);
}

TEST(Frame, HeadersAreChecked) {
  char bytes[kFrameHeaderBytes];
  write_header(bytes, {Type::kSealed, 3, 500});
  FrameHeader header = read_header(bytes).value();
  EXPECT_EQ(header.type, Type::kSealed);
  EXPECT_EQ(header.descriptors, 3);
  EXPECT_EQ(header.size_bytes, 500u);
  write_header(bytes, {Type::kSealed, 3, kMaxFrameBytes + 1});
  EXPECT_FALSE(read_header(bytes).ok());
  write_header(bytes, {Type::kSealed, kMaxDescriptors + 1, 5});
  EXPECT_FALSE(read_header(bytes).ok());
  write_header(bytes, {Type::kSealed, 3, 5});
  bytes[0] ^= 1;
  EXPECT_FALSE(read_header(bytes).ok());
}

}  // namespace
}  // namespace manta::wire

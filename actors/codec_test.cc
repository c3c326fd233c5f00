#include <msgpack.hpp>

#include <manta/codec.h>

#include <gtest/gtest.h>

#include <random>

namespace manta {
namespace {

enum class Colour : uint8_t { kRed = 1, kBlue = 7 };
struct Inner {
  std::string name;
  std::vector<float> weights;
  auto operator<=>(const Inner&) const = default;
};
struct Outer {
  int id = 0;
  Colour colour{};
  std::optional<Inner> inner;
  std::variant<int, std::string> either;
  std::map<std::string, std::vector<int64_t>> table;
  std::pair<bool, double> flags;
  auto operator<=>(const Outer&) const = default;
};
class WithMacro {
 public:
  int a = 0;
  std::string b;
  bool operator==(const WithMacro&) const = default;
  MSGPACK_DEFINE(a, b)

 private:
  int hidden_ = 3;
};

std::span<const std::byte> bytes_of(const std::string& blob) { return std::as_bytes(std::span(blob)); }

template <typename T>
T round_trip(const T& value) {
  Encoder out;
  encode(out, value);
  const std::string blob = out.to_blob();
  Decoder in(bytes_of(blob));
  T back = decode<T>(in);
  EXPECT_TRUE(in.ok()) << in.status().to_string();
  EXPECT_EQ(in.bytes_left(), 0u);
  return back;
}

TEST(Codec, NumbersKeepTheirValueAtEveryWidth) {
  for (int64_t value :
       {INT64_MIN, -70'000L, -129L, -128L, -33L, -32L, -1L, 0L, 127L, 128L, 255L, 256L, 65'536L, 1L << 32, INT64_MAX}) {
    EXPECT_EQ(round_trip<int64_t>(value), value);
  }
  EXPECT_EQ(round_trip<uint64_t>(UINT64_MAX), UINT64_MAX);
  EXPECT_EQ(round_trip(1.5f), 1.5f);
  EXPECT_EQ(round_trip(-1e300), -1e300);
  EXPECT_EQ(round_trip('x'), 'x');
}

TEST(Codec, AggregatesTravelWithoutAMacro) {
  const Outer value{5, Colour::kBlue, Inner{"n", {1, 2, 3}}, "text", {{"k", {1, -2}}}, {true, 2.5}};
  EXPECT_EQ(round_trip(value), value);
  EXPECT_EQ(round_trip(Outer{}), Outer{});
}

TEST(Codec, MsgpackDefineTravels) {
  WithMacro value;
  value.a = 4;
  value.b = "b";
  EXPECT_EQ(round_trip(value), value);
  EXPECT_EQ(round_trip(std::vector<WithMacro>{value, value}).size(), 2u);
}

TEST(Codec, BigVectorsTravelOutOfBandAndComeBackEqual) {
  std::vector<double> big(10'000);
  for (size_t i = 0; i < big.size(); ++i) big[i] = static_cast<double>(i);
  EXPECT_EQ(round_trip(big), big);
  EXPECT_EQ(round_trip(std::vector<std::vector<double>>{big, {}, {1}}), (std::vector<std::vector<double>>{big, {}, {1}}));
}

TEST(Codec, BuffersAreViewsWhenTheBlobHasAnOwner) {
  Encoder out;
  encode(out, Array<int>(std::vector<int>{1, 2, 3}));
  const auto blob = std::make_shared<const std::string>(out.to_blob());
  Decoder in(bytes_of(*blob), blob);
  const auto array = decode<Array<int>>(in);
  ASSERT_TRUE(in.ok());
  EXPECT_EQ(array[2], 3);
  EXPECT_GE(reinterpret_cast<const char*>(array.data()), blob->data());
  EXPECT_LT(reinterpret_cast<const char*>(array.data()), blob->data() + blob->size());
}

TEST(Codec, ClosuresTravelByTheirCaptures) {
  int k = 6;
  ++k;  // else it would not be captured
  auto times = [k](int x) { return k * x; };
  EXPECT_EQ(round_trip(times)(6), 42);
}

TEST(Codec, RefsAreReadWithoutDecoding) {
  Encoder out;
  out.array_header(2);
  out.ref({1, 2});
  out.ref({3, 4});
  EXPECT_EQ(*Decoder::refs_of(bytes_of(out.to_blob())), (std::vector<ObjectId>{{1, 2}, {3, 4}}));
}

TEST(Codec, LongTextsTravelOutOfBand) {
  for (const size_t size : {size_t{0}, size_t{31}, kOutOfBandBytes - 1, kOutOfBandBytes, size_t{1} << 20}) {
    const std::vector<std::string> texts(3, std::string(size, 'x'));
    EXPECT_EQ(round_trip(texts), texts) << size;
  }
}

TEST(Codec, CountsBeyondSixteenBits) {
  Encoder out;
  out.array_header(70'000);
  for (uint64_t i = 0; i < 70'000; ++i) out.ref({1, i + 1});
  const std::string blob = out.to_blob();
  const auto refs = Decoder::refs_of(bytes_of(blob));
  ASSERT_TRUE(refs.ok());
  ASSERT_EQ(refs->size(), 70'000u);
  EXPECT_EQ(refs->back(), (ObjectId{1, 70'000}));
  for (const size_t size : {size_t{9}, size_t{15}, size_t{17}, blob.size() - 1})
    EXPECT_FALSE(Decoder::refs_of(bytes_of(blob.substr(0, size))).ok()) << size;
}

TEST(Codec, AnyBytesDecodeToAValueOrAStatusNeverMore) {
  const std::string good = [] {
    Encoder out;
    encode(out, Outer{5, Colour::kBlue, Inner{"n", {1, 2, 3}}, "text", {{"k", {1, -2}}}, {true, 2.5}});
    return out.to_blob();
  }();
  for (uint32_t seed = 0; seed < 20'000; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937 random(seed);
    std::string bad = good.substr(0, seed % 3 == 0 ? random() % (good.size() + 1) : good.size());
    for (uint32_t flips = random() % 4; flips > 0 && !bad.empty(); --flips)
      bad[random() % bad.size()] = static_cast<char>(random());
    // An exact-size heap copy lets a sanitizer see any over-read.
    const std::vector<char> exact(bad.begin(), bad.end());
    Decoder in(std::as_bytes(std::span(exact)));
    (void)decode<Outer>(in);
    Decoder raw(std::as_bytes(std::span(exact)));
    (void)raw.raw_value();
  }
}

TEST(Codec, AHugeCountIsRefusedBeforeAnythingIsReserved) {
  Encoder out;
  out.byte(0xdd);
  out.big_endian(uint32_t{0xffffffff});
  const std::string blob = out.to_blob();
  Decoder in(bytes_of(blob));
  EXPECT_TRUE(decode<std::vector<std::string>>(in).empty());
  EXPECT_FALSE(in.ok());
}

}  // namespace
}  // namespace manta

// Values of user types out of a blob: arguments, results, stored objects.
#include <manta/codec.h>

#include <map>
#include <optional>
#include <set>
#include <tuple>
#include <variant>

#include "common/check.h"
#include "tests/fuzz/fuzz.h"

namespace manta::fuzz {
namespace {

struct Inner {
  std::string name;
  std::vector<float> weights;
  std::optional<double> score;
};
struct Outer {
  int64_t id = 0;
  std::vector<Inner> parts;
  std::map<std::string, std::vector<int>> table;
  std::variant<int, std::string, std::vector<uint8_t>> either;
  std::pair<bool, uint16_t> flags;
};

using Values = std::tuple<Outer, std::vector<std::vector<std::string>>, std::set<std::string>,
                          std::tuple<int8_t, uint64_t, float>, Buffer, std::vector<double>, std::array<int32_t, 4>>;
constexpr size_t kTypes = std::tuple_size_v<Values>;

template <typename T>
std::string blob_of(const T& value) {
  Encoder out;
  encode(out, value);
  return out.to_blob();
}

template <typename T>
void check(std::span<const std::byte> blob) {
  Decoder in(blob);
  const T value = decode<T>(in);
  if (!in.ok()) return;
  // What decoded encodes again, and that decodes to the same.
  const std::string ours = blob_of(value);
  Decoder again(std::as_bytes(std::span(ours)));
  const T same = decode<T>(again);
  MANTA_CHECK(again.ok(), again.status().to_string());
  MANTA_CHECK(blob_of(same) == ours);
}

template <size_t... I>
void check_type(size_t type, std::span<const std::byte> blob, std::index_sequence<I...>) {
  ((type == I ? check<std::tuple_element_t<I, Values>>(blob) : void()), ...);
}

}  // namespace

std::vector<std::string> seeds() {
  const Inner inner{.name = "inner", .weights = {1, 2, 3}, .score = 0.5};
  const Outer outer{
      .id = -5, .parts = {inner, inner}, .table = {{"a", {1, 2}}, {"b", {}}}, .either = "text", .flags = {true, 9}};
  return {
      '\0' + blob_of(outer),
      '\1' + blob_of(std::vector<std::vector<std::string>>{{"a", "b"}, {}, {"c"}}),
      '\2' + blob_of(std::set<std::string>{"x", "y"}),
      '\3' + blob_of(std::tuple<int8_t, uint64_t, float>{-3, UINT64_MAX, 1.5f}),
      '\5' + blob_of(std::vector<double>(2000, 0.25)),  // out of band
      '\6' + blob_of(std::array<int32_t, 4>{1, 2, 3, 4}),
  };
}

}  // namespace manta::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const auto blob = std::as_bytes(std::span(data, size)).subspan(1);
  (void)manta::Decoder::refs_of(blob).ok();
  manta::fuzz::check_type(data[0] % manta::fuzz::kTypes, blob, std::make_index_sequence<manta::fuzz::kTypes>());
  return 0;
}

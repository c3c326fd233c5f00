// What a node says to the head, and the head to a node, off a network.
#include "common/check.h"
#include "tests/fuzz/fuzz.h"
#include "wire/head_link.h"

namespace manta::fuzz {
namespace {

template <typename Variant, size_t... I>
void add_seeds(std::vector<std::string>& out, char which, std::index_sequence<I...>) {
  const auto encoded = [](const Variant& variant) {
    if constexpr (std::is_same_v<Variant, wire::ToHead>) return wire::encode_to_head({.number = 1, .message = variant});
    if constexpr (std::is_same_v<Variant, wire::FromHead>) return wire::encode_from_head(variant);
  };
  (out.push_back(which + encoded(Variant(std::in_place_index<I>))), ...);
}

}  // namespace

std::vector<std::string> seeds() {
  std::vector<std::string> out;
  add_seeds<wire::ToHead>(out, '\0', std::make_index_sequence<std::variant_size_v<wire::ToHead>>());
  add_seeds<wire::FromHead>(out, '\1', std::make_index_sequence<std::variant_size_v<wire::FromHead>>());
  wire::NodeInfo info;
  info.endpoint = "tcp://h:1";
  info.labels = {{"a", "b"}};
  info.capacity.devices = {{.share = 1, .memory_bytes = 2}};
  info.capacity.custom = {{"tpu", 4}};
  out.push_back('\0' + wire::encode_to_head({.message = wire::Join{.version = "v", .info = info, .nonce = 9}}));
  out.push_back('\0' + wire::encode_to_head({.number = 4, .message = wire::HeadRequest{5, wire::CreateActor{}}}));
  out.push_back('\1' + wire::encode_from_head(wire::Joined{.nonce = 1, .number = 3, .cluster = "c", .members = {info}}));
  return out;
}

}  // namespace manta::fuzz

// What decodes has to survive a round trip: the same bytes again, once they are ours.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace manta;
  if (size == 0) return 0;
  const std::string_view body(reinterpret_cast<const char*>(data) + 1, size - 1);
  const auto check = [](const auto& message, auto decode, auto encode) {
    if (!message.ok()) return;
    const std::string encoded = encode(*message);
    const auto again = decode(encoded);
    MANTA_CHECK(again.ok(), again.status().to_string());
    MANTA_CHECK(encode(*again) == encoded);
  };
  if (data[0] == 0) {
    check(wire::decode_to_head(body), wire::decode_to_head, wire::encode_to_head);
  } else {
    check(wire::decode_from_head(body), wire::decode_from_head, wire::encode_from_head);
  }
  return 0;
}

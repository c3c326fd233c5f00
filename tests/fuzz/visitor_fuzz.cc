// What a visitor says at the head's door, and what a client says over its socket: a frame, and the message in it.
#include "common/check.h"
#include "raylet/client_messages.h"
#include "tests/fuzz/fuzz.h"
#include "wire/cluster.h"
#include "wire/list_page.h"

#include <variant>

namespace manta::fuzz {
namespace {

template <size_t... I>
void add_seeds(std::vector<std::string>& out, std::index_sequence<I...>) {
  const auto add = [&]<typename Message>(const Message& message) {
    out.push_back(wire::encode(wire::VisitorFrame{static_cast<uint16_t>(Message::kType), wire::encode(message)}));
  };
  (add(std::variant_alternative_t<I, raylet::ClientMessage>{}), ...);
}

}  // namespace

std::vector<std::string> seeds() {
  std::vector<std::string> out;
  add_seeds(out, std::make_index_sequence<std::variant_size_v<raylet::ClientMessage>>());
  const wire::ListRequest list{.request = 1, .what = 1, .filters = {"state=alive", "a=b"}, .cursor = "3:q17", .limit = 9};
  out.push_back(wire::encode(wire::VisitorFrame{static_cast<uint16_t>(wire::Type::kList), wire::encode(list)}));
  return out;
}

}  // namespace manta::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace manta;
  const Result<wire::VisitorFrame> frame = wire::decode<wire::VisitorFrame>({reinterpret_cast<const char*>(data), size});
  if (!frame.ok()) return 0;
  const auto type = static_cast<wire::Type>(frame->type);
  Result<raylet::ClientMessage> message = raylet::decode_client_message(type, frame->body);
  if (!message.ok()) return 0;
  (void)raylet::visitor_right(*message);
  // The same bytes again, once they are ours.
  const std::string encoded = std::visit([](const auto& one) { return wire::encode(one); }, *message);
  MANTA_CHECK(raylet::decode_client_message(type, encoded).ok());
  if (const auto* list = std::get_if<wire::ListRequest>(&*message)) {
    wire::ListPage page(*list);
    std::string_view cursor = list->cursor;
    (void)wire::take_number(cursor);
    if (page.has_room()) page.add("1", {{"a", "b"}, {"state", "alive"}});
    MANTA_CHECK(std::move(page).finish(false).rows.size() <= 1);
  }
  return 0;
}

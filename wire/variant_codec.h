// Variants as they travel: [which alternative, its fields]. Alternatives are only ever appended, so an index means the same
// to every build that knows it; one that a build does not know is malformed to it.
#pragma once

#include "wire/frame.h"

#include <msgpack.hpp>
#include <utility>
#include <variant>

namespace manta::wire {

template <typename Packer, typename Variant>
void pack_one_of(Packer& packer, const Variant& variant) {
  packer.pack_array(2);
  packer.pack(static_cast<uint32_t>(variant.index()));
  std::visit([&](const auto& one) { packer.pack(one); }, variant);
}

/// A variant that msgpack packs and unpacks.
template <typename Variant>
struct OneOf {
  Variant value;

  template <typename Packer>
  void msgpack_pack(Packer& packer) const {
    pack_one_of(packer, value);
  }
  void msgpack_unpack(const msgpack::object& from) {
    if (from.type != msgpack::type::ARRAY || from.via.array.size != 2) throw msgpack::type_error();
    const auto index = from.via.array.ptr[0].as<uint32_t>();
    const msgpack::object& fields = from.via.array.ptr[1];
    const auto take = [&]<size_t... I>(std::index_sequence<I...>) {
      return ((index == I && (fields.convert(value.template emplace<I>()), true)) || ...);
    };
    if (!take(std::make_index_sequence<std::variant_size_v<Variant>>())) throw msgpack::type_error();
  }
};

template <typename Variant>
[[nodiscard]] std::string encode_one_of(const Variant& variant) {
  msgpack::sbuffer buffer;
  msgpack::packer packer(buffer);
  pack_one_of(packer, variant);
  return std::string(buffer.data(), buffer.size());
}

}  // namespace manta::wire

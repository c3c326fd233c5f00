// Codec<T> for the types that travel by themselves. Included by codec.h only.
#pragma once

#include <new>

namespace manta {

template <>
struct Codec<bool> {
  static void encode(Encoder& out, bool value) { out.boolean(value); }
  static bool decode(Decoder& in) { return in.boolean(); }
};

template <detail::Number T>
struct Codec<T> {
  static void encode(Encoder& out, T value) {
    if constexpr (std::is_same_v<T, float>) {
      out.real(value);
    } else if constexpr (std::is_floating_point_v<T>) {
      out.real(static_cast<double>(value));
    } else if constexpr (std::is_signed_v<T>) {
      out.integer(value);
    } else {
      out.unsigned_integer(value);
    }
  }
  static T decode(Decoder& in) {
    if constexpr (std::is_floating_point_v<T>) {
      return static_cast<T>(in.real());
    } else if constexpr (std::is_signed_v<T>) {
      const int64_t value = in.integer();
      if (static_cast<int64_t>(static_cast<T>(value)) != value) in.fail("an integer is out of range");
      return static_cast<T>(value);
    } else {
      const uint64_t value = in.unsigned_integer();
      if (static_cast<uint64_t>(static_cast<T>(value)) != value) in.fail("an integer is out of range");
      return static_cast<T>(value);
    }
  }
};

template <typename T>
requires std::is_enum_v<T>
struct Codec<T> {
  static void encode(Encoder& out, T value) { out.integer(static_cast<int64_t>(value)); }
  static T decode(Decoder& in) { return static_cast<T>(Codec<std::underlying_type_t<T>>::decode(in)); }
};

template <>
struct Codec<std::string> {
  static void encode(Encoder& out, const std::string& value) {
    value.size() >= kOutOfBandBytes ? out.buffer(std::as_bytes(std::span(value))) : out.text(value);
  }
  static std::string decode(Decoder& in) {
    if (!in.next_is_buffer()) return std::string(in.text());
    const auto bytes = in.buffer_bytes();
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }
};

template <typename Rep, typename Period>
struct Codec<std::chrono::duration<Rep, Period>> {
  using T = std::chrono::duration<Rep, Period>;
  static void encode(Encoder& out, const T& value) { Codec<Rep>::encode(out, value.count()); }
  static T decode(Decoder& in) { return T(Codec<Rep>::decode(in)); }
};

template <>
struct Codec<Buffer> {
  static void encode(Encoder& out, const Buffer& value) { out.buffer(value); }
  static Buffer decode(Decoder& in) { return in.buffer(); }
};

template <typename N>
struct Codec<Array<N>> {
  static void encode(Encoder& out, const Array<N>& value) { Codec<Buffer>::encode(out, value.buffer()); }
  static Array<N> decode(Decoder& in) {
    Buffer bytes = in.buffer();
    if (bytes.size() % sizeof(N) != 0 || reinterpret_cast<uintptr_t>(bytes.data()) % alignof(N) != 0) {
      in.fail("an array's bytes do not fit its element type");
      return {};
    }
    return Array<N>(std::move(bytes));
  }
};

template <detail::Sequence T>
struct Codec<T> {
  using Element = typename T::value_type;
  static constexpr bool kBulk = detail::Number<Element> && detail::is_a<T, std::vector>;

  static void encode(Encoder& out, const T& value) {
    if constexpr (kBulk) {
      const auto bytes = std::as_bytes(std::span(value));
      if (bytes.size() >= kOutOfBandBytes) return out.boolean(true), out.buffer(bytes);
      out.boolean(false);
      out.binary(bytes.data(), bytes.size());
    } else {
      out.array_header(value.size());
      for (const auto& element : value) Codec<Element>::encode(out, element);
    }
  }
  static T decode(Decoder& in) {
    T value;
    if constexpr (kBulk) {
      const std::span<const std::byte> bytes = in.boolean() ? in.buffer_bytes() : in.binary();
      if (bytes.size() % sizeof(Element) != 0) return in.fail("a vector's bytes do not fit its element type"), value;
      if (reinterpret_cast<uintptr_t>(bytes.data()) % alignof(Element) == 0) {
        // One pass over the memory: `resize` would write zeros first.
        const auto* const first = reinterpret_cast<const Element*>(bytes.data());
        value.assign(first, first + bytes.size() / sizeof(Element));
      } else if (!bytes.empty()) {
        value.resize(bytes.size() / sizeof(Element));
        std::memcpy(value.data(), bytes.data(), bytes.size());
      }
    } else if (in.enter()) {
      const size_t count = in.array_header();
      if constexpr (detail::is_a<T, std::vector>) value.reserve(count);
      for (size_t i = 0; i < count && in.ok(); ++i) value.push_back(Codec<Element>::decode(in));
      in.leave();
    }
    return value;
  }
};

template <typename E, size_t N>
struct Codec<std::array<E, N>> {
  static void encode(Encoder& out, const std::array<E, N>& value) {
    out.array_header(N);
    for (const E& element : value) Codec<E>::encode(out, element);
  }
  static std::array<E, N> decode(Decoder& in) {
    std::array<E, N> value{};
    if (!in.enter()) return value;
    if (in.array_header() != N) in.fail("an array has another length");
    for (size_t i = 0; i < N && in.ok(); ++i) value[i] = Codec<E>::decode(in);
    in.leave();
    return value;
  }
};

template <detail::Set T>
struct Codec<T> {
  using Element = typename T::value_type;
  static void encode(Encoder& out, const T& value) {
    out.array_header(value.size());
    for (const Element& element : value) Codec<Element>::encode(out, element);
  }
  static T decode(Decoder& in) {
    T value;
    if (!in.enter()) return value;
    const size_t count = in.array_header();
    for (size_t i = 0; i < count && in.ok(); ++i) value.insert(Codec<Element>::decode(in));
    in.leave();
    return value;
  }
};

template <detail::Map T>
struct Codec<T> {
  static void encode(Encoder& out, const T& value) {
    out.map_header(value.size());
    for (const auto& [key, mapped] : value) {
      Codec<typename T::key_type>::encode(out, key);
      Codec<typename T::mapped_type>::encode(out, mapped);
    }
  }
  static T decode(Decoder& in) {
    T value;
    if (!in.enter()) return value;
    const size_t count = in.map_header();
    for (size_t i = 0; i < count && in.ok(); ++i) {
      auto key = Codec<typename T::key_type>::decode(in);
      value.emplace(std::move(key), Codec<typename T::mapped_type>::decode(in));
    }
    in.leave();
    return value;
  }
};

namespace detail {

template <typename Members, size_t... I>
void encode_each(Encoder& out, const Members& members, std::index_sequence<I...>) {
  out.array_header(sizeof...(I));
  (Codec<std::remove_cvref_t<std::tuple_element_t<I, Members>>>::encode(out, std::get<I>(members)), ...);
}
template <typename Members, size_t... I>
void decode_each(Decoder& in, Members&& members, std::index_sequence<I...>) {
  if (!in.enter()) return;
  if (in.array_header() != sizeof...(I)) in.fail("a struct or tuple has another number of members");
  ((in.ok() ? void(std::get<I>(members) =
                       Codec<std::remove_cvref_t<std::tuple_element_t<I, std::remove_cvref_t<Members>>>>::decode(in))
            : void()),
   ...);
  in.leave();
}

}  // namespace detail

template <detail::Tuple T>
struct Codec<T> {
  using Indices = std::make_index_sequence<std::tuple_size_v<T>>;
  static void encode(Encoder& out, const T& value) { detail::encode_each(out, value, Indices{}); }
  static T decode(Decoder& in) {
    T value{};
    detail::decode_each(in, value, Indices{});
    return value;
  }
};

template <>
struct Codec<std::monostate> {
  static void encode(Encoder& out, std::monostate) { out.nil(); }
  static std::monostate decode(Decoder& in) {
    if (!in.next_is_nil()) in.fail("nil was expected");
    return {};
  }
};

template <typename E>
struct Codec<std::optional<E>> {
  static void encode(Encoder& out, const std::optional<E>& value) {
    out.array_header(value ? 1 : 0);
    if (value) Codec<E>::encode(out, *value);
  }
  static std::optional<E> decode(Decoder& in) {
    std::optional<E> value;
    if (!in.enter()) return value;
    if (in.array_header() != 0) value = Codec<E>::decode(in);
    in.leave();
    return value;
  }
};

template <typename E>
struct Codec<std::unique_ptr<E>> {
  static void encode(Encoder& out, const std::unique_ptr<E>& value) {
    out.array_header(value ? 1 : 0);
    if (value) Codec<E>::encode(out, *value);
  }
  static std::unique_ptr<E> decode(Decoder& in) {
    std::unique_ptr<E> value;
    if (!in.enter()) return value;
    if (in.array_header() != 0) value = std::make_unique<E>(Codec<E>::decode(in));
    in.leave();
    return value;
  }
};

template <typename... Alternatives>
struct Codec<std::variant<Alternatives...>> {
  using T = std::variant<Alternatives...>;
  static void encode(Encoder& out, const T& value) {
    out.array_header(2);
    out.unsigned_integer(value.index());
    std::visit([&](const auto& held) { Codec<std::remove_cvref_t<decltype(held)>>::encode(out, held); }, value);
  }
  static T decode(Decoder& in) {
    T value;
    if (!in.enter()) return value;
    if (in.array_header() != 2) in.fail("a variant is an index and a value");
    const uint64_t index = in.unsigned_integer();
    if (in.ok() && !pick(in, index, value, std::index_sequence_for<Alternatives...>{}))
      in.fail("a variant's index is out of range");
    in.leave();
    return value;
  }

 private:
  template <size_t... I>
  static bool pick(Decoder& in, uint64_t index, T& value, std::index_sequence<I...>) {
    return ((index == I && (value.template emplace<I>(Codec<std::variant_alternative_t<I, T>>::decode(in)), true)) || ...);
  }
};

template <detail::Reflected T>
struct Codec<T> {
  static void encode(Encoder& out, const T& value) {
    const auto fields = detail::members(value);
    detail::encode_each(out, fields, std::make_index_sequence<std::tuple_size_v<decltype(fields)>>{});
  }
  static T decode(Decoder& in) {
    T value{};
    auto fields = detail::members(value);
    detail::decode_each(in, fields, std::make_index_sequence<std::tuple_size_v<decltype(fields)>>{});
    return value;
  }
};

template <detail::Closure T>
struct Codec<T> {
  static_assert(std::is_trivially_copyable_v<T>,
                "manta: a closure travels only when all it captures is trivially copyable; name a struct with operator() "
                "and members that travel");
  static void encode(Encoder& out, const T& value) { out.binary(&value, sizeof value); }
  static T decode(Decoder& in) {
    alignas(T) std::byte bytes[sizeof(T)] = {};
    const auto given = in.binary();
    if (given.size() == sizeof(T)) {
      std::memcpy(bytes, given.data(), sizeof(T));
    } else {
      in.fail("a closure has another size");
    }
    return *std::launder(reinterpret_cast<T*>(bytes));  // not bit_cast: GCC 12 finds closures not trivially copyable there
  }
};

namespace detail {

/// What msgpack-c writes to: our in-band bytes.
struct EncoderStream {
  Encoder& out;
  void write(const char* bytes, size_t size_bytes) { out.raw(bytes, size_bytes); }
};
std::string_view as_text(std::span<const std::byte> bytes);

}  // namespace detail

#ifdef MSGPACK_DEFINE
template <typename T>
requires requires(T& value, msgpack::object const& object) {
  value.msgpack_unpack(object.convert());
} || requires(T& value, msgpack::object const& object) {
  value.msgpack_unpack(object);
}
struct Codec<T> {
  static void encode(Encoder& out, const T& value) {
    detail::EncoderStream stream{out};
    msgpack::packer<detail::EncoderStream> packer(stream);
    value.msgpack_pack(packer);
  }
  static T decode(Decoder& in) {
    T value{};
    const auto bytes = in.raw_value();
    if (!in.ok()) return value;
    try {
      const auto handle = msgpack::unpack(reinterpret_cast<const char*>(bytes.data()), bytes.size());
      handle.get().convert(value);
    } catch (const std::exception& error) {
      in.fail(error.what());
    }
    return value;
  }
};
#endif

}  // namespace manta

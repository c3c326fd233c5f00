// The members of option structs: text, tables and lists that cost a pointer and need no destructor.
//
// GCC 12 copies an aggregate that stands in a `co_await` expression byte by byte and destroys both copies, so that
// `co_await remote<&f>.with({.name = "x"})()` would free a std::string twice. Options therefore hold pointers to values that
// live as long as the process, one of each content: programs have few different ones. (It also refuses the braces of an
// initializer_list there, hence the constructors with a fixed number of parameters.)
//
// Thread safety: immutable values; making one takes a lock.
#pragma once

#include <concepts>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace manta {
namespace detail {

/// The one living copy of `value`. Never freed.
template <typename T>
const T* interned(T value) {
  static auto* const mutex = new std::mutex();
  static auto* const values = new std::set<T>();
  const std::lock_guard lock(*mutex);
  return &*values->insert(std::move(value)).first;
}

template <typename T>
class Interned {
 public:
  [[nodiscard]] const T& value() const { return value_ != nullptr ? *value_ : none(); }
  operator const T&() const { return value(); }  // NOLINT(google-explicit-constructor)
  [[nodiscard]] bool empty() const { return value().empty(); }
  [[nodiscard]] size_t size() const { return value().size(); }
  [[nodiscard]] auto begin() const { return value().begin(); }
  [[nodiscard]] auto end() const { return value().end(); }
  bool operator==(const Interned& other) const { return value() == other.value(); }

 protected:
  Interned() = default;
  explicit Interned(T value) : value_(value.empty() ? nullptr : interned(std::move(value))) {}

 private:
  static const T& none() {
    static const T* const empty = new T();
    return *empty;
  }
  const T* value_ = nullptr;
};

}  // namespace detail

/// A text among options: takes a std::string, a string_view or a literal.
class OptionText : public detail::Interned<std::string> {
 public:
  OptionText() = default;
  template <typename T>
  requires std::convertible_to<const T&, std::string_view> OptionText(const T& text)
      : Interned(std::string(std::string_view(text))) {}  // NOLINT(google-explicit-constructor)
};
inline std::string operator+(const std::string& before, const OptionText& text) { return before + text.value(); }
inline std::string operator+(const char* before, const OptionText& text) { return before + text.value(); }
inline std::string operator+(const OptionText& text, const std::string& after) { return text.value() + after; }

/// Names and values among options: takes a std::map or, in braces, up to six pairs.
template <typename V>
class OptionTable : public detail::Interned<std::map<std::string, V>> {
  using Map = std::map<std::string, V>;
  using View = std::conditional_t<std::same_as<V, std::string>, std::string_view, V>;

 public:
  struct Pair {
    std::string_view name;
    View value;
  };
  OptionTable() = default;
  template <std::same_as<Map> M>
  OptionTable(const M& map) : detail::Interned<Map>(Map(map)) {}  // NOLINT(google-explicit-constructor)
  OptionTable(Pair a) : OptionTable(Made{}, a) {}                 // NOLINT(google-explicit-constructor)
  OptionTable(Pair a, Pair b) : OptionTable(Made{}, a, b) {}
  OptionTable(Pair a, Pair b, Pair c) : OptionTable(Made{}, a, b, c) {}
  OptionTable(Pair a, Pair b, Pair c, Pair d) : OptionTable(Made{}, a, b, c, d) {}
  OptionTable(Pair a, Pair b, Pair c, Pair d, Pair e) : OptionTable(Made{}, a, b, c, d, e) {}
  OptionTable(Pair a, Pair b, Pair c, Pair d, Pair e, Pair f) : OptionTable(Made{}, a, b, c, d, e, f) {}

 private:
  struct Made {};
  template <typename... Pairs>
  explicit OptionTable(Made, const Pairs&... pairs) : detail::Interned<Map>(map_of(pairs...)) {}
  template <typename... Pairs>
  static Map map_of(const Pairs&... pairs) {
    Map map;
    (map.insert_or_assign(std::string(pairs.name), V(pairs.value)), ...);
    return map;
  }
};

/// Texts among options: takes a vector of them or, in braces, any number.
class OptionList : public detail::Interned<std::vector<std::string>> {
 public:
  OptionList() = default;
  OptionList(std::vector<std::string> texts) : Interned(std::move(texts)) {}  // NOLINT(google-explicit-constructor)
  template <typename... Texts>
  requires(sizeof...(Texts) > 0 && (std::convertible_to<const Texts&, std::string_view> && ...))
      OptionList(const Texts&... texts)  // NOLINT(google-explicit-constructor)
      : Interned(std::vector<std::string>{std::string(std::string_view(texts))...}) {}
};

}  // namespace manta

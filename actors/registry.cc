// The program's functions, as every process of the binary knows them.
#include "actors/registry.h"

#include <manta/error.h>

#include <cxxabi.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <unordered_map>

namespace manta {

namespace {

// Built before main by static initialisers, constant afterwards: no lock.
std::unordered_map<std::string_view, const detail::Function*>& functions() {
  static auto* const map =
      new std::unordered_map<std::string_view, const detail::Function*>();  // outlives static destructors
  return *map;
}

std::string without_template_noise(std::string text) {
  if (const size_t tag = text.find(" [with"); tag != std::string::npos) text.resize(tag);
  constexpr std::string_view kUnnamed = "(anonymous namespace)::";
  for (size_t at; (at = text.find(kUnnamed)) != std::string::npos;) text.erase(at, kUnnamed.size());
  return text;
}

// "manta::detail::Task<&add(int, int), false>" -> "add(int, int)": what lies between the first bracket and its last
// argument.
std::string inside_brackets(const std::string& text) {
  const size_t open = text.find('<');
  const size_t close = text.rfind('>');
  if (open == std::string::npos || close == std::string::npos || close <= open) return text;
  return text.substr(open + 1, close - open - 1);
}

// Splits "A, B<C, D>, e" at its top-level commas.
std::vector<std::string> split_arguments(const std::string& text) {
  std::vector<std::string> out(1);
  int depth = 0;
  for (const char c : text) {
    if (c == '<' || c == '(' || c == '{' || c == '[') ++depth;
    if (c == '>' || c == ')' || c == '}' || c == ']') --depth;
    if (c == ',' && depth == 0) {
      out.emplace_back();
    } else if (!(c == ' ' && out.back().empty())) {
      out.back() += c;
    }
  }
  return out;
}

std::string strip_parameters(std::string text) {
  while (!text.empty() && (text.front() == '&' || text.front() == '(')) text.erase(0, 1);
  int depth = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '<') ++depth;
    if (text[i] == '>') --depth;
    if (text[i] == '(' && depth == 0 && i > 0) return text.substr(0, i);
  }
  while (!text.empty() && text.back() == ')') text.pop_back();
  return text;
}

}  // namespace

namespace detail {

std::string type_name(const char* mangled) {
  int status = 0;
  char* text = abi::__cxa_demangle(mangled, nullptr, nullptr, &status);
  std::string out = status == 0 ? text : mangled;
  std::free(text);
  if (out == "std::__cxx11::basic_string<char, std::char_traits<char>, std::allocator<char> >") return "std::string";
  return out;
}

bool enlist(const Function& function) {
  const auto [at, is_new] = functions().emplace(function.key, &function);
  if (!is_new && at->second != &function) {
    die("two remote functions have the same identity, " + type_name(function.key) +
        ": functions of one name in two anonymous namespaces, or one function in two libraries; rename one");
  }
  return true;
}

const Function& function_by_name(std::string_view name, const char* signature) {
  std::string others;
  for (const auto& [key, function] : functions()) {
    if (function->kind != FunctionKind::kTask || function_name(*function) != name) continue;
    if (std::string_view(function->signature) == signature) return *function;
    others += (others.empty() ? "" : ", ") + type_name(function->signature);
  }
  if (!others.empty()) {
    throw Error(Status(Code::kInvalid, "remote_by_name: " + std::string(name) + " has the signature " + others + ", not " +
                                           type_name(signature)));
  }
  std::vector<std::string> known;
  for (const auto& [key, function] : functions()) {
    if (function->kind == FunctionKind::kTask) known.push_back(function_name(*function));
  }
  std::sort(known.begin(), known.end());
  std::string list;
  for (const std::string& each : known) list += (list.empty() ? "" : ", ") + each;
  throw Error(Status(Code::kNotFound, "remote_by_name: this program has no remote function " + std::string(name) +
                                          " (it has: " + (list.empty() ? "none" : list) +
                                          "); name it in remote<&f> or list it with manta::exports<&f>"));
}

}  // namespace detail

const detail::Function* find_function(std::string_view key) {
  const auto at = functions().find(key);
  return at == functions().end() ? nullptr : at->second;
}

std::string function_name(const detail::Function& function) {
  const std::vector<std::string> parts =
      split_arguments(inside_brackets(without_template_noise(detail::type_name(function.key))));
  switch (function.kind) {
    case detail::FunctionKind::kTask: return strip_parameters(parts[0]);
    case detail::FunctionKind::kConstructor: return parts[0];
    case detail::FunctionKind::kMethod: return strip_parameters(parts.size() > 1 ? parts[1] : parts[0]);
  }
  return function.key;
}

}  // namespace manta

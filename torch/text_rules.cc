#include "torch/text_rules.h"

#include <unicode/normalizer2.h>
#include <unicode/uchar.h>
#include <unicode/uniset.h>
#include <unicode/unistr.h>

#include "common/check.h"

namespace manta::models {
namespace {

// The reference's category tables are those of Unicode 8: what came later is "unassigned" to it, which is none of the below.
bool is_known(char32_t c) {
  UVersionInfo age;
  u_charAge(static_cast<UChar32>(c), age);
  return age[0] > 0 && age[0] <= 8;
}

uint32_t category_mask(char32_t c) { return U_GET_GC_MASK(static_cast<UChar32>(c)); }

// Cased letters newer than ICU 72, which the reference's library knows already: [first, last] in steps, plus `delta`.
struct CaseRange {
  char32_t first, last;
  uint32_t step;
  int32_t delta;
};
constexpr CaseRange kNewerCaseRanges[] = {
    {0x1C89, 0x1C89, 1, 1}, {0xA7CB, 0xA7CB, 1, -0xA567}, {0xA7CC, 0xA7CE, 2, 1},    {0xA7D2, 0xA7D4, 2, 1},
    {0xA7DA, 0xA7DA, 1, 1}, {0xA7DC, 0xA7DC, 1, -0xA641}, {0x10D50, 0x10D65, 1, 32}, {0x16EA0, 0x16EB8, 1, 27},
};

// Decomposition as of Unicode 9, the reference's: later characters stay as they are and hold their place.
const icu::Normalizer2& nfd() {
  static const icu::Normalizer2* const instance = [] {
    UErrorCode error = U_ZERO_ERROR;
    const icu::Normalizer2* newest = icu::Normalizer2::getNFDInstance(error);
    MANTA_CHECK(U_SUCCESS(error), u_errorName(error));  // only when ICU has no data: an installation broken beyond use
    auto* known = new icu::UnicodeSet(UNICODE_STRING_SIMPLE("[:age=9.0:]"), error);  // both live as long as the process
    MANTA_CHECK(U_SUCCESS(error), u_errorName(error));
    known->freeze();
    return new icu::FilteredNormalizer2(*newest, *known);
  }();
  return *instance;
}

}  // namespace

bool is_dropped(char32_t c) {
  if (c == '\t' || c == '\n' || c == '\r') return false;
  if (c == 0 || c == 0xFFFD) return true;
  return (category_mask(c) & (U_GC_CC_MASK | U_GC_CF_MASK | U_GC_CO_MASK)) != 0 && is_known(c);
}

bool is_space(char32_t c) { return u_hasBinaryProperty(static_cast<UChar32>(c), UCHAR_WHITE_SPACE); }

bool is_punctuation(char32_t c) {
  if (c < 0x80) return (c >= 33 && c <= 47) || (c >= 58 && c <= 64) || (c >= 91 && c <= 96) || (c >= 123 && c <= 126);
  if (c == 0x166D || c == 0x111C9) return true;  // punctuation in Unicode 8, no longer today
  return (category_mask(c) & U_GC_P_MASK) != 0 && is_known(c);
}

bool is_ideograph(char32_t c) {
  return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) || (c >= 0x20000 && c <= 0x2A6DF) ||
         (c >= 0x2A700 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) || (c >= 0xF900 && c <= 0xFAFF) ||
         (c >= 0x2F800 && c <= 0x2FA1F);
}

bool is_plain_ideograph(char32_t c) {
  return is_ideograph(c) && !(c >= 0xF900 && c <= 0xFAFF) && !(c >= 0x2F800 && c <= 0x2FA1F);
}

bool decomposes(char32_t c) {
  icu::UnicodeString unused;
  return nfd().getDecomposition(static_cast<UChar32>(c), unused);
}

bool may_reorder(char32_t c) { return nfd().getCombiningClass(static_cast<UChar32>(c)) != 0; }

bool is_nonspacing_mark(char32_t c) {
  if (c < 0x300) return false;
  if (c == 0x1734) return true;  // was one in Unicode 8; the next four were not yet
  if (c == 0x1885 || c == 0x1886 || c == 0xA9BD || c == 0x111C9) return false;
  return (category_mask(c) & U_GC_MN_MASK) != 0 && is_known(c);
}

bool is_word_character(char32_t c) {
  const auto point = static_cast<UChar32>(c);
  return u_hasBinaryProperty(point, UCHAR_ALPHABETIC) || u_hasBinaryProperty(point, UCHAR_JOIN_CONTROL) ||
         (category_mask(c) & (U_GC_M_MASK | U_GC_ND_MASK | U_GC_PC_MASK)) != 0;
}

char32_t simple_lowercase(char32_t c) {
  for (const CaseRange& range : kNewerCaseRanges)
    if (c >= range.first && c <= range.last && (c - range.first) % range.step == 0)
      return c + static_cast<uint32_t>(range.delta);
  return static_cast<char32_t>(u_tolower(static_cast<UChar32>(c)));
}

std::u32string decomposed(const std::u32string& text) {
  UErrorCode error = U_ZERO_ERROR;
  const auto* points = reinterpret_cast<const UChar32*>(text.data());
  const icu::UnicodeString given = icu::UnicodeString::fromUTF32(points, static_cast<int32_t>(text.size()));
  const icu::UnicodeString made = nfd().normalize(given, error);
  MANTA_CHECK(U_SUCCESS(error), u_errorName(error));
  std::u32string out(static_cast<size_t>(made.countChar32()), U'\0');
  made.toUTF32(reinterpret_cast<UChar32*>(out.data()), static_cast<int32_t>(out.size()), error);
  return out;
}

}  // namespace manta::models

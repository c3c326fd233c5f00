// What a code point is to a BERT tokenizer: dropped, space, punctuation, a mark, an ideograph; and its lower case.
//
// The reference tokenizer (the `tokenizers` package) draws on several Unicode tables of different age: categories of Unicode
// 8, decomposition of Unicode 9, white space and lower case of its compiler's library. ICU's tables are newer, so each rule
// looks at the character's age and at the few whose category changed; `text_rules_test.cc` holds every code point against
// the reference.
//
// Pure functions of their argument, callable from any thread; tens of nanoseconds each.
#pragma once

#include <string>

namespace manta::models {

/// What "clean text" removes: NUL, U+FFFD, and control, format and private characters other than tab and line ends.
bool is_dropped(char32_t c);
/// Unicode white space, line ends and tab among it. "Clean text" makes each a plain space.
bool is_space(char32_t c);
/// Each of these is a token of its own: ASCII punctuation and symbols, and Unicode punctuation.
bool is_punctuation(char32_t c);
/// Ideographs that get a space on either side.
bool is_ideograph(char32_t c);
/// An ideograph that is its own canonical decomposition.
bool is_plain_ideograph(char32_t c);
/// Whether normalisation may move c among its neighbours (its combining class is not 0).
bool may_reorder(char32_t c);
/// Whether canonical decomposition changes c.
bool decomposes(char32_t c);
/// What stripping of accents removes once a character is decomposed.
bool is_nonspacing_mark(char32_t c);
/// Part of a word in the sense of `\w`, for added tokens that ask to stand alone.
bool is_word_character(char32_t c);

/// Lower case of one code point where that is one code point; U+0130 alone has two.
char32_t simple_lowercase(char32_t c);

/// `text` decomposed canonically (NFD).
std::u32string decomposed(const std::u32string& text);

/// Calls `emit` with each code point of c's full lower case, as it is without context (no final sigma).
template <typename Emit>
void lowercase(char32_t c, Emit&& emit) {
  if (c == 0x130) {
    emit(U'i');
    emit(char32_t{0x307});
  } else {
    emit(simple_lowercase(c));
  }
}

}  // namespace manta::models

// tokenize_dump MODEL_DIR MAX_LENGTH: token ids for tools/reference/check_corpus.py. Texts come on standard input and ids go
// to standard output, each with its count before it as a little-endian 32-bit number: bytes in, 32-bit ids out.
#include <manta/torch.h>

#include <charconv>
#include <cstdio>
#include <cstring>
#include <string>

namespace {

bool read_exactly(void* to, size_t size_bytes) { return std::fread(to, 1, size_bytes, stdin) == size_bytes; }

int fail(const std::string& why) {
  std::fprintf(stderr, "tokenize_dump: %s\n", why.c_str());
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return fail("usage: tokenize_dump MODEL_DIR MAX_LENGTH");
  size_t max_length = 0;
  if (std::from_chars(argv[2], argv[2] + std::strlen(argv[2]), max_length).ec != std::errc())
    return fail("MAX_LENGTH is no number");
  const auto tokenizer = manta::Tokenizer::load(argv[1]);
  if (!tokenizer.ok()) return fail(tokenizer.status().to_string());
  std::string text;
  for (uint32_t size = 0; read_exactly(&size, sizeof size);) {
    text.resize(size);
    if (!read_exactly(text.data(), size)) return fail("the input ends within a text");
    const auto ids = tokenizer->encode(text, max_length);
    if (!ids.ok()) return fail(ids.status().to_string());
    const auto count = static_cast<uint32_t>(ids->size());
    std::fwrite(&count, sizeof count, 1, stdout);
    std::fwrite(ids->data(), sizeof(int32_t), count, stdout);
  }
  return 0;
}

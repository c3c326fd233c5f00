// The tokenizer on real text, one core: bytes and tokens a second, beside a copy of the same bytes.
#include <manta/torch.h>

#include <cstring>

#include "bench/models_bench.h"

namespace manta::bench {
namespace {

constexpr int kWindows = 7;
constexpr double kWindowSeconds = 0.5;

/// Calls of `work` in a second of this thread's time.
template <typename Work>
double rate(const Work& work) {
  const double start = cpu_seconds();
  double elapsed = 0;
  int calls = 0;
  while (elapsed < kWindowSeconds) {
    work();
    ++calls;
    elapsed = cpu_seconds() - start;
  }
  return calls / elapsed;
}

void measure(const Tokenizer& tokenizer, const std::vector<std::string>& texts, size_t max_length) {
  const std::vector<std::string_view> all = views(texts);
  double megabytes = 0;
  for (const std::string& text : texts) megabytes += static_cast<double>(text.size()) / 1e6;
  size_t tokens = 0;
  Samples bytes_rate, token_rate, passage_rate;
  for (int window = 0; window < kWindows; ++window) {
    const double calls = rate([&] { tokens = tokenizer.encode(all, max_length)->ids.size(); });
    bytes_rate.add(calls * megabytes);
    token_rate.add(calls * static_cast<double>(tokens) / 1e6);
    passage_rate.add(calls * static_cast<double>(texts.size()));
  }
  const std::string how = max_length == 0 ? "whole texts" : "cut to " + std::to_string(max_length);
  bytes_rate.print("WordPiece, " + how, "MB/s");
  token_rate.print("WordPiece, " + how, "M tokens/s");
  passage_rate.print("WordPiece, " + how, "passages/s");
}

int run(int argc, char** argv) {
  std::printf("tokenizer: one thread, its CPU time; min / median / max of %d windows\n", kWindows);
  const std::vector<std::string> texts = corpus(argc, argv);
  const auto tokenizer = Tokenizer::load(MANTA_MINILM);
  if (!tokenizer.ok()) {
    std::fprintf(stderr, "%s\n", tokenizer.status().to_string().c_str());
    return 1;
  }
  measure(*tokenizer, texts, 0);
  measure(*tokenizer, texts, 256);

  std::string joined, copy;
  for (const std::string& text : texts) joined += text;
  copy.resize(joined.size());
  Samples copies;
  for (int window = 0; window < kWindows; ++window)
    copies.add(static_cast<double>(joined.size()) / 1e6 * rate([&] {
                 std::memcpy(copy.data(), joined.data(), joined.size());
                 asm volatile("" : : "r"(copy.data()) : "memory");
               }));
  copies.print("a copy of the same bytes", "MB/s");
  std::printf(
      "  reference tokenizer (tokenizers 0.23, one thread, another machine of this kind): 5,000 passages/s, about 2.6 "
      "MB/s\n");
  return 0;
}

}  // namespace
}  // namespace manta::bench

int main(int argc, char** argv) { return manta::bench::run(argc, argv); }

// The sentence encoder on real text, one core: passages a second and floating-point operations on real tokens, beside what
// the same core reaches in LibTorch's own float32 matrix product, measured in turn with it.
#include <ATen/Parallel.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/randn.h>
#include <c10/core/InferenceMode.h>
#include <manta/torch.h>
#include <sys/resource.h>

#include "bench/models_bench.h"

namespace manta::bench {
namespace {

constexpr int kWindows = 5;
constexpr size_t kPassages = 192;  ///< In one window: about 7 s of one core.

// all-MiniLM-L6-v2.
constexpr double kHidden = 384, kIntermediate = 1536, kLayers = 6;

/// Operations of the layers' matrix products alone, which is what the core's product rate is compared with.
double product_operations(double tokens) {
  return tokens * kLayers * 2 * (4 * kHidden * kHidden + 2 * kHidden * kIntermediate);
}

/// GFLOP/s of x [2048, 384] times w [1536, 384] and back, half a second of it.
double matrix_product_rate() {
  const c10::InferenceMode guard;
  const at::Tensor x = at::randn({2048, 384}), up = at::randn({1536, 384}), down = at::randn({384, 1536});
  (void)at::linear(at::linear(x, up), down);
  const double start = cpu_seconds();
  double operations = 0, elapsed = 0;
  while (elapsed < 0.5) {
    (void)at::linear(at::linear(x, up), down);
    operations += 2.0 * 2 * 2048 * 384 * 1536;
    elapsed = cpu_seconds() - start;
  }
  return operations / elapsed / 1e9;
}

struct Measured {
  Samples passages, gflops, share;
};

/// One window: all texts once, in calls of 64 as a pool's actor makes them.
Status window(TextEncoder& encoder, std::span<const std::string_view> texts, double product_rate, Measured& out) {
  std::vector<float> rows(texts.size() * encoder.dimension());
  const uint64_t before = encoder.tokens_encoded();
  const double start = cpu_seconds();
  for (size_t at = 0; at < texts.size(); at += 64) {
    const auto batch = texts.subspan(at, std::min<size_t>(64, texts.size() - at));
    if (Status status = encoder.encode(batch, rows.data() + at * encoder.dimension()); !status.ok()) return status;
  }
  const double elapsed = cpu_seconds() - start;
  const double gflops = product_operations(static_cast<double>(encoder.tokens_encoded() - before)) / elapsed / 1e9;
  out.passages.add(static_cast<double>(texts.size()) / elapsed);
  out.gflops.add(gflops);
  out.share.add(100 * gflops / product_rate);
  return {};
}

int run(int argc, char** argv) {
  std::printf("encoder: all-MiniLM-L6-v2, one thread, its CPU time; min / median / max of %d windows in turn\n", kWindows);
  std::vector<std::string> texts = corpus(argc, argv);
  texts.resize(std::min(texts.size(), kPassages));
  const std::vector<std::string_view> all = views(texts);

  auto single = TextEncoder::load(MANTA_MINILM), half = TextEncoder::load(MANTA_MINILM, {.dtype = Dtype::kBFloat16});
  for (const auto* encoder : {&single, &half})
    if (!encoder->ok()) {
      std::fprintf(stderr, "%s\n", encoder->status().to_string().c_str());
      return 1;
    }
  at::set_num_threads(1);
  Samples product;
  Measured float32, bfloat16, warm_up;
  for (int i = -1; i < kWindows; ++i) {
    const double rate = matrix_product_rate();
    Measured& one = i < 0 ? warm_up : float32;
    Measured& other = i < 0 ? warm_up : bfloat16;
    if (!window(*single, all, rate, one).ok() || !window(*half, all, rate, other).ok()) return 1;
    if (i < 0) continue;
    product.add(rate);
  }
  std::printf("  %zu passages, %.0f tokens on average, nothing padded\n", all.size(),
              static_cast<double>(single->tokens_encoded()) / (kWindows + 1) / static_cast<double>(all.size()));
  product.print("LibTorch linear, float32 (the core's own rate)", "GFLOP/s");
  float32.passages.print("float32", "passages/s");
  float32.gflops.print("float32, its linear layers' operations over all time", "GFLOP/s");
  float32.share.print("float32, share of the core's float32 rate", "%");
  bfloat16.passages.print("bfloat16", "passages/s");
  bfloat16.gflops.print("bfloat16, its linear layers' operations over all time", "GFLOP/s");
  std::printf("  bfloat16 over float32, medians: %.2f\n", bfloat16.passages.median() / float32.passages.median());
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  std::printf("  peak memory of this process, two encoders and the reference: %ld MB\n", usage.ru_maxrss / 1024);
  return 0;
}

}  // namespace
}  // namespace manta::bench

int main(int argc, char** argv) { return manta::bench::run(argc, argv); }

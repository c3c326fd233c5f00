// manta-embed: Parquet with texts in, Parquet with embeddings out. The main job of Manta in one screen:
// read_parquet -> map_batches in a pool of actors that hold the model -> write_parquet.
#include <arrow/api.h>
#include <manta/data.h>
#include <manta/manta.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <string>

#include "examples/embed/embedder.h"

namespace {

using manta::Code;
using manta::Error;

struct Flags {
  std::string model, input, output;
  std::string column = "text";
  std::string workers, dtype = "fp32", nulls = "refuse";
  int64_t batch_size = 64;
  int64_t max_length = 0;
  double gpus = 0;
};

void add_flags(CLI::App& app, Flags& flags) {
  app.add_option("--model", flags.model, "folder of a sentence encoder, as Hugging Face keeps it")->required();
  app.add_option("--input", flags.input, "Parquet: a file, a folder or a glob")->required();
  app.add_option("--column", flags.column, "the column with the texts")->capture_default_str();
  app.add_option("--output", flags.output, "the folder to make; must not exist")->required();
  app.add_option("--batch-size", flags.batch_size, "rows an actor gets at a time")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  app.add_option("--workers", flags.workers, "actors, MIN:MAX or N (default: one a CPU; with --gpus as many as fit)");
  app.add_option("--gpus", flags.gpus, "GPUs an actor takes; may be a fraction")->check(CLI::Range(0.0, 1024.0));
  app.add_option("--dtype", flags.dtype, "what the model computes in")
      ->check(CLI::IsMember({"fp32", "bf16"}))
      ->capture_default_str();
  app.add_option("--max-length", flags.max_length, "tokens a text is cut to (default: the model's)")
      ->check(CLI::Range(0, 1 << 20));
  app.add_option("--nulls", flags.nulls, "null texts: refuse the input, or embed them as empty ones")
      ->check(CLI::IsMember({"empty", "refuse"}))
      ->capture_default_str();
}

/// "2:8", or "4" for exactly four. Nothing given: one for each CPU from the start.
manta::Pool pool_of(const Flags& flags) {
  const int cpus = std::max(1, static_cast<int>(manta::node_info().cpus));
  if (flags.workers.empty()) return flags.gpus > 0 ? manta::Pool{.min = 1, .max = 0} : manta::Pool{.min = cpus, .max = cpus};
  int min = 0;
  int max = 0;
  char rest = 0;
  const int read = std::sscanf(flags.workers.c_str(), "%d:%d%c", &min, &max, &rest);
  if (read == 1 && flags.workers.find(':') == std::string::npos) max = min;
  if (read < 1 || read > 2 || min < 0 || max < std::max(min, 1))
    throw Error({Code::kInvalid, "--workers is '" + flags.workers + "'; it takes MIN:MAX, such as 1:4, or one number"});
  return {.min = min, .max = max};
}

/// What is wrong with the input, the output or the model is said before the first actor loads anything.
manta::Async<void> check(Flags flags, embed::EmbedSettings settings) {
  if (std::filesystem::exists(flags.output))
    throw Error({Code::kExists, flags.output + ": exists already; --output names a folder to make"});
  manta::TextEncoderOptions options = embed::encoder_options(settings);
  options.device = "cpu";  // nothing is loaded here
  manta::value_or_throw(manta::TextEncoder::inspect(flags.model, options));
  const manta::ExecutionOptions silent{.progress = false};
  const std::shared_ptr<arrow::Table> none = co_await manta::read_parquet(flags.input).with(silent).take(0);
  const std::string objection = embed::objection_to(*none->schema(), flags.column);
  if (!objection.empty()) throw Error({Code::kInvalid, flags.input + ": " + objection});
}

manta::Async<int> program(int argc, char** argv) {
  CLI::App app("Embeds a text column of Parquet files: copies all columns and adds `embedding`, a list of float32.");
  Flags flags;
  add_flags(app, flags);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    co_return app.exit(error) == 0 ? 0 : 2;
  }
  const embed::EmbedSettings settings{
      .model = std::filesystem::absolute(flags.model).string(),
      .column = flags.column,
      .bfloat16 = flags.dtype == "bf16",
      .is_on_gpu = flags.gpus > 0 && std::filesystem::exists("/dev/nvidia0"),  // without one, logical GPUs are CPUs
      .max_length = flags.max_length,
      .nulls_are_empty = flags.nulls == "empty",
  };
  const manta::MapOptions options{
      .batch_size = flags.batch_size, .gpus = flags.gpus, .pool = pool_of(flags), .name = "embed"};
  co_await check(flags, settings);

  const auto start = std::chrono::steady_clock::now();
  const manta::WriteResult result =
      co_await manta::read_parquet(flags.input).map_batches<embed::Embedder>(options, settings).write_parquet(flags.output);
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  std::printf("embedded %lld rows in %.1f s, %.1f rows/s: %s\n", static_cast<long long>(result.rows), took.count(),
              static_cast<double>(result.rows) / took.count(), result.path.c_str());
  co_return 0;
}

}  // namespace

int main(int argc, char** argv) { return manta::run(argc, argv, program); }

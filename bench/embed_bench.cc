// The main job end to end, Parquet to Parquet, as a user runs it: passages a second with the start and the end of
// everything, the memory of its processes, and what the cores reach in LibTorch's own float32 matrix product, measured in
// turn with it.
//
// MANTA_BENCH_ROWS ("1024,4096") and MANTA_BENCH_RUNS (3) make it shorter; PEERS names a folder whose v/bin/python has
// sentence-transformers and Ray, to be measured on the same file in turn with it (bench/embed_peer.py).
#include <ATen/Parallel.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/randn.h>
#include <arrow/api.h>
#include <arrow/io/file.h>
#include <c10/core/InferenceMode.h>
#include <manta/torch.h>
#include <parquet/arrow/writer.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <sstream>
#include <thread>

#include "bench/embed_peers.h"
#include "bench/models_bench.h"
#include "bench/stats.h"
#include "examples/embed/program_output.h"

namespace manta::bench {
namespace {

namespace fs = std::filesystem;

// all-MiniLM-L6-v2: operations of its layers' matrix products, a token.
constexpr double kOperationsPerToken = 6 * 2 * (4.0 * 384 * 384 + 2.0 * 384 * 1536);

/// GFLOP/s a core of x [2048, 384] times w [1536, 384] and back, on all cores at once, a second of it.
double matrix_product_rate(unsigned cores) {
  std::atomic<int64_t> products{0};
  std::vector<std::thread> threads;
  std::atomic<bool> done{false};
  for (unsigned i = 0; i < cores; ++i)
    threads.emplace_back([&] {
      at::set_num_threads(1);
      const c10::InferenceMode guard;
      const at::Tensor x = at::randn({2048, 384}), up = at::randn({1536, 384}), down = at::randn({384, 1536});
      while (!done) {
        (void)at::linear(at::linear(x, up), down);
        products += 2;
      }
    });
  const double seconds = ::bench::seconds_of([&] {
    std::this_thread::sleep_for(std::chrono::seconds(1));
    done = true;
    for (std::thread& thread : threads) thread.join();
  });
  return static_cast<double>(products) * 2.0 * 2048 * 384 * 1536 / seconds / 1e9 / cores;
}

/// The highest resident set of each of our descendants so far, by what it is.
class Memory {
 public:
  Memory() : thread_([this] { watch(); }) {}
  void finish(Samples& coordinators, Samples& actors) {
    done_ = true;
    thread_.join();
    double driver = 0, daemon = 0, actor = 0;
    for (const auto& [pid, seen] : seen_) {
      double& peak = seen.is_daemon ? daemon : seen.is_worker ? actor : driver;
      peak = std::max(peak, seen.peak_mb);
    }
    coordinators.add(driver + daemon);
    actors.add(actor);
  }

 private:
  struct Seen {
    double peak_mb = 0;
    bool is_daemon = false, is_worker = false;
  };
  struct Process {
    std::string name;
    int parent = 0;
    double peak_mb = 0;
  };
  static Process read(const std::string& pid) {
    Process out;
    std::ifstream file("/proc/" + pid + "/status");
    for (std::string key; file >> key;) {
      if (key == "Name:") file >> out.name;
      if (key == "PPid:") file >> out.parent;
      if (key == "VmHWM:") file >> out.peak_mb, out.peak_mb /= 1024;
    }
    return out;
  }
  void watch() {
    while (!done_) {
      std::map<int, Process> all;
      std::error_code error;
      for (const fs::directory_entry& entry : fs::directory_iterator("/proc", error)) {
        const std::string pid = entry.path().filename().string();
        if (pid.find_first_not_of("0123456789") != std::string::npos) continue;
        Process process = read(pid);
        if (process.name == "manta-embed" || process.name == "mantad") all[std::atoi(pid.c_str())] = process;
      }
      for (const auto& [pid, process] : all) {
        const auto parent = all.find(process.parent);
        Seen& seen = seen_[pid];
        seen.peak_mb = std::max(seen.peak_mb, process.peak_mb);
        seen.is_daemon = process.name == "mantad";
        seen.is_worker = parent != all.end() && parent->second.name == "mantad";
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
  }
  std::map<int, Seen> seen_;
  std::atomic<bool> done_{false};
  std::thread thread_;
};

void die(const std::string& what) {
  std::fprintf(stderr, "bench_embed: %s\n", what.c_str());
  std::exit(1);
}

void write_parquet(const std::string& path, std::span<const std::string> texts) {
  arrow::StringBuilder builder;
  arrow::Int64Builder ids;
  for (const std::string& text : texts)
    if (!builder.Append(text).ok() || !ids.Append(ids.length()).ok()) die("no memory");
  const auto table =
      arrow::Table::Make(arrow::schema({arrow::field("id", arrow::int64()), arrow::field("text", arrow::utf8())}),
                         {ids.Finish().ValueOrDie(), builder.Finish().ValueOrDie()});
  const auto file = arrow::io::FileOutputStream::Open(path).ValueOrDie();
  if (!parquet::arrow::WriteTable(*table, arrow::default_memory_pool(), file, 1024).ok()) die("cannot write " + path);
}

double tokens_in(std::span<const std::string> texts) {
  const Tokenizer tokenizer = Tokenizer::load(MANTA_MINILM).value();
  double tokens = 0;
  for (const std::string& text : texts) tokens += static_cast<double>(tokenizer.encode(text, 256).value().size());
  return tokens;
}

struct Case {
  const char* dtype;
  Samples passages, share, coordinators, actors;
};

void run_once(Case& one, const std::string& input, const std::string& output, size_t rows, double tokens, unsigned cores,
              double rate) {
  fs::remove_all(output);
  Memory memory;
  const double seconds = ::bench::seconds_of([&] {
    const auto said =
        embed::output_of({MANTA_EMBED, "--model", MANTA_MINILM, "--input", input, "--output", output, "--dtype", one.dtype},
                         {.timeout = std::chrono::minutes(30)});
    if (!said.ok()) die(said.status().to_string());
  });
  one.passages.add(static_cast<double>(rows) / seconds);
  one.share.add(100 * tokens * kOperationsPerToken / seconds / cores / 1e9 / rate);
  memory.finish(one.coordinators, one.actors);
}

void measure(const std::vector<std::string>& all, size_t rows, int runs, const fs::path& work) {
  const std::span<const std::string> texts(all.data(), std::min(rows, all.size()));
  const double tokens = tokens_in(texts);
  const unsigned cores = std::max(1u, std::thread::hardware_concurrency());
  const std::string input = work / (std::to_string(rows) + ".parquet");
  write_parquet(input, texts);
  std::printf("  %zu passages, %.0f tokens on average, %u cores, %d runs in turn\n", texts.size(),
              tokens / static_cast<double>(texts.size()), cores, runs);
  Samples product;
  Case cases[] = {{.dtype = "fp32", .passages = {}, .share = {}, .coordinators = {}, .actors = {}},
                  {.dtype = "bf16", .passages = {}, .share = {}, .coordinators = {}, .actors = {}}};
  std::optional<EmbedPeers> peers;
  if (const char* place = std::getenv("PEERS"); place != nullptr)
    peers.emplace(EmbedPeers::Job{.python = std::string(place) + "/v/bin/python",
                                  .script = MANTA_PEER,
                                  .model = MANTA_MINILM,
                                  .input = input,
                                  .output = work / "peer",
                                  .passages = texts.size()});
  for (int i = 0; i < runs; ++i) {
    for (Case& one : cases) {
      const double rate = matrix_product_rate(cores);
      product.add(rate);
      run_once(one, input, work / "out", texts.size(), tokens, cores, rate);
    }
    if (peers) peers->run_round();
  }
  product.print("LibTorch linear, float32, a core with all busy", "GFLOP/s");
  for (const Case& one : cases) {
    const std::string name = one.dtype;
    one.passages.print(name + ", Parquet to Parquet, with start and end", "passages/s");
    one.share.print(name + ", linear layers over all time, share of that rate", "%");
    one.coordinators.print(name + ", peak memory of driver and mantad", "MB");
    one.actors.print(name + ", peak memory of an actor", "MB");
  }
  std::printf("  bf16 over fp32, medians: %.2f\n", cases[1].passages.median() / cases[0].passages.median());
  if (peers) peers->print(cases[0].passages.median());
}

int run(int argc, char** argv) {
  std::printf("embed: the main job, all-MiniLM-L6-v2; min / median / max\n");
  const std::vector<std::string> texts = corpus(argc, argv);
  const char* const rows = std::getenv("MANTA_BENCH_ROWS");
  const char* const runs = std::getenv("MANTA_BENCH_RUNS");
  std::string work = (fs::temp_directory_path() / "manta-bench-embed.XXXXXX").string();
  if (::mkdtemp(work.data()) == nullptr) die("cannot make " + work);
  std::istringstream list(rows != nullptr ? rows : "1024,4096");
  for (std::string count; std::getline(list, count, ',');)
    measure(texts, static_cast<size_t>(std::max(1, std::atoi(count.c_str()))),
            runs != nullptr ? std::max(1, std::atoi(runs)) : 3, work);
  fs::remove_all(work);
  return 0;
}

}  // namespace
}  // namespace manta::bench

int main(int argc, char** argv) { return manta::bench::run(argc, argv); }

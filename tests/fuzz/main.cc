// The part that all fuzz targets share. Under libFuzzer: `foo_fuzz --write-seeds DIR` writes the corpus. Otherwise: the
// whole program,
//
//   foo_fuzz [--write-seeds DIR] [--runs N] [--seed S] [FILE...]
//
// which runs the files given, or the seeds, the regression inputs (regressions/<target>: what once crashed it) and N
// mutations of both. An input that crashes is left in ./crash-<pid>.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <random>

#include "common/log.h"
#include "tests/fuzz/fuzz.h"

namespace manta::fuzz {
namespace {

void write_seeds(const std::string& folder) {
  std::filesystem::create_directories(folder);
  int number = 0;
  for (const std::string& seed : seeds())
    std::ofstream(folder + "/seed-" + std::to_string(number++), std::ios::binary) << seed;
}

#ifndef MANTA_LIBFUZZER

void run(const std::string& input) {
  // A copy of exactly this size, so that AddressSanitizer sees a read one byte past it.
  const std::vector<uint8_t> bytes(input.begin(), input.end());
  LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
}

// The input at work, for the handler of a crash.
const std::string* current = nullptr;

void leave_input(int signal) {
  char name[32] = "crash-";
  size_t length = std::strlen(name);
  for (int pid = getpid(); pid > 0; pid /= 10) name[length++] = static_cast<char>('0' + pid % 10);
  const int file = ::open(name, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0644);
  if (file >= 0 && current) (void)!::write(file, current->data(), current->size());
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

class Mutator {
 public:
  Mutator(std::vector<std::string> from, uint64_t seed) : from_(std::move(from)), random_(seed) {}

  std::string next() {
    std::string input = from_[below(from_.size())];
    for (size_t i = 0; i <= below(4); ++i) change(input);
    return input;
  }

 private:
  size_t below(size_t bound) { return bound == 0 ? 0 : random_() % bound; }

  void change(std::string& input) {
    static constexpr uint8_t kBytes[] = {0, 1, 0x7f, 0x80, 0xc1, 0xc6, 0xdb, 0xdd, 0xdf, 0xfe, 0xff};
    static constexpr uint32_t kWords[] = {0, 1, 0x7fffffff, 0x80000000, 0xffffffff, 0xfffffff0, 0x01000000, 0x00010000};
    if (input.empty()) input.push_back(static_cast<char>(random_()));
    const size_t at = below(input.size());
    switch (below(8)) {
      case 0: input[at] = static_cast<char>(input[at] ^ (1 << below(8))); break;
      case 1: input[at] = static_cast<char>(kBytes[below(std::size(kBytes))]); break;
      case 2: input.resize(at); break;
      case 3: input.insert(at, 1 + below(8), static_cast<char>(random_())); break;
      case 4: input.erase(at, 1 + below(8)); break;
      case 5: input.insert(at, input.substr(below(input.size()), below(32))); break;
      case 6: {
        const uint32_t word = kWords[below(std::size(kWords))];
        input.replace(at, std::min(sizeof word, input.size() - at), reinterpret_cast<const char*>(&word), sizeof word);
        break;
      }
      default: {
        const std::string& other = from_[below(from_.size())];
        input = input.substr(0, at) + other.substr(below(other.size()));
      }
    }
    if (input.size() > 65'536) input.resize(65'536);
  }

  std::vector<std::string> from_;
  std::mt19937_64 random_;
};

std::vector<std::string> regressions() {
  std::vector<std::string> files;
  if (!std::filesystem::is_directory(MANTA_FUZZ_REGRESSIONS)) return files;
  for (const auto& file : std::filesystem::directory_iterator(MANTA_FUZZ_REGRESSIONS)) files.push_back(file.path());
  std::sort(files.begin(), files.end());
  return files;
}

int run_all(const std::vector<std::string>& given, uint64_t runs, uint64_t seed) {
  const std::vector<std::string> files = given.empty() ? regressions() : given;
  std::vector<std::string> inputs = given.empty() ? seeds() : std::vector<std::string>();
  for (const std::string& file : files) {
    std::ifstream in(file, std::ios::binary);
    if (!in) {
      std::cerr << "cannot read " << file << "\n";
      return 2;
    }
    inputs.emplace_back(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>());
  }
  for (const std::string& input : inputs) {
    current = &input;
    run(input);
  }
  if (!given.empty()) return 0;
  std::cout << inputs.size() << " inputs, " << runs << " mutations, --seed " << seed << std::endl;
  Mutator mutator(inputs, seed);
  std::string input;
  current = &input;
  for (uint64_t i = 0; i < runs; ++i) {
    input = mutator.next();
    run(input);
  }
  return 0;
}

#endif

}  // namespace
}  // namespace manta::fuzz

#ifdef MANTA_LIBFUZZER

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  manta::log::set_level(manta::log::Level::kOff);
  if (*argc == 3 && std::strcmp((*argv)[1], "--write-seeds") == 0) {
    manta::fuzz::write_seeds((*argv)[2]);
    std::exit(0);
  }
  return 0;
}

#else

int main(int argc, char** argv) {
  uint64_t runs = 100'000;
  uint64_t seed = 1;
  std::vector<std::string> files;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--write-seeds" && i + 1 < argc) {
      manta::fuzz::write_seeds(argv[i + 1]);
      return 0;
    }
    if (word == "--runs" && i + 1 < argc) {
      runs = std::stoull(argv[++i]);
    } else if (word == "--seed" && i + 1 < argc) {
      seed = std::stoull(argv[++i]);
    } else {
      files.push_back(word);
    }
  }
  manta::log::set_level(manta::log::Level::kOff);
  for (const int signal : {SIGABRT, SIGSEGV, SIGBUS, SIGFPE}) std::signal(signal, manta::fuzz::leave_input);
  return manta::fuzz::run_all(files, runs, seed);
}

#endif

// A driver that holds objects which cannot be made again, while the node where they lie is drained.
//
//   hold COUNT BYTES FOLDER [RETRIES]    has COUNT arrays made at the nodes labelled place=old, each of which notes its
//   number
//                                        in FOLDER, and lets a reader at place=new look at some; then waits for
//                                        FOLDER/check, and checks all of them, as does the reader and a task for each
#include <manta/manta.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

namespace {

using Words = manta::Array<uint64_t>;

void say(const std::string& line) {
  std::puts(line.c_str());
  std::fflush(stdout);
}

uint64_t word(uint64_t number, uint64_t i) { return (number << 32 | i) * 0x9e3779b97f4a7c15ull; }

Words made(uint64_t number, size_t bytes) {
  std::vector<uint64_t> out(bytes / 8);
  for (size_t i = 0; i < out.size(); ++i) out[i] = word(number, i);
  return Words(std::span<const uint64_t>(out));
}

bool is_right(const Words& words, uint64_t number, size_t bytes) {
  if (words.size() != bytes / 8) return false;
  for (size_t i = 0; i < words.size(); ++i)
    if (words[i] != word(number, i)) return false;
  return true;
}

}  // namespace

Words make(uint64_t number, size_t bytes, const std::string& folder) {
  std::ofstream(std::filesystem::path(folder) / ("made-" + std::to_string(number)), std::ios::app) << "once\n";
  return made(number, bytes);
}

bool look(const Words& words, uint64_t number, size_t bytes) { return is_right(words, number, bytes); }

using Held = std::vector<manta::Ref<Words>>;

/// Makes some, and ends when nobody needs it any more: what it made stays.
class Maker {
 public:
  Words make(uint64_t number, size_t bytes) {
    ++count_;
    return made(number, bytes);
  }
  uint64_t count() const { return count_; }

 private:
  uint64_t count_ = 0;
};

/// Borrows what others made.
class Reader {
 public:
  void hold(Held held) { held_ = std::move(held); }
  uint64_t read(uint64_t from, uint64_t to, size_t bytes) {
    uint64_t right = 0;
    for (uint64_t i = from; i < to; ++i) right += is_right(held_[i].get(), i, bytes) ? 1 : 0;
    return right;
  }

 private:
  Held held_;
};

int program(int argc, char** argv) {
  if (argc < 4) return 2;
  const uint64_t count = std::strtoull(argv[1], nullptr, 10);
  const size_t bytes = std::strtoull(argv[2], nullptr, 10);
  const std::filesystem::path folder = argv[3];
  const int retries = argc > 4 ? std::atoi(argv[4]) : 0;
  Held held;
  {
    const auto maker = manta::spawn<Maker>.with({.labels = {{"place", "old"}}})();
    for (uint64_t i = 0; i < count; ++i) {
      if (i % 8 == 7 && retries == 0) {
        held.push_back(maker.call<&Maker::make>(i, bytes));
      } else {
        held.push_back(
            manta::remote<&make>.with({.retries = retries, .labels = {{"place", "old"}}})(i, bytes, std::string(folder)));
      }
    }
    for (uint64_t i = 0; i < count; i += 4)
      if (!is_right(held[i].get(), i, bytes)) return say("wrong at once: " + std::to_string(i)), 1;
    // The others are not read here: that would bring copies.
    const uint64_t by_maker = maker.call<&Maker::count>().get();
    const auto notes = [&] { return static_cast<uint64_t>(std::distance(std::filesystem::directory_iterator(folder), {})); };
    while (notes() + by_maker < count) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  const auto reader = manta::spawn<Reader>.with({.labels = {{"place", "new"}}})();
  reader.call<&Reader::hold>(held).get();
  const uint64_t early = count / 4;
  if (reader.call<&Reader::read>(uint64_t{0}, early, bytes).get() != early) return say("the reader saw wrong"), 1;
  say("all made");
  while (!std::filesystem::exists(folder / "check")) std::this_thread::sleep_for(std::chrono::milliseconds(20));
  std::vector<manta::Ref<bool>> looks;
  for (uint64_t i = 0; i < count; ++i) looks.push_back(manta::remote<&look>(held[i], i, bytes));
  if (reader.call<&Reader::read>(uint64_t{0}, count, bytes).get() != count) return say("the reader sees wrong"), 1;
  for (uint64_t i = 0; i < count; ++i) {
    if (!is_right(held[i].get(), i, bytes) || !looks[i].get()) return say("wrong: " + std::to_string(i)), 1;
  }
  say(std::to_string(count) + " right");
  return 0;
}

int main(int argc, char** argv) { return manta::run(argc, argv, program); }

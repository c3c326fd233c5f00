// What a call will read from another node comes while the calls before it run: an actor at place 1 is given objects of
// place 0, one a call, and its calls end when a file is there.
//
//   ahead END_FILE THREADS   threads of the actor
#include <manta/manta.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace {

constexpr size_t kObjectBytes = size_t{8} << 20;
constexpr int kCalls = 4;
constexpr auto kPatience = std::chrono::seconds(60);
std::string end_file;
int threads = 1;

}  // namespace

struct Maker {
  std::vector<manta::Ref<manta::Buffer>> make() {
    std::vector<manta::Ref<manta::Buffer>> made(kCalls);
    for (auto& one : made) one = manta::put(manta::Buffer::uninitialized(kObjectBytes));
    return made;
  }
};

struct Reader {
  size_t read(const manta::Buffer& object, const std::string& until) {
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    while (!std::filesystem::exists(until)) {
      if (std::chrono::steady_clock::now() > deadline) throw std::runtime_error("nobody made " + until);
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return object.size();
  }
};

namespace {

template <typename T>
manta::Actor<T> at(int place, int concurrency) {
  return manta::spawn<T>.with({.max_concurrency = concurrency, .labels = {{"place", std::to_string(place)}}})();
}

int program() {
  const manta::Actor<Maker> maker = at<Maker>(0, 1);
  const manta::Actor<Reader> reader = at<Reader>(1, threads);
  const auto objects = maker.call<&Maker::make>().get();
  std::vector<manta::Ref<size_t>> calls;
  calls.reserve(objects.size());
  for (const auto& object : objects) calls.push_back(reader.call<&Reader::read>(object, end_file));
  for (const size_t size : manta::get(calls))
    if (size != kObjectBytes) throw std::runtime_error("an object is not what was put");
  std::printf("all read\n");
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 2) end_file = argv[1], threads = std::atoi(argv[2]);
  return manta::run(argc, argv, program);
}

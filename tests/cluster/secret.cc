// A job whose data is a text that a test looks for on the wire: in arguments, results, objects, actors' calls and names, on
// other nodes than its own.
//
//   secret TEXT
#include <manta/manta.h>

#include <cstdio>
#include <stdexcept>
#include <string>
#include <utility>

std::string echo(std::string text) { return text; }

std::string grown(const std::string& text, size_t least_bytes) {
  std::string out;
  while (out.size() < least_bytes) out += text;
  return out;
}

class Keeper {
 public:
  explicit Keeper(std::string text) : text_(std::move(text)) {}
  std::string give() { return text_; }

 private:
  std::string text_;
};

int program(int argc, char** argv) {
  if (argc != 2) throw std::runtime_error("secret TEXT");
  const std::string text = argv[1];
  constexpr size_t kLarge = 3'000'000;
  if (manta::remote<&echo>(text).get() != text) throw std::runtime_error("a small text came back as another");
  const auto large = manta::remote<&grown>(text, kLarge);  // lies on its node until it is read
  if (manta::remote<&echo>(large).get() != large.get()) throw std::runtime_error("a large text came back as another");
  const auto put = manta::put(grown(text, kLarge));
  if (manta::remote<&echo>(put).get() != put.get()) throw std::runtime_error("an object came back as another");
  auto keeper = manta::spawn<Keeper>.with({.name = text})(text);
  if (keeper.call<&Keeper::give>().get() != text) throw std::runtime_error("an actor gave another text");
  std::printf("nothing was lost\n");
  return 0;
}

int main(int argc, char** argv) { return manta::run(argc, argv, program); }

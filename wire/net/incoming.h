// Which batches of the streams of others have come: each counts once and in order. Pure: no socket, clock or thread.
//
// A stream belongs to the key that it came with. A key has a bounded number of streams: of those, such as of a token's many
// bearers before they joined, the longest silent is forgotten first.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <unordered_map>

namespace manta::wire {

class Incoming {
 public:
  enum class Verdict : uint8_t {
    kNew,        ///< The next one: it counts.
    kDuplicate,  ///< Came already.
    kGap,        ///< One before it did not come: it must be sent again.
  };
  static constexpr size_t kMaxStreamsOfKey = 1024;

  /// A batch of that number came; a new one is counted.
  Verdict accept(const std::string& key, uint64_t stream, uint64_t sequence) {
    uint64_t& last = find(key, stream).last;
    if (sequence <= last) return Verdict::kDuplicate;
    if (sequence != last + 1) return Verdict::kGap;
    ++last;
    return Verdict::kNew;
  }
  /// Of one whose gaps cannot be asked for: every later one is new.
  Verdict accept_later(const std::string& key, uint64_t stream, uint64_t sequence) {
    uint64_t& last = find(key, stream).last;
    if (sequence <= last) return Verdict::kDuplicate;
    last = sequence;
    return Verdict::kNew;
  }
  /// Up to which number everything has come.
  [[nodiscard]] uint64_t last(const std::string& key, uint64_t stream) { return find(key, stream).last; }

 private:
  struct Stream {
    uint64_t last = 0;
    uint64_t heard = 0;
  };
  using Streams = std::unordered_map<uint64_t, Stream>;

  Stream& find(const std::string& key, uint64_t stream) {
    Streams& streams = keys_[key];
    auto found = streams.find(stream);
    if (found == streams.end()) {
      if (streams.size() >= kMaxStreamsOfKey) forget_oldest(streams);
      found = streams.emplace(stream, Stream{}).first;
    }
    found->second.heard = ++count_;
    return found->second;
  }
  static void forget_oldest(Streams& streams) {
    auto oldest = streams.begin();
    for (auto it = streams.begin(); it != streams.end(); ++it)
      if (it->second.heard < oldest->second.heard) oldest = it;
    streams.erase(oldest);
  }

  std::map<std::string, Streams> keys_;
  uint64_t count_ = 0;
};

}  // namespace manta::wire

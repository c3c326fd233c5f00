// A raylet against other nodes, a head and clients that say anything in any order: what decodes is acted upon, and the
// tables stay what they should be after each step (FakeWorld looks).
#include "common/check.h"
#include "raylet/client_messages.h"
#include "raylet/testing/fake_world.h"
#include "tests/fuzz/fuzz.h"
#include "wire/node_resources.h"

namespace manta::fuzz {
namespace {

using namespace raylet;

constexpr wire::NodeNumber kOwn = 3;
constexpr wire::NodeNumber kOther = 7;
constexpr ProcessId kThere{wire::first_id_of(kOther) + 5};

/// Its parts are {what, how much later, size} and so many bytes.
enum What : char {
  kClient,
  kForward,
  kRemoteLease,
  kLeaseSpilled,
  kProcessGone,
  kHead,
  kMembers,
  kView,
  kStart,
  kBury,
  kWhats
};

std::string part(What what, const std::string& body = {}, int later = 1) {
  return std::string{what, static_cast<char>(later), static_cast<char>(body.size() >> 8), static_cast<char>(body.size())} +
         body;
}
template <typename Message>
std::string client(const Message& message) {
  return part(kClient, wire::encode(wire::Forward{
                           .from = 0, .type = static_cast<uint16_t>(Message::kType), .body = wire::encode(message)}));
}
template <typename Message>
std::string forward(const Message& message) {
  return part(kForward,
              wire::encode(wire::Forward{
                  .from = kThere.value, .type = static_cast<uint16_t>(Message::kType), .body = wire::encode(message)}));
}

wire::NodeInfo other() {
  wire::NodeInfo info;
  info.number = kOther;
  info.capacity.cpus = 4 * wire::kWhole;
  info.capacity.memory_bytes = 1 << 30;
  return info;
}

class Raylet {
 public:
  Raylet() : world_(4, 2, kOwn) { world_.feed(MembersChanged{{.joined = {other()}, .gone = {}}}); }

  void play(std::string_view script) {
    while (script.size() >= 4 && !world_.is_ended) {
      const auto at = [&](size_t i) { return static_cast<uint8_t>(script[i]); };
      const size_t size = std::min<size_t>(size_t{at(2)} << 8 | at(3), script.size() - 4);
      world_.now_us += int64_t{at(1)} * 50'000;
      say(static_cast<What>(at(0) % kWhats), script.substr(4, size));
      script.remove_prefix(4 + size);
      if (const auto due = world_.core.next_deadline_us(); due && *due <= world_.now_us) world_.feed(Tick{});
    }
  }

 private:
  /// As raylet/cluster_side.cc and node_cluster.cc check and pass on what comes from kOther and from the head.
  void say(What what, std::string_view bytes) {
    switch (what) {
      case kClient: return with<wire::Forward>(bytes, [&](auto& m) { from_client(FakeWorld::kDriver, m); });
      case kForward:
        return with<wire::Forward>(bytes, [&](auto& m) {
          if (wire::node_of(m.from) == kOther) from_client(ProcessId{m.from}, m);
        });
      case kRemoteLease:
        return with<wire::RemoteLease>(bytes, [&](auto& m) { world_.feed(LeaseAsked{kOther, std::move(m)}); });
      case kLeaseSpilled:
        return with<wire::LeaseSpilled>(bytes, [&](auto& m) { world_.feed(LeaseSpilledBack{kOther, std::move(m)}); });
      case kProcessGone:
        return with<wire::ProcessGone>(bytes, [&](auto& m) {
          if (wire::node_of(m.process) == kOther) world_.feed(RemoteProcessGone{std::move(m)});
        });
      case kHead:
        if (Result<wire::FromHead> message = wire::decode_from_head(bytes); message.ok())
          world_.feed(HeadSays{std::move(*message)});
        return;
      // The head lets nobody in whose amounts make no sense.
      case kMembers:
        return with<wire::Members>(bytes, [&](auto& m) {
          std::erase_if(m.joined, [](const auto& one) { return !wire::validate(one.capacity).ok(); });
          world_.feed(MembersChanged{std::move(m)});
        });
      case kView:
        return with<wire::View>(bytes, [&](auto& m) {
          std::erase_if(m.changed, [](const auto& one) { return !wire::validate(one.available).ok(); });
          world_.feed(ViewChanged{std::move(m)});
        });
      case kStart: return world_.starting.empty() ? void() : void(world_.start_one());
      default: return world_.bury_killed();
    }
  }
  template <typename Message, typename Handle>
  void with(std::string_view bytes, Handle handle) {
    if (Result<Message> message = wire::decode<Message>(bytes); message.ok()) handle(*message);
  }
  void from_client(ProcessId process, const wire::Forward& message) {
    Result<ClientMessage> decoded = decode_client_message(static_cast<wire::Type>(message.type), message.body);
    if (decoded.ok()) world_.feed(FromClient{process, std::move(*decoded)});
  }

  FakeWorld world_;
};

template <size_t... I>
void add_clients(std::vector<std::string>& out, std::index_sequence<I...>) {
  (out.push_back(client(std::variant_alternative_t<I, ClientMessage>{}) +
                 forward(std::variant_alternative_t<I, ClientMessage>{})),
   ...);
}
template <size_t... I>
void add_heads(std::vector<std::string>& out, std::index_sequence<I...>) {
  (out.push_back(part(kHead, wire::encode_from_head(wire::FromHead(std::in_place_index<I>)))), ...);
}

}  // namespace

std::vector<std::string> seeds() {
  std::vector<std::string> out;
  add_clients(out, std::make_index_sequence<std::variant_size_v<ClientMessage>>());
  add_heads(out, std::make_index_sequence<std::variant_size_v<wire::FromHead>>());
  wire::RequestLease request{.request = 1, .scheduling_class = {}};
  request.scheduling_class.resources.cpus = wire::kWhole;
  const std::string lease = client(request) + part(kStart);
  const wire::RemoteLease remote{
      .owner = kThere.value, .job = FakeWorld::kDriver.value, .request = request, .may_wait = true};
  const uint64_t first_lease = wire::first_id_of(kOwn) + 1;
  const std::string lent = part(kRemoteLease, wire::encode(remote)) + part(kStart);
  out.push_back(lease + client(wire::KillLease{.lease = first_lease}) + part(kBury));
  out.push_back(lent + forward(wire::ReturnLease{first_lease}) + forward(wire::WatchProcess{1}));
  out.push_back(lent + part(kProcessGone, wire::encode(wire::ProcessGone{.process = kThere.value})));
  request.scheduling_class.resources.cpus = 100 * wire::kWhole;
  request.scheduling_class.node = kOther;
  const wire::LeaseSpilled full{.owner = 1, .request = 1, .why = wire::to_wire(Status(Code::kFull, "no"))};
  out.push_back(client(request) + part(kLeaseSpilled, wire::encode(full)) +
                part(kView, wire::encode(wire::View{.version = 1, .changed = {{.number = kOther}}})));
  wire::PlaceActor place;
  place.owner = 1;
  place.job = 1;
  place.start.actor = {1, 1};
  place.start.incarnation = 1;
  place.scheduling_class.resources.gpus = wire::kWhole / 2;
  out.push_back(part(kHead, wire::encode_from_head(place)) + part(kStart) +
                part(kHead, wire::encode_from_head(wire::EndActor{.actor = {1, 1}, .incarnation = 1})) + part(kBury));
  wire::PrepareBundles prepare{.group = 5, .attempt = 1, .bundles = {{.index = 0, .resources = {.cpus = wire::kWhole}}}};
  request.scheduling_class = {.resources = {.cpus = wire::kWhole}, .env = {}, .group = 5};
  out.push_back(part(kHead, wire::encode_from_head(prepare)) +
                part(kHead, wire::encode_from_head(wire::CommitBundles{.group = 5, .attempt = 1})) + client(request) +
                part(kStart) + part(kHead, wire::encode_from_head(wire::ReleaseBundles{.group = 5, .attempt = 1})));
  wire::NodeGone gone{.number = kOther, .cause = {}};
  out.push_back(lent + lease + part(kMembers, wire::encode(wire::Members{.joined = {}, .gone = {gone}})) + part(kBury));
  return out;
}

}  // namespace manta::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size <= 8'192) manta::fuzz::Raylet().play({reinterpret_cast<const char*>(data), size});
  return 0;
}

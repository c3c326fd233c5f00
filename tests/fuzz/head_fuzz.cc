// The head against members that say anything in any order: what decodes is acted upon, with its files, and the tables stay
// what they should be. Among it programs that are uploaded and parts of logs.
#include <unistd.h>

#include <cstring>
#include <deque>
#include <filesystem>

#include "common/check.h"
#include "head/head_core.h"
#include "head/job_files.h"
#include "tests/fuzz/fuzz.h"

namespace manta::fuzz {
namespace {

using namespace head;
namespace fs = std::filesystem;

constexpr int kMembers = 4;

/// Its parts are {size, who says it, how much later} and the bytes of a Told; from 0 is a stranger.
std::string part(int from, int later, const wire::ToHead& message) {
  const std::string body = wire::encode_to_head({.number = 0, .message = message});
  return std::string{static_cast<char>(body.size() >> 8), static_cast<char>(body.size()), static_cast<char>(from),
                     static_cast<char>(later)} +
         body;
}

wire::Join join_of(int member) {
  wire::Join join{.version = "v", .info = {}, .nonce = static_cast<uint64_t>(member)};
  join.info.name = "n";
  join.info.endpoint = "tcp://host:" + std::to_string(member);
  join.info.is_driver = member == kMembers;
  if (member < kMembers) {
    join.info.capacity = {.cpus = 4 * wire::kWhole, .memory_bytes = 1 << 30, .custom = {{"x", 1}}, .devices = {}};
    join.info.capacity.devices.assign(2, {.share = wire::kWhole, .memory_bytes = 1'000});
  }
  return join;
}

fs::path folder() {
  static const fs::path made =
      fs::path(::access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp") / ("manta-head-fuzz-" + std::to_string(::getpid()));
  return made;
}

class Head {
 public:
  Head() : core_(settings()) {
    take(core_.step(wire::kHeadNode, join_of(1), now_us_));
    for (int member = 2; member <= kMembers; ++member) take(core_.step(0, join_of(member), now_us_));
  }
  ~Head() {
    files_.reset();
    std::error_code ignored;
    if (has_files_) fs::remove_all(folder(), ignored);
  }

  void play(std::string_view script) {
    while (script.size() >= 4) {
      const auto at = [&](size_t i) { return static_cast<uint8_t>(script[i]); };
      const size_t size = std::min<size_t>(size_t{at(0)} << 8 | at(1), script.size() - 4);
      const Result<wire::Told> told = wire::decode_to_head(script.substr(4, size));
      now_us_ += int64_t{at(3)} * 50'000;
      const wire::NodeNumber from = at(2) % (kMembers + 2);
      script.remove_prefix(4 + size);
      // A stranger is heard only if he asks to join (raylet/cluster_side.cc).
      if (told.ok() && (from != 0 || std::holds_alternative<wire::Join>(told->message)))
        take(core_.step(from, told->message, now_us_, told->number));
      if (const auto due_us = core_.next_deadline_us(); due_us && *due_us <= now_us_) take(core_.tick(now_us_));
    }
    core_.check_invariants();
  }

 private:
  static HeadSettings settings() {
    HeadSettings settings;
    settings.max_actors = 20;
    settings.max_dead_actors = settings.max_early_watches = settings.max_ended_jobs = settings.max_drain_waiters = 4;
    settings.max_argument_bytes = settings.max_lineage_bytes = 2'000;
    return settings;
  }

  void take(HeadEffects effects) {
    std::deque<FileOrder> orders(std::make_move_iterator(effects.files.begin()),
                                 std::make_move_iterator(effects.files.end()));
    for (; !orders.empty(); orders.pop_front()) {
      if (!files_) {
        files_ =
            JobFiles::open(folder(), {.max_piece_bytes = 500, .max_log_bytes = 2'000, .max_total_bytes = 5'000}).value();
        has_files_ = true;
      }
      JobFiles::Done done = files_->carry_out(std::move(orders.front()), now_us_);
      if (!done.stored || !done.seal().ok()) continue;
      HeadEffects more = core_.program_stored(done.stored->hash, done.stored->bytes, now_us_);
      std::move(more.files.begin(), more.files.end(), std::back_inserter(orders));
    }
    if (files_) (void)files_->tick(now_us_);
  }

  HeadCore core_;
  std::optional<JobFiles> files_;
  bool has_files_ = false;
  int64_t now_us_ = 1'000'000;
};

template <size_t... I>
void add_messages(std::vector<std::string>& out, std::index_sequence<I...>) {
  (out.push_back(part(2, 1, wire::ToHead(std::in_place_index<I>))), ...);
}
using Request = decltype(wire::HeadRequest::request);
template <size_t... I>
void add_requests(std::vector<std::string>& out, std::index_sequence<I...>) {
  (out.push_back(part(2, 1, wire::HeadRequest{wire::first_id_of(2) + 1, Request(std::in_place_index<I>)})), ...);
}

}  // namespace

std::vector<std::string> seeds() {
  std::vector<std::string> out;
  add_messages(out, std::make_index_sequence<std::variant_size_v<wire::ToHead>>());
  add_requests(out, std::make_index_sequence<std::variant_size_v<Request>>());
  const uint64_t client = wire::first_id_of(2) + 1;
  const auto request = [client](auto message) { return part(2, 2, wire::HeadRequest{client, std::move(message)}); };
  const std::string joined =
      part(2, 0, wire::HeadClientJoined{.process = client, .role = 0, .pid = 5, .job = client, .job_name = "j"});
  std::string beats;
  for (int member = 1; member <= kMembers; ++member)
    beats +=
        part(member, 2, wire::Heartbeat{.sequence = 1, .has_resources = true, .available = join_of(member).info.capacity});

  wire::CreateActor create;
  create.actor = {client, 1};
  create.class_name = "C";
  create.max_restarts = 2;
  create.scheduling_class.resources.cpus = wire::kWhole;
  wire::HeadActorEvent event{
      .actor = create.actor, .incarnation = 1, .event = 0, .worker = wire::first_id_of(3) + 7, .worker_pid = 7};
  const std::string lives = joined + request(create) + request(wire::WatchActor{.actor = create.actor}) + beats;
  for (const int by : {1, 2, 3}) out.push_back(lives + part(by, 1, event));
  out.push_back(lives + request(wire::KillActor{.actor = create.actor}) +
                part(2, 9, wire::HeadClientGone{.process = client}));

  wire::CreatePlacementGroup group;
  group.request = 1;
  group.bundles.assign(3, {.cpus = wire::kWhole});
  out.push_back(joined + request(group) + beats + part(3, 1, wire::BundlesPrepared{.group = 1, .attempt = 1}));

  wire::SubmitJob submit{.request = 1, .key = "k", .name = "n", .program_name = "p"};
  submit.program_bytes = 3;
  submit.program_hash = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";  // of abc
  const wire::UploadProgram upload{.request = 2, .hash = submit.program_hash, .offset = 0, .bytes = "abc"};
  const std::string runs = joined + request(submit) + request(upload) + beats;
  std::string log;
  for (const int by : {1, 2, 3})
    log += part(by, 1, wire::JobReport{.job = 1, .attempt = 1, .event = 1, .pid = 9}) +
           part(by, 1, wire::JobLogPart{.job = 1, .attempt = 1, .offset = 0, .bytes = std::string(700, 'l')});
  out.push_back(runs + log + request(wire::ReadJobLog{.request = 3, .job = 1, .offset = 5, .wait_us = 9}));
  out.push_back(runs + part(1, 1, wire::GetProgramPart{.job = 1, .attempt = 1, .hash = submit.program_hash, .offset = 1}));
  out.push_back(runs + request(wire::StopJob{.request = 4, .job = 1}) + request(wire::FindJob{.request = 5, .job = 1}));
  out.push_back(beats + request(wire::DrainNode{}) + part(2, 1, wire::HeadNodeLeaves{}) +
                part(3, 255, wire::HeadNodeLost{}));
  return out;
}

}  // namespace manta::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size <= 16'384) manta::fuzz::Head().play({reinterpret_cast<const char*>(data), size});
  return 0;
}

#include "head/membership.h"

#include "common/check.h"
#include "wire/node_resources.h"

#include <algorithm>

namespace manta::head {
namespace {

using wire::kHeadNode;
using wire::NodeNumber;

constexpr size_t kMaxText = 1'024;
constexpr size_t kMaxLabels = 100;
constexpr int kLifeShift = 32;  // so many changes of the view fit one life

std::string seconds(int64_t us) { return std::to_string(us / 1'000'000) + "." + std::to_string(us / 100'000 % 10) + " s"; }

}  // namespace

void Membership::start(uint64_t life, int64_t now_us) {
  version_ = life << kLifeShift;
  awake_us_ = now_us;
  away_until_us_ = now_us + settings_.grace_us;
  for (auto& [number, member] : members_) changed(member);
  if (!members_.empty()) expect_by(away_until_us_);
}

void Membership::replay(const wire::NodeInfo& info, uint64_t nonce) {
  members_[info.number] = {.info = info, .nonce = nonce, .state = State::kAway, .available = info.capacity};
  by_nonce_[nonce] = info.number;
  replay_next(info.number + 1);
}

Status Membership::check(const wire::Join& join) const {
  if (join.protocol != wire::kProtocolVersion)
    return Status(Code::kInvalid, "the node speaks protocol " + std::to_string(join.protocol) + ", the cluster " +
                                      std::to_string(wire::kProtocolVersion) + ": start the same version everywhere");
  const wire::NodeInfo& info = join.info;
  if (join.nonce == 0) return Status(Code::kInvalid, "a Join without a nonce");
  if (info.endpoint.empty()) return Status(Code::kInvalid, "the node names no endpoint");
  size_t text =
      info.name.size() + info.endpoint.size() + info.bulk_endpoint.size() + info.public_key.size() + info.certificate.size();
  for (const auto& [key, value] : info.labels) text += key.size() + value.size();
  if (text > kMaxText * 8 || info.name.size() > kMaxText || info.labels.size() > kMaxLabels)
    return Status(Code::kInvalid, "the node's names and labels take " + std::to_string(text) + " bytes");
  MANTA_RETURN_IF_ERROR(validate(info.capacity));
  if (info.capacity.cpus < 0 || info.capacity.memory_bytes < 0) return Status(Code::kInvalid, "a capacity is negative");
  return {};
}

void Membership::note_awake(int64_t now_us) {
  const int64_t pause_us = now_us - std::exchange(awake_us_, now_us);
  if (pause_us <= settings_.pause_us) return;
  for (auto& [number, member] : members_) member.heard_us = std::min(now_us, member.heard_us + pause_us);
  away_until_us_ += pause_us;
}

Result<Membership::JoinResult> Membership::join(const wire::Join& join, bool own, int64_t now_us) {
  MANTA_RETURN_IF_ERROR(check(join));
  if (const auto known = by_nonce_.find(join.nonce); known != by_nonce_.end()) return JoinResult{.number = known->second};
  if (gone_nonces_.contains(join.nonce)) return Status(Code::kDied, "this incarnation of the node is gone: join anew");
  if (members_.size() >= settings_.max_members)
    return Status(Code::kFull, "the cluster has " + std::to_string(members_.size()) + " nodes, which is the most it takes");
  if (!own && next_ > wire::kMaxNodeNumber) return Status(Code::kFull, "the cluster has given out all its node numbers");
  JoinResult result{.number = own ? kHeadNode : next_++, .is_new = true};
  for (const auto& [number, member] : members_)
    if (member.info.endpoint == join.info.endpoint) result.replaced = number;
  Member& member = members_[result.number];
  member = {.info = join.info, .nonce = join.nonce, .heard_us = now_us, .available = join.info.capacity};
  member.info.number = result.number;
  by_nonce_[join.nonce] = result.number;
  changed(member);
  if (!own) expect_by(now_us + settings_.suspect_us);
  return result;
}

bool Membership::bring_back(const wire::NodeInfo& info, int64_t now_us) {
  const auto it = members_.find(info.number);
  if (it == members_.end() || it->second.state != State::kAway) return false;
  it->second.state = State::kAlive;
  it->second.heard_us = now_us;
  changed(it->second);
  expect_by(now_us + settings_.suspect_us);
  return true;
}

bool Membership::hear(NodeNumber number, const wire::Heartbeat& heartbeat, int64_t now_us) {
  // Of another node it may have lain here for long.
  if (number == kHeadNode) note_awake(now_us);
  const auto it = members_.find(number);
  if (it == members_.end()) return false;
  Member& member = it->second;
  if (member.state == State::kAway) return true;
  member.heard_us = now_us;
  bool has_changed = std::exchange(member.state, State::kAlive) == State::kSuspect;
  const bool is_draining = heartbeat.is_draining || member.must_drain;
  has_changed |= std::exchange(member.is_draining, is_draining) != is_draining;
  has_changed |= std::exchange(member.waiting, heartbeat.waiting) != heartbeat.waiting;
  // Whoever was refused believes that there is nothing left.
  has_changed |= std::exchange(member.refusals, heartbeat.refusals) != heartbeat.refusals;
  const wire::NodeResources& now = heartbeat.available;
  const bool is_sane =
      heartbeat.has_resources && now.devices.size() == member.info.capacity.devices.size() && validate(now).ok();
  if (is_sane && member.available != now) {
    member.available = now;
    has_changed = true;
  }
  if (has_changed) changed(member);
  return true;
}

void Membership::note_heard(NodeNumber number, int64_t at_us) {
  const auto it = members_.find(number);
  if (it != members_.end()) it->second.heard_us = std::max(it->second.heard_us, at_us);
}

void Membership::drain(NodeNumber number) {
  Member& member = members_.at(number);
  member.is_draining = member.must_drain = true;
  changed(member);
}

void Membership::remove(NodeNumber number) {
  const auto it = members_.find(number);
  if (it == members_.end()) return;
  by_nonce_.erase(it->second.nonce);
  if (gone_nonces_.insert(it->second.nonce).second) gone_order_.push_back(it->second.nonce);
  if (gone_order_.size() > kMaxGoneNonces) {
    gone_nonces_.erase(gone_order_.front());
    gone_order_.pop_front();
  }
  members_.erase(it);
}

Membership::Overdue Membership::tick(int64_t now_us) {
  note_awake(now_us);
  Overdue overdue;
  next_due_us_.reset();
  for (auto& [number, member] : members_) {
    if (member.state == State::kAway) {
      expect_by(away_until_us_);
      if (now_us < away_until_us_) continue;
      const std::string why = "it did not come back within " + seconds(settings_.grace_us) + " of the head's restart";
      overdue.gone.push_back({number, wire::to_wire(Status(Code::kDied, why))});
    } else if (number != kHeadNode) {
      const int64_t silent_us = now_us - member.heard_us;
      if (silent_us >= settings_.dead_us) {
        overdue.gone.push_back(
            {number, wire::to_wire(Status(Code::kDied, "nothing was heard of it for " + seconds(silent_us)))});
        expect_by(now_us);
        continue;
      }
      if (silent_us >= settings_.suspect_us && member.state == State::kAlive) {
        member.state = State::kSuspect;
        changed(member);
        overdue.suspects.push_back(number);
      }
      expect_by(member.heard_us + (member.state == State::kSuspect ? settings_.dead_us : settings_.suspect_us));
    }
  }
  return overdue;
}

const Membership::Member* Membership::find(NodeNumber number) const {
  const auto it = members_.find(number);
  return it == members_.end() ? nullptr : &it->second;
}

std::vector<wire::NodeInfo> Membership::infos() const {
  std::vector<wire::NodeInfo> infos;
  for (const auto& [number, member] : members_) infos.push_back(member.info);
  return infos;
}

wire::View Membership::view_since(uint64_t version, NodeNumber except) const {
  const uint64_t known = version > version_ ? 0 : version;  // one from the future is no version of ours
  wire::View view{.version = version_, .changed = {}};
  if (known == version_) return view;
  for (const auto& [number, member] : members_)
    if (member.changed_in > known && number != except)
      view.changed.push_back({.number = number,
                              .available = member.available,
                              .waiting = member.waiting,
                              .is_draining = member.is_draining,
                              .is_suspect = member.state != State::kAlive});
  return view;
}

void Membership::check_invariants() const {
  MANTA_CHECK(by_nonce_.size() == members_.size(), by_nonce_.size(), members_.size());
  for (const auto& [number, member] : members_) {
    MANTA_CHECK(number == member.info.number && number < next_, number, next_);
    MANTA_CHECK(member.changed_in <= version_, number);
    MANTA_CHECK(number == kHeadNode || member.state == State::kAway || next_due_us_.has_value(),
                "somebody watches over each member", number);
  }
}

}  // namespace manta::head

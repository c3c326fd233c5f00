#include "object_store/transfer/test_cluster.h"

#include "common/check.h"

namespace manta::object_store {

TestCluster::~TestCluster() {
  for (auto& [number, member] : members_) stop_transfer(number);
  members_.clear();
}

TestNode& TestCluster::add(wire::NodeNumber number, const NodeOptions& options) {
  Member& member = members_[number];
  member.options = options;
  member.node = std::make_unique<TestNode>(options.capacity_bytes, options.spill_bytes, number);
  start_transfer(number);
  member.node->start();
  for (auto& [other, its] : members_) {
    if (other != number && its.transfer) introduce(other);
  }
  return *member.node;
}

void TestCluster::start_transfer(wire::NodeNumber number) {
  Member& member = members_.at(number);
  // Nodes are added before anything is sent, and what is sent to one that is gone is dropped.
  auto post_to = [this](wire::NodeNumber to, std::function<void(StoreServer&)> work) {
    if (auto found = members_.find(to); found != members_.end() && found->second.may_hear)
      found->second.node->post(std::move(work));
  };
  Transfer::Options options{.node = number,
                            .reader = {wire::first_id_of(number) + 0xffff},
                            .certificate = member.options.certificate,
                            .key = member.options.key,
                            .streams_per_node = member.options.streams};
  options.forward = [post_to](wire::NodeNumber to, ProcessId from, wire::Type type, const std::string& body) {
    post_to(to, [=](StoreServer& store) { MANTA_CHECK(store.handle_forwarded(from, type, body).value()); });
  };
  options.tell = [post_to, number](wire::NodeNumber to, const wire::StoreWord& word) {
    post_to(to, [=](StoreServer& store) { store.hear(number, word); });
  };
  member.node->run([&](StoreServer& store) { member.transfer = Transfer::start(store, std::move(options)).value(); });
  member.may_hear = true;
  member.endpoint = member.transfer->endpoint();
  Transfer* transfer = member.transfer.get();
  member.node->watch(transfer->wake_fd(), [transfer] { transfer->on_wake(); });
  introduce(number);
}

/// To the others, and the others to it.
void TestCluster::introduce(wire::NodeNumber number) {
  Member& member = members_.at(number);
  for (auto& [other, its] : members_) {
    if (!its.transfer) continue;
    its.transfer->node_joined(number, {member.endpoint, member.options.fingerprint});
    member.transfer->node_joined(other, {its.endpoint, its.options.fingerprint});
  }
}

void TestCluster::stop_transfer(wire::NodeNumber number) {
  Member& member = members_.at(number);
  if (!member.transfer) return;
  member.may_hear = false;
  member.node->watch(member.transfer->wake_fd(), {});
  member.node->run([&](StoreServer&) { member.transfer.reset(); });
}

void TestCluster::lose(wire::NodeNumber number) {
  stop_transfer(number);
  for (auto& [other, its] : members_) {
    if (!its.transfer) continue;
    Transfer* transfer = its.transfer.get();
    its.node->run([=](StoreServer&) { transfer->node_lost(number, Status(Code::kDied, "it was killed by a test")); });
  }
}

void TestCluster::pretend_endpoint(wire::NodeNumber number, const std::string& endpoint) {
  members_.at(number).endpoint = endpoint;
  introduce(number);
}

std::string TestCluster::endpoint(wire::NodeNumber number) { return members_.at(number).transfer->endpoint(); }

}  // namespace manta::object_store

// The head's door for who has no mantad: visitors that come over the link with control messages (wire/visitor_messages.h).
//
//   visitor --VisitorFrame--> NodeLink --> Door --events--> RayletCore      its Hello makes it a client of this node, an
//   visitor <--VisitorFrame-- NodeLink <-- Door <--effects-- RayletCore     observer; answers go back over its connection
//
// What it may ask depends on the role of the key that each frame came with. A visitor that says nothing for 30 s is
// forgotten; one that sends nonsense, or does not read, is too. Bounded: 256 visitors, 32 of a key.
//
// Thread safety: none; owned by the raylet's loop.
#pragma once

#include "raylet/core_types.h"
#include "raylet/gatekeeper.h"
#include "wire/net/node_link.h"

#include <cstdint>
#include <functional>
#include <map>
#include <string>

namespace manta::raylet {

class Door {
 public:
  static constexpr size_t kMaxVisitors = 256;
  static constexpr size_t kMaxVisitorsOfKey = 32;
  static constexpr int64_t kSilenceUs = 30'000'000;

  /// What it needs of the node server.
  struct Node {
    std::function<void(Event)> step;
    std::function<ProcessId()> new_process;
  };

  /// `keeper` outlives the door; none without keys.
  Door(wire::NodeLink& link, Gatekeeper* keeper, Node node) : link_(link), keeper_(keeper), node_(std::move(node)) {}

  /// A frame of somebody without a number.
  void on_frame(const wire::LinkEvent& event, int64_t now_us);
  /// Its connection is gone, or it does not read.
  void on_lost(const std::string& reply_to);
  void tick(int64_t now_us);

  [[nodiscard]] bool is_visitor(ProcessId process) const { return by_process_.contains(process); }
  void send(ProcessId process, wire::Type type, std::string body);
  /// Says why, and forgets it. The core has forgotten it already.
  void refuse(ProcessId process, const Status& why);

 private:
  struct Visitor {
    ProcessId process;
    std::string key;
    int64_t heard_us = 0;
  };

  void answer(const std::string& reply_to, wire::Type type, std::string body);
  void say_no(const std::string& reply_to, const Status& why);
  void enroll(const wire::LinkEvent& event, const wire::VisitorFrame& frame);
  void rotate(const wire::LinkEvent& event, const wire::VisitorFrame& frame);
  void welcome(const wire::LinkEvent& event, const wire::VisitorFrame& frame, int64_t now_us);
  void forget(ProcessId process);

  wire::NodeLink& link_;
  Gatekeeper* const keeper_;
  Node node_;
  std::map<std::string, Visitor> visitors_;      // by connection
  std::map<ProcessId, std::string> by_process_;  // to connection
};

}  // namespace manta::raylet

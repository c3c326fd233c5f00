// The small thread beside the sender and the receiver of a NodeLink: answers ZeroMQ's question whether a key may connect
// (ZAP), and watches what becomes of the connections that this link makes.
//
// A key that is not on the list is turned away. A link that was turned away comes again twice a second: it may not have been
// announced yet.
// Thread safety: everything.
#pragma once

#include "wire/net/access.h"
#include "wire/net/inbox.h"
#include "wire/net/peer_state.h"

#include <zmq.hpp>

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace manta::wire {

/// The key that a question of ZAP (RFC 27) is about, z85; empty when `parts`, of any origin, are no such question.
[[nodiscard]] std::string key_of_question(std::span<const std::string_view> parts);

class Gate {
 public:
  /// Answers for the whole context; at most one a context, made before its sockets listen.
  Gate(zmq::context_t& context, Access& access, Inbox& inbox, Signal wake, std::function<void()> wake_sender);
  ~Gate();
  void start();
  void stop();

  /// Tells what the PAIR socket `monitor` says of the connection to the peer, until its other end is closed.
  void watch(std::shared_ptr<PeerState> peer, zmq::socket_t monitor);

 private:
  struct Watch {
    static constexpr int kQuestions = 3;  // each may take a tenth of a second of this thread
    std::shared_ptr<PeerState> peer;      // shared with the sender and the receiver
    zmq::socket_t monitor;
    bool is_connected = false;
    bool has_told = false;            // that it is lost
    int questions_left = kQuestions;  // whether its machine refuses it
    bool is_over = false;
  };

  void run();
  void answer();
  void on_monitor(Watch& watch);
  void on_event(Watch& watch, uint16_t event);
  void reopen(Watch& watch);
  void tell_lost(Watch& watch, Status why);

  Access& access_;
  Inbox& inbox_;
  const Signal wake_;
  const std::function<void()> wake_sender_;
  zmq::socket_t questions_;
  std::atomic<bool> is_stopping_{false};

  std::mutex mutex_;  // guards `added_`
  std::vector<Watch> added_;
  std::vector<Watch> watches_;  // the thread's own
  std::thread thread_;
};

}  // namespace manta::wire

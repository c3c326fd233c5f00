// A reader of mantad's own store inside mantad: a StoreClient for threads of the process that has the StoreServer, without a
// socket between them. What its threads ask of the store waits until the loop comes to `on_wake`; answers need no thread.
//
// Thread safety: `client`, `copied` and `locate` are for any thread; create, on_wake, close and the destructor are the
// loop's.
#pragma once

#include "object_store/store_client.h"
#include "object_store/store_server.h"
#include "object_store/transfer/wake.h"

#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

namespace manta::object_store {

class LocalReader {
 public:
  /// `process` is a ProcessId of its own. `wake` is rung when on_wake has something to do, and outlives this.
  [[nodiscard]] static Result<std::unique_ptr<LocalReader>> create(StoreServer& store, ProcessId process,
                                                                   wire::NodeNumber node, const Wake& wake);
  ~LocalReader();

  [[nodiscard]] StoreClient& client() { return *client_; }

  /// The store is told that a node has, or will have, a copy. Waits when the loop is far behind.
  void copied(wire::NodeNumber to, const wire::ObjectLocation& object);

  /// Where the store itself says that these lie, which are named by slot and generation: nothing of what is not, or not yet
  /// known to be, in memory. Waits for the loop; empty at the deadline and after close.
  [[nodiscard]] std::vector<std::optional<wire::ObjectLocation>> locate(std::vector<wire::ObjectLocation> objects,
                                                                        Time deadline);

  void on_wake();
  /// Whoever waits in the client fails, now and later: before its threads are joined.
  void close();

 private:
  struct Asked {
    wire::Type type;
    std::string body;
  };
  struct Search {
    std::vector<wire::ObjectLocation> objects;
    std::vector<std::optional<wire::ObjectLocation>> found;
    bool is_done = false;
  };
  LocalReader(StoreServer& store, ProcessId process, const Wake& wake) : store_(store), process_(process), wake_(wake) {}

  StoreServer& store_;
  ProcessId process_;
  const Wake& wake_;
  std::unique_ptr<StoreClient> client_;
  std::mutex mutex_;
  std::condition_variable drained_, searched_;
  bool closed_ = false;
  std::vector<Asked> asked_;
  std::vector<std::shared_ptr<Search>> searches_;  // shared with who waits, perhaps no longer
  std::map<wire::NodeNumber, std::vector<wire::ObjectLocation>> copied_;
  size_t copied_count_ = 0;
};

}  // namespace manta::object_store

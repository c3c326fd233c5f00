// The placement groups that this process made or was given: what it asked the head, and what the head last said.
//
// Thread safety: under the runtime's lock. Nothing here blocks; `Io` sends.
#pragma once

#include "actors/runtime.h"
#include "wire/group_messages.h"

#include <functional>
#include <map>
#include <memory>

namespace manta {

class GroupOwner {
 public:
  struct Io {
    std::function<void(const wire::CreatePlacementGroup&)> create;
    std::function<void(const wire::GetPlacementGroup&)> get;
    std::function<void(const wire::RemovePlacementGroup&)> remove;
    std::function<detail::Handle()> make_object;
    std::function<void(detail::ObjectEntry&, const Status&)> complete;  ///< With nothing, or with an error.
  };
  explicit GroupOwner(Io io) : io_(std::move(io)) {}

  detail::GroupHandle create(wire::CreatePlacementGroup spec);
  /// Of a group that another process made.
  detail::GroupHandle find(uint64_t number);
  void remove(detail::GroupRecord& group);
  /// An object that is complete once the group is ready, or over.
  detail::Handle ready(detail::GroupRecord& group);
  /// "the placement group 'a'", for messages.
  [[nodiscard]] static std::string name_of(const detail::GroupRecord& group);

  void on_update(const wire::PlacementGroupUpdate& update);
  void fail_all(const Status& cause);

 private:
  void note(const detail::GroupHandle& group, uint64_t number);
  void complete_ready(detail::GroupRecord& group);

  Io io_;
  std::map<uint64_t, detail::GroupHandle> asked_;  // by request, until the head has answered
  std::map<uint64_t, std::weak_ptr<detail::GroupRecord>> groups_;
  size_t clean_at_ = 64;
  uint64_t next_request_ = 1;
};

}  // namespace manta

// Quotas of jobs: the most that a job may hold over the whole cluster, and the messages that keep the account.
//
// The head has a job's account: what its actors and placement groups have, and a share for each node, out of which that
// node's owners of the job have their leases (wherever those are). A raylet admits a lease before it is queued; when its
// share is used up it asks for more (QuotaReport), and what it has no use for it gives back in the same message. So the sum
// of all is never above the quota, and nobody has to see all that a job holds.
//
//   raylet --QuotaReport (keeps, wants)--> head --QuotaShare (may hold)--> raylet
//   node of a lease --LeaseNews--> raylet of its owner
//
// Both messages are absolute and may be repeated. A report counts when its node had heard of the last share.
//
// Pure functions; O(kinds) each.
#pragma once

#include "wire/message_types.h"

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace manta::wire {

/// By kind: "cpus", "gpus" and custom resources in 1/10,000, "gpu_memory" and "memory" in bytes. As a quota: the most of
/// each; a kind that is not named is not limited. Elsewhere: a kind that is not named is 0.
using Amounts = std::map<std::string, int64_t>;

/// "cpus=8,gpus=0.5,memory=1000000,licence=2". kInvalid names what is wrong.
[[nodiscard]] Result<Amounts> parse_quota(std::string_view text);
/// "8 CPUs, 2 GPUs, 100 bytes of memory, 2 licence"; "nothing".
[[nodiscard]] std::string describe_amounts(const Amounts& amounts);

/// What of a demand counts for this quota.
[[nodiscard]] Amounts limited_part(const Amounts& quota, const Resources& demand);
void add_amounts(Amounts& to, const Amounts& more);
void subtract_amounts(Amounts& from, const Amounts& less);
/// The first kind of `more` of which there would be too much; empty: it fits.
[[nodiscard]] std::string kind_above(const Amounts& quota, const Amounts& held, const Amounts& more);
/// Both at once.
[[nodiscard]] Amounts tighter(Amounts quota, const Amounts& other);
/// From elsewhere: no negative amounts, none absurdly large, not too many kinds.
[[nodiscard]] bool is_sane(const Amounts& amounts);
/// For whoever asks for more than the whole quota.
[[nodiscard]] Status beyond_quota(const Amounts& quota, const Amounts& demand);
/// "its job's quota: it asks for 2 CPUs, the quota is 4 CPUs, the job holds 3 CPUs; ..."
[[nodiscard]] std::string explain_quota(const Amounts& quota, const Amounts& held, const Amounts& demand);

/// So many leases that need as much each.
struct QuotaWant {
  Amounts each;
  uint32_t count = 0;
  bool operator==(const QuotaWant&) const = default;
  MSGPACK_DEFINE(each, count)
};
inline constexpr size_t kMaxQuotaWants = 64;
inline constexpr uint32_t kMaxQuotaWant = 10'000;

/// raylet -> head.
struct QuotaReport {
  uint64_t job = 0;
  uint64_t number = 0;  ///< Grows, by node and job.
  uint64_t seen = 0;    ///< The last QuotaShare::number that has come.
  Amounts keeps;        ///< What of its share is in use. The rest is given back with this message.
  std::vector<QuotaWant> wants;
  MSGPACK_DEFINE(job, number, seen, keeps, wants)
};

/// head -> raylet: in answer to each report that counts, and when there is more for it.
struct QuotaShare {
  uint64_t job = 0;
  uint64_t number = 0;  ///< Grows, by node and job.
  uint64_t report = 0;  ///< The last report that counted.
  Amounts share;        ///< What the node may hold for the job.
  Amounts held;         ///< For people: what the job holds in all.
  MSGPACK_DEFINE(job, number, report, share, held)
};

enum class LeaseEvent : uint8_t {
  kOver = 0,       ///< Its resources are free again; or the request was dropped.
  kLent = 1,       ///< Its worker waits inside a task: its CPUs are free meanwhile.
  kTakenBack = 2,  ///< It goes on.
};

}  // namespace manta::wire

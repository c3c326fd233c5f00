// Submitted jobs: who asks for them, who runs them, and their drivers when they join.
#include "head/head_core.h"

#include "common/check.h"

#include <iterator>

namespace manta::head {

using wire::NodeNumber;

namespace {

std::string label_of(uint64_t job, uint32_t attempt) { return std::to_string(job) + "." + std::to_string(attempt); }

}  // namespace

template <typename Change>
void HeadCore::change_jobs(Change change) {
  JobStep step{policy_, now_us_};
  change(step);
  std::ranges::move(step.records, std::back_inserter(effects_.records));
  std::ranges::move(step.files, std::back_inserter(effects_.files));
  for (wire::ToNode& one : step.messages) say(one.to, std::move(one.message));
  for (const auto& [job, attempt] : step.given_up) {
    // The node that started the driver is gone; the driver's own may live on, cut off from what it was to do.
    std::vector<NodeNumber> drivers;
    for (const auto& [number, member] : members_.members()) {
      const auto label = member.info.labels.find(wire::kJobLabel);
      if (member.info.is_driver && label != member.info.labels.end() && label->second == label_of(job, attempt))
        drivers.push_back(number);
    }
    for (NodeNumber driver : drivers) node_gone(driver, Status(Code::kDied, "this attempt of its job was given up"));
  }
}

Status HeadCore::check_job_label(const wire::NodeInfo& info) const {
  const auto label = info.labels.find(wire::kJobLabel);
  if (label == info.labels.end()) return {};
  const uint64_t job = submission_of(info);
  const auto known = jobs_table_.jobs().find(job);
  if (info.is_driver && known != jobs_table_.jobs().end() && jobs_table_.is_present(job, known->second.row.attempt) &&
      label->second == label_of(job, known->second.row.attempt))
    return {};
  return Status(Code::kDied, "attempt " + label->second + " of its job is over");
}

uint64_t HeadCore::submission_of(const wire::NodeInfo& info) {
  const auto label = info.labels.find(wire::kJobLabel);
  return label == info.labels.end() ? 0 : std::strtoull(label->second.c_str(), nullptr, 10);
}

Status HeadCore::may_have_jobs() const {
  if (!is_alone()) return {};
  return Status(Code::kInvalid, "this is a program's own session of one node: jobs are submitted to a cluster");
}

void HeadCore::on_request(uint64_t from, wire::SubmitJob& message) {
  if (const Status status = may_have_jobs(); !status.ok())
    return answer(from, wire::JobAnswer{.request = message.request, .status = wire::to_wire(status), .info = {}});
  change_jobs([&](JobStep& step) { answer(from, jobs_table_.submit(std::move(message), step)); });
}

void HeadCore::on_request(uint64_t from, wire::StopJob& message) {
  change_jobs([&](JobStep& step) { answer(from, jobs_table_.stop(message, step)); });
}

void HeadCore::on_request(uint64_t from, wire::FindJob& message) { answer(from, jobs_table_.find(message)); }

void HeadCore::on_request(uint64_t from, wire::UploadProgram& message) {
  change_jobs([&](JobStep& step) { jobs_table_.upload({node_of_process(from), from}, std::move(message), step); });
}

void HeadCore::on_request(uint64_t from, wire::ReadJobLog& message) {
  change_jobs([&](JobStep& step) { jobs_table_.read_log({node_of_process(from), from}, message, step); });
}

void HeadCore::answer(uint64_t to, wire::JobAnswer message) {
  say(node_of_process(to), wire::JobsAnswer{to, std::move(message)});
}

void HeadCore::on(wire::JobReport& message) {
  change_jobs([&](JobStep& step) { jobs_table_.report(from_, message, step); });
}
void HeadCore::on(wire::JobLogPart& message) {
  change_jobs([&](JobStep& step) { jobs_table_.log_part(from_, std::move(message), step); });
}
void HeadCore::on(wire::GetProgramPart& message) {
  change_jobs([&](JobStep& step) { jobs_table_.program_wanted(from_, message, step); });
}

HeadEffects HeadCore::program_stored(const std::string& hash, uint64_t bytes, int64_t now_us) {
  now_us_ = now_us;
  change_jobs([&](JobStep& step) { jobs_table_.program_stored(hash, bytes, step); });
  return std::exchange(effects_, {});
}

void HeadCore::jobs_of_node_lost(NodeNumber node, const wire::WireStatus& cause, bool in_order) {
  change_jobs([&](JobStep& step) { jobs_table_.node_lost(node, cause, in_order, step); });
}

void HeadCore::tick_jobs() {
  if (!has_begun_) return;
  change_jobs([&](JobStep& step) { jobs_table_.tick(step); });
}

}  // namespace manta::head

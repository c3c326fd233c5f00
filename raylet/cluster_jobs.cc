// The jobs of ClusterSide: what a driver's own node serves of its program to others, and what this node fetches.
#include "raylet/cluster_side.h"

#include <chrono>
#include <filesystem>
#include <future>

namespace manta::raylet {

using wire::node_of;
using wire::NodeNumber;

void ClusterSide::serve_job(const wire::Hello& driver, JobId job, const wire::Amounts& quota) {
  own_job_ = wire::JobSpec{.job = job.value,
                           .name = driver.job_name,
                           .build_id = driver.build_id,
                           .program_name = std::filesystem::path(driver.program).filename().string(),
                           .program_hash = {},
                           .program_bytes = 0,
                           .arguments = driver.arguments,
                           .working_directory = driver.working_directory,
                           .env = driver.env,
                           .libraries = {},
                           .quota = quota};
  own_program_ = ServedProgram::open("/proc/" + std::to_string(driver.pid) + "/exe", driver.libraries);
}

void ClusterSide::look_at_own_program(int64_t now_us) {
  next_look_us_ = now_us + kMeasureUs;
  if (measuring_.wait_for(std::chrono::seconds(0)) != std::future_status::ready) return;
  measured_ = measuring_.get();
  own_program_->describe(*own_job_);
  for (const NodeNumber node : std::exchange(want_own_job_, {}))
    send(node, wire::Job{.status = wire::to_wire(*measured_), .spec = *own_job_});
}

void ClusterSide::handle(NodeNumber from, wire::GetJob& message) {
  if (!own_job_ || own_job_->job != message.job) {
    wire::Job none{.status = wire::to_wire(Status(Code::kNotFound, "the job has ended")), .spec = {}};
    none.spec.job = message.job;
    return send(from, none);
  }
  dealt_with_[ProcessId{message.job}].insert(from);
  if (!own_program_.ok()) return send(from, wire::Job{.status = wire::to_wire(own_program_.status()), .spec = *own_job_});
  if (measured_) return send(from, wire::Job{.status = wire::to_wire(*measured_), .spec = *own_job_});
  want_own_job_.insert(from);
  if (!measuring_.valid()) measuring_ = std::async(std::launch::async, [this] { return own_program_->measure(); });
}

void ClusterSide::handle(NodeNumber from, wire::GetProgram& message) {
  wire::ProgramChunk chunk{.status = {}, .hash = message.hash, .offset = message.offset, .bytes = {}};
  if (!measured_ || !measured_->ok()) {
    chunk.status = wire::to_wire(Status(Code::kNotFound, "the job of this program has ended"));
  } else if (Result<std::string> bytes = own_program_->chunk(message.hash, message.offset); bytes.ok()) {
    chunk.bytes = std::move(*bytes);
  } else {
    chunk.status = wire::to_wire(bytes.status());
  }
  send(from, chunk);
}

void ClusterSide::carry_out(const FetchJob& effect) {
  jobs_[effect.job.value] = {};
  send(node_of(effect.job.value), wire::GetJob{effect.job.value});
}

void ClusterSide::handle(NodeNumber from, wire::Job& message) {
  const uint64_t job = message.spec.job;
  const auto it = jobs_.find(job);
  if (it == jobs_.end() || node_of(job) != from || it->second.job != 0) return;
  if (const Status status = wire::from_wire(message.status); !status.ok()) {
    jobs_.erase(it);
    return node_.step(JobFetched{JobId{job}, status, {}});
  }
  it->second = message.spec;
  programs_.start(message.spec, from);
}

void ClusterSide::handle(NodeNumber from, wire::ProgramChunk& message) { programs_.on_chunk(from, message); }

void ClusterSide::program_came(uint64_t job, const Result<std::string>& path) {
  const auto it = jobs_.find(job);
  if (it == jobs_.end()) return;
  if (!path.ok()) {
    jobs_.erase(it);
    return node_.step(JobFetched{JobId{job}, path.status(), {}});
  }
  const wire::JobSpec& spec = it->second;
  std::error_code error;
  const bool has_folder = std::filesystem::is_directory(spec.working_directory, error);
  JobPlan plan{.program = *path,
               .arguments = spec.arguments,
               .working_directory = has_folder ? spec.working_directory : self_.session_dir,
               .env = spec.env,
               .build_id = spec.build_id,
               .quota = spec.quota};
  find_first(plan.env, ProgramCache::library_folder(*path, spec.libraries));
  Status status;
  if (self_.job_user) {
    plan.working_directory = user_folder(job);
    plan.env.try_emplace("MANTA_LOG_DIR", plan.working_directory);
    const std::string above = std::filesystem::path(plan.working_directory).parent_path();
    std::filesystem::create_directory(above, error);
    status = open_way(above);
    if (status.ok()) status = make_user_folder(plan.working_directory, *self_.job_user);
  }
  node_.step(JobFetched{JobId{job}, status, std::move(plan)});
}

void ClusterSide::carry_out(const DropJob& effect) {
  jobs_.erase(effect.job.value);
  programs_.release(effect.job.value);
  std::error_code ignored;
  if (self_.job_user) std::filesystem::remove_all(user_folder(effect.job.value), ignored);
}

}  // namespace manta::raylet

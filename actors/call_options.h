// From the public options to what is scheduled and sent.
#pragma once

#include "actors/call.h"
#include "wire/messages.h"

#include <manta/error.h>
#include <manta/options.h>

#include <cmath>

namespace manta {

/// An amount in the wire's fixed point; throws Error(kInvalid) that names `what`.
inline int64_t fixed_point(double amount, const char* what) {
  if (!(amount >= 0) || amount > 1e9) {
    throw Error(Status(Code::kInvalid, std::string(what) + " must be between 0 and 1e9, not " + std::to_string(amount)));
  }
  return std::llround(amount * wire::kWhole);
}

/// Of TaskOptions, ActorOptions and Bundle. Throws Error(kInvalid) for impossible amounts.
template <typename Options>
wire::Resources resources_of(const Options& options) {
  wire::Resources out;
  out.cpus = fixed_point(options.cpus, "cpus");
  out.gpus = fixed_point(options.gpus, "gpus");
  if (out.gpus > wire::kWhole && out.gpus % wire::kWhole != 0) {
    throw Error(Status(Code::kInvalid, "gpus must be below 1 or a whole number, not " + std::to_string(options.gpus)));
  }
  out.gpu_memory_bytes = options.gpu_memory_bytes;
  out.memory_bytes = options.memory_bytes;
  for (const auto& [name, amount] : options.resources) out.custom[name] = fixed_point(amount, name.c_str());
  return out;
}

/// Of TaskOptions and ActorOptions. Throws as resources_of.
template <typename Options>
wire::SchedulingClass scheduling_class_of(const Options& options) {
  wire::SchedulingClass out;
  out.resources = resources_of(options);
  out.env = options.env;
  out.labels = options.labels;
  out.node = options.node.value;
  out.is_soft = options.node_is_soft;
  out.spread = options.spread;
  out.group = options.group.number;
  out.bundle = options.bundle;
  out.priority = options.priority;
  return out;
}

inline std::shared_ptr<const CallPolicy> policy_of(const CallOptions* options) {
  static const auto plain = std::make_shared<const CallPolicy>();
  if (options == nullptr) return plain;
  auto made = std::make_shared<CallPolicy>();
  made->group = options->group;
  made->timeout = options->timeout;
  made->stream_buffer = std::max(options->stream_buffer, 1);
  made->throw_when_full = options->throw_when_full;
  return made;
}

}  // namespace manta

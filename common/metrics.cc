#include "common/metrics.h"

#include "common/check.h"

namespace manta {

Metrics& Metrics::process() {
  static Metrics* const metrics = new Metrics();  // never destroyed: threads may count while the process ends
  return *metrics;
}

Metrics::Entry& Metrics::entry(std::string_view name, std::string_view help, bool is_counter) {
  std::lock_guard lock(mutex_);
  auto found = entries_.find(name);
  if (found == entries_.end()) {
    found = entries_.try_emplace(std::string(name)).first;
    found->second.help = help;
    found->second.is_counter = is_counter;
  }
  MANTA_CHECK(found->second.is_counter == is_counter, std::string(name));
  return found->second;
}

Counter& Metrics::counter(std::string_view name, std::string_view help) { return entry(name, help, true).counter; }
Gauge& Metrics::gauge(std::string_view name, std::string_view help) { return entry(name, help, false).gauge; }

std::vector<Metrics::Sample> Metrics::samples() const {
  std::lock_guard lock(mutex_);
  std::vector<Sample> samples;
  for (const auto& [name, e] : entries_) {
    samples.push_back({name, e.is_counter, e.is_counter ? static_cast<int64_t>(e.counter.value()) : e.gauge.value()});
  }
  return samples;
}

std::string Metrics::prometheus_text() const {
  std::lock_guard lock(mutex_);
  std::string text;
  for (const auto& [name, e] : entries_) {
    if (!e.help.empty()) text += "# HELP " + name + " " + e.help + "\n";
    text += "# TYPE " + name + (e.is_counter ? " counter\n" : " gauge\n");
    text += name + " " + (e.is_counter ? std::to_string(e.counter.value()) : std::to_string(e.gauge.value())) + "\n";
  }
  return text;
}

}  // namespace manta

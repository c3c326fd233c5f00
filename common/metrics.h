// Counters and gauges by name, for one process.
//
// Look a metric up once and keep the reference; it lives as long as the registry.
// Thread safety: everything. Cost: an update is one relaxed atomic add; a look-up takes a lock.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

namespace manta {

/// Only grows.
class Counter {
 public:
  void add(uint64_t by = 1) { value_.fetch_add(by, std::memory_order_relaxed); }
  [[nodiscard]] uint64_t value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> value_{0};
};

/// Goes up and down.
class Gauge {
 public:
  void set(int64_t value) { value_.store(value, std::memory_order_relaxed); }
  void add(int64_t by) { value_.fetch_add(by, std::memory_order_relaxed); }
  [[nodiscard]] int64_t value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<int64_t> value_{0};
};

class Metrics {
 public:
  /// The process's own.
  static Metrics& process();

  /// Names are lower_snake_case with the unit last: "store_granted_bytes". The first look-up makes the metric; its help
  /// stays.
  Counter& counter(std::string_view name, std::string_view help = {});
  Gauge& gauge(std::string_view name, std::string_view help = {});

  struct Sample {
    std::string name;
    bool is_counter = false;
    int64_t value = 0;
  };
  /// Ordered by name.
  [[nodiscard]] std::vector<Sample> samples() const;
  /// The text that Prometheus scrapes.
  [[nodiscard]] std::string prometheus_text() const;

 private:
  struct Entry {
    std::string help;
    bool is_counter = false;
    Counter counter;
    Gauge gauge;
  };
  Entry& entry(std::string_view name, std::string_view help, bool is_counter);

  mutable std::mutex mutex_;
  std::map<std::string, Entry, std::less<>> entries_;  // nodes stay where they are
};

}  // namespace manta

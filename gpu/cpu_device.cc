#include "gpu/cpu_device.h"

#include <cmath>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <functional>
#include <mutex>
#include <new>
#include <thread>

#include "gpu/ranges.h"

namespace manta::gpu {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::align_val_t kAlignment{256};

/// Memory under a cap. Thread safety: any thread.
class CpuMemory : public MemoryManager {
 public:
  explicit CpuMemory(uint64_t total_bytes) : total_bytes_(total_bytes) {}

  Result<DeviceBuffer> allocate(size_t size_bytes) override {
    if (size_bytes == 0) return Status(Code::kInvalid, "a device buffer of 0 bytes");
    const std::lock_guard lock(mutex_);
    if (size_bytes > total_bytes_ - used_bytes_) return full(size_bytes);
    void* address = ::operator new(size_bytes, kAlignment, std::nothrow);
    if (!address)
      return Status(Code::kFull, "the machine has no " + std::to_string(size_bytes) + " bytes for a logical device");
    used_bytes_ += size_bytes;
    return DeviceBuffer(this, address, size_bytes);
  }

  Result<HostRegistration> register_host(const void* address, size_t size_bytes) override {
    if (!address || size_bytes == 0) return Status(Code::kInvalid, "an empty range cannot be registered");
    return HostRegistration(this, address);
  }

  Result<MemoryUse> use() override {
    const std::lock_guard lock(mutex_);
    return MemoryUse{total_bytes_ - used_bytes_, total_bytes_};
  }

 private:
  void free(void* address, size_t size_bytes) override {
    ::operator delete(address, kAlignment);
    const std::lock_guard lock(mutex_);
    used_bytes_ -= size_bytes;
  }
  void unregister_host(const void*) override {}

  Status full(size_t size_bytes) const {
    return {Code::kFull, "device memory: wanted " + std::to_string(size_bytes) + " bytes, free " +
                             std::to_string(total_bytes_ - used_bytes_) + " of " + std::to_string(total_bytes_)};
  }

  const uint64_t total_bytes_;
  std::mutex mutex_;
  uint64_t used_bytes_ = 0;  // protected by mutex_
};

/// A point in a stream. `State` is shared with the stream that has yet to pass it.
class CpuEvent : public Event {
 public:
  struct State {
    std::mutex mutex;
    std::condition_variable done;
    uint64_t recorded = 0;  // all protected by mutex: how often recorded, how often passed, and when last
    uint64_t passed = 0;
    Clock::time_point passed_at;
  };

  Result<bool> is_done() override {
    const std::lock_guard lock(state->mutex);
    return state->passed >= state->recorded;
  }

  // Shared, because the stream may pass the point after the user dropped the event.
  const std::shared_ptr<State> state = std::make_shared<State>();
};

void normalize(float* row, size_t columns) {
  double sum = 0;
  for (size_t i = 0; i < columns; ++i) sum += double{row[i]} * row[i];
  if (sum == 0) return;
  const auto scale = static_cast<float>(1 / std::sqrt(sum));
  for (size_t i = 0; i < columns; ++i) row[i] *= scale;
}

/// One thread that takes operations from a bounded queue. The destructor lets it finish what is queued.
class CpuStream : public Stream {
 public:
  CpuStream() : thread_([this] { work(); }) {}
  ~CpuStream() override {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

  Status copy_to_device(DeviceBuffer& to, size_t offset_bytes, const void* from, size_t size_bytes) override {
    if (Status status = check_range(to, offset_bytes, size_bytes); !status.ok()) return status;
    return queue([=, address = static_cast<char*>(to.address())] { std::memcpy(address + offset_bytes, from, size_bytes); });
  }

  Status copy_to_host(void* to, const DeviceBuffer& from, size_t offset_bytes, size_t size_bytes) override {
    if (Status status = check_range(from, offset_bytes, size_bytes); !status.ok()) return status;
    return queue(
        [=, address = static_cast<const char*>(from.address())] { std::memcpy(to, address + offset_bytes, size_bytes); });
  }

  Status fill(DeviceBuffer& to, uint8_t value) override {
    return queue([=, address = to.address(), size_bytes = to.size_bytes()] { std::memset(address, value, size_bytes); });
  }

  Status normalize_rows(DeviceBuffer& matrix, size_t rows, size_t columns) override {
    if (Status status = check_matrix(matrix, rows, columns); !status.ok()) return status;
    return queue([=, data = static_cast<float*>(matrix.address())] {
      for (size_t row = 0; row < rows; ++row) normalize(data + row * columns, columns);
    });
  }

  Status record(Event& event) override {
    auto* ours = dynamic_cast<CpuEvent*>(&event);
    if (!ours) return {Code::kInvalid, "the event belongs to another kind of device"};
    uint64_t turn = 0;
    {
      const std::lock_guard lock(ours->state->mutex);
      turn = ++ours->state->recorded;
    }
    return queue([turn, state = ours->state] {
      const std::lock_guard lock(state->mutex);
      state->passed = turn;
      state->passed_at = Clock::now();
      state->done.notify_all();
    });
  }

  Status wait_for(Event& event) override {
    auto* ours = dynamic_cast<CpuEvent*>(&event);
    if (!ours) return {Code::kInvalid, "the event belongs to another kind of device"};
    uint64_t turn = 0;
    {
      const std::lock_guard lock(ours->state->mutex);
      turn = ours->state->recorded;
    }
    return queue([turn, state = ours->state] {
      std::unique_lock lock(state->mutex);
      state->done.wait(lock, [&] { return state->passed >= turn; });
    });
  }

  Status synchronize(std::chrono::milliseconds timeout) override {
    std::unique_lock lock(mutex_);
    if (changed_.wait_for(lock, timeout, [this] { return queue_.empty() && !busy_; })) return {};
    return {Code::kTimeout, "the stream has work left after " + std::to_string(timeout.count()) + " ms"};
  }

 private:
  Status queue(std::function<void()> operation) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return queue_.size() < kMaxQueuedOperations; });
    queue_.push_back(std::move(operation));
    changed_.notify_all();
    return {};
  }

  void work() {
    std::unique_lock lock(mutex_);
    while (true) {
      changed_.wait(lock, [this] { return !queue_.empty() || stopping_; });
      if (queue_.empty()) return;
      const std::function<void()> operation = std::move(queue_.front());
      queue_.pop_front();
      busy_ = true;
      lock.unlock();
      operation();
      lock.lock();
      busy_ = false;
      changed_.notify_all();
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> queue_;  // these three protected by mutex_
  bool busy_ = false;
  bool stopping_ = false;
  std::thread thread_;  // last: it starts when all else is there
};

class CpuDevice : public Device {
 public:
  explicit CpuDevice(DeviceInfo info) : info_(std::move(info)), memory_(info_.memory_bytes) {}

  const DeviceInfo& info() const override { return info_; }
  MemoryManager& memory() override { return memory_; }
  Result<std::unique_ptr<Stream>> new_stream() override { return std::unique_ptr<Stream>(std::make_unique<CpuStream>()); }
  Result<std::unique_ptr<Event>> new_event() override { return std::unique_ptr<Event>(std::make_unique<CpuEvent>()); }

  Result<double> elapsed_ms(Event& start, Event& end) override {
    auto* from = dynamic_cast<CpuEvent*>(&start);
    auto* to = dynamic_cast<CpuEvent*>(&end);
    if (!from || !to) return Status(Code::kInvalid, "the event belongs to another kind of device");
    if (from == to) return 0.0;
    const std::scoped_lock lock(from->state->mutex, to->state->mutex);
    for (const auto& state : {from->state, to->state}) {
      if (state->recorded == 0) return Status(Code::kInvalid, "the event was never recorded");
      if (state->passed < state->recorded) return Status(Code::kUnavailable, "the event is not done yet");
    }
    return std::chrono::duration<double, std::milli>(to->state->passed_at - from->state->passed_at).count();
  }

 private:
  const DeviceInfo info_;
  CpuMemory memory_;
};

}  // namespace

std::unique_ptr<Device> make_cpu_device(DeviceInfo info) { return std::make_unique<CpuDevice>(std::move(info)); }

}  // namespace manta::gpu

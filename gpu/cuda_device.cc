#include "gpu/cuda_device.h"

#include <algorithm>
#include <condition_variable>
#include <mutex>

#include "gpu/cuda_library.h"
#include "gpu/ranges.h"

namespace manta::gpu {
namespace {

// A device that failed never reaches a notification, so waits look at the stream's state this often.
constexpr std::chrono::milliseconds kCheckEvery{50};

class CudaMemory : public MemoryManager {
 public:
  CudaMemory(const MantaCudaTable& cuda, int device) : cuda_(cuda), device_(device) {}

  Result<DeviceBuffer> allocate(size_t size_bytes) override {
    if (size_bytes == 0) return Status(Code::kInvalid, "a device buffer of 0 bytes");
    void* address = nullptr;
    Status status = cuda_status(cuda_, cuda_.allocate(device_, size_bytes, &address), "device memory");
    if (!status.ok()) return status.with_context("wanted " + std::to_string(size_bytes) + " bytes");
    return DeviceBuffer(this, address, size_bytes);
  }

  Result<HostRegistration> register_host(const void* address, size_t size_bytes) override {
    if (!address || size_bytes == 0) return Status(Code::kInvalid, "an empty range cannot be registered");
    Status status = cuda_status(cuda_, cuda_.register_host(device_, address, size_bytes), "registering host memory");
    if (!status.ok()) return status;
    return HostRegistration(this, address);
  }

  Result<MemoryUse> use() override {
    MemoryUse use;
    Status status = cuda_status(cuda_, cuda_.memory_use(device_, &use.free_bytes, &use.total_bytes), "memory use");
    if (!status.ok()) return status;
    return use;
  }

 private:
  // What a destructor cannot report comes back from the next call on the device: CUDA keeps such errors.
  void free(void* address, size_t) override { cuda_.release(device_, address); }
  void unregister_host(const void* address) override { cuda_.unregister_host(device_, address); }

  const MantaCudaTable& cuda_;
  const int device_;
};

class CudaEvent : public Event {
 public:
  CudaEvent(const MantaCudaTable& cuda, int device, void* event) : cuda_(cuda), device_(device), event_(event) {}
  ~CudaEvent() override { cuda_.event_destroy(device_, event_); }

  Result<bool> is_done() override {
    int done = 0;
    Status status = cuda_status(cuda_, cuda_.event_done(device_, event_, &done), "event");
    if (!status.ok()) return status;
    return done != 0;
  }

  [[nodiscard]] void* handle() const { return event_; }

 private:
  const MantaCudaTable& cuda_;
  const int device_;
  void* const event_;
};

/// What a waiting thread and the driver's callback share; either may be the last to let go of it.
struct Arrival {
  std::mutex mutex;
  std::condition_variable changed;
  bool arrived = false;  // protected by mutex
};

void on_arrival(void* argument) {
  const std::unique_ptr<std::shared_ptr<Arrival>> arrival(static_cast<std::shared_ptr<Arrival>*>(argument));
  const std::lock_guard lock((*arrival)->mutex);
  (*arrival)->arrived = true;
  (*arrival)->changed.notify_all();
}

class CudaStream : public Stream {
 public:
  CudaStream(const MantaCudaTable& cuda, int device, void* stream) : cuda_(cuda), device_(device), stream_(stream) {}
  ~CudaStream() override { cuda_.stream_destroy(device_, stream_); }

  Status copy_to_device(DeviceBuffer& to, size_t offset_bytes, const void* from, size_t size_bytes) override {
    if (Status status = check_range(to, offset_bytes, size_bytes); !status.ok()) return status;
    void* address = static_cast<char*>(to.address()) + offset_bytes;
    return cuda_status(cuda_, cuda_.copy(device_, stream_, address, from, size_bytes), "copy to the device");
  }

  Status copy_to_host(void* to, const DeviceBuffer& from, size_t offset_bytes, size_t size_bytes) override {
    if (Status status = check_range(from, offset_bytes, size_bytes); !status.ok()) return status;
    const void* address = static_cast<const char*>(from.address()) + offset_bytes;
    return cuda_status(cuda_, cuda_.copy(device_, stream_, to, address, size_bytes), "copy from the device");
  }

  Status fill(DeviceBuffer& to, uint8_t value) override {
    return cuda_status(cuda_, cuda_.fill(device_, stream_, to.address(), value, to.size_bytes()), "fill");
  }

  Status normalize_rows(DeviceBuffer& matrix, size_t rows, size_t columns) override {
    if (Status status = check_matrix(matrix, rows, columns); !status.ok()) return status;
    auto* data = static_cast<float*>(matrix.address());
    return cuda_status(cuda_, cuda_.normalize_rows(device_, stream_, data, rows, columns), "normalize_rows");
  }

  Status record(Event& event) override {
    auto* ours = dynamic_cast<CudaEvent*>(&event);
    if (!ours) return {Code::kInvalid, "the event belongs to another kind of device"};
    return cuda_status(cuda_, cuda_.event_record(device_, ours->handle(), stream_), "record");
  }

  Status wait_for(Event& event) override {
    auto* ours = dynamic_cast<CudaEvent*>(&event);
    if (!ours) return {Code::kInvalid, "the event belongs to another kind of device"};
    return cuda_status(cuda_, cuda_.stream_wait_event(device_, stream_, ours->handle()), "wait_for");
  }

  // CUDA has no wait with a deadline, so the stream calls back when it gets there and the wait is on that.
  Status synchronize(std::chrono::milliseconds timeout) override {
    auto arrival = std::make_shared<Arrival>();
    auto for_driver = std::make_unique<std::shared_ptr<Arrival>>(arrival);
    Status status = cuda_status(cuda_, cuda_.stream_notify(device_, stream_, on_arrival, for_driver.get()), "synchronize");
    if (!status.ok()) return status;
    (void)for_driver.release();  // the callback's now

    const auto deadline = std::chrono::steady_clock::now() + timeout;
    std::unique_lock lock(arrival->mutex);
    while (true) {
      const auto next = std::min(deadline, std::chrono::steady_clock::now() + kCheckEvery);
      if (arrival->changed.wait_until(lock, next, [&] { return arrival->arrived; })) break;
      status = cuda_status(cuda_, cuda_.stream_check(device_, stream_), "synchronize");
      if (!status.ok()) return status;
      if (std::chrono::steady_clock::now() >= deadline) {
        return {Code::kTimeout, "the stream has work left after " + std::to_string(timeout.count()) + " ms"};
      }
    }
    return cuda_status(cuda_, cuda_.stream_check(device_, stream_), "synchronize");
  }

 private:
  const MantaCudaTable& cuda_;
  const int device_;
  void* const stream_;
};

class CudaDevice : public Device {
 public:
  CudaDevice(const MantaCudaTable& cuda, DeviceInfo info)
      : cuda_(cuda), info_(std::move(info)), memory_(cuda, info_.index) {}

  const DeviceInfo& info() const override { return info_; }
  MemoryManager& memory() override { return memory_; }

  Result<std::unique_ptr<Stream>> new_stream() override {
    void* stream = nullptr;
    Status status = cuda_status(cuda_, cuda_.stream_create(info_.index, &stream), "new stream");
    if (!status.ok()) return status;
    return std::unique_ptr<Stream>(std::make_unique<CudaStream>(cuda_, info_.index, stream));
  }

  Result<std::unique_ptr<Event>> new_event() override {
    void* event = nullptr;
    Status status = cuda_status(cuda_, cuda_.event_create(info_.index, &event), "new event");
    if (!status.ok()) return status;
    return std::unique_ptr<Event>(std::make_unique<CudaEvent>(cuda_, info_.index, event));
  }

  Result<double> elapsed_ms(Event& start, Event& end) override {
    auto* from = dynamic_cast<CudaEvent*>(&start);
    auto* to = dynamic_cast<CudaEvent*>(&end);
    if (!from || !to) return Status(Code::kInvalid, "the event belongs to another kind of device");
    float ms = 0;
    Status status = cuda_status(cuda_, cuda_.event_elapsed_ms(info_.index, from->handle(), to->handle(), &ms), "elapsed_ms");
    if (!status.ok()) return status;
    return double{ms};
  }

 private:
  const MantaCudaTable& cuda_;
  const DeviceInfo info_;
  CudaMemory memory_;
};

}  // namespace

std::unique_ptr<Device> make_cuda_device(const MantaCudaTable& cuda, DeviceInfo info) {
  return std::make_unique<CudaDevice>(cuda, std::move(info));
}

}  // namespace manta::gpu

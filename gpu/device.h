// Devices that compute beside the CPU: Device, MemoryManager, Stream, Event. No CUDA in this header or in any other of this
// folder.
//
// Two backends stand behind it and pass the same tests: CUDA (gpu/cuda, loaded at run time from libmanta_cuda.so when the
// machine has a GPU) and the CPU twin, which computes the same results with a thread a stream and has its own bounded
// memory, so that code for GPUs is written, run and tested on machines without one.
//
//   Device --memory()--> MemoryManager --allocate--> DeviceBuffer
//      |
//      +--new_stream()--> Stream: copies, fills and kernels, one after the other; streams run beside each other
//      +--new_event()---> Event: a point in a stream that others wait for, and that time is measured between
//
// Failures come as Status: kFull (device memory), kUnavailable (no device or driver), kInvalid (sizes, a foreign object),
// kTimeout, kIo (what the driver reports). Thread safety: a Device and its MemoryManager may be used by any thread; a
// Stream, an Event or a DeviceBuffer by one at a time. A Device outlives what was made from it.
#pragma once

#include <manta/status.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

namespace manta::gpu {

struct DeviceInfo {
  std::string uuid;  ///< As CUDA_VISIBLE_DEVICES takes it ("GPU-..."), or "logical-<index>".
  std::string name;
  uint64_t memory_bytes = 0;
  int32_t index = 0;        ///< Of the device within its backend.
  bool is_logical = false;  ///< No hardware behind it: the CPU twin computes in its place.
};

class MemoryManager;

/// Memory on a device, given back when this goes. No work on it may be queued then: synchronize its streams first.
class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  DeviceBuffer(MemoryManager* manager, void* address, size_t size_bytes)
      : manager_(manager), address_(address), size_bytes_(size_bytes) {}
  DeviceBuffer(DeviceBuffer&& other) noexcept { swap(other); }
  DeviceBuffer& operator=(DeviceBuffer&& other) noexcept {
    DeviceBuffer(std::move(other)).swap(*this);
    return *this;
  }
  ~DeviceBuffer();

  /// An address on the device: for kernels and frameworks, not to be read on the CPU.
  [[nodiscard]] void* address() const { return address_; }
  [[nodiscard]] size_t size_bytes() const { return size_bytes_; }

 private:
  void swap(DeviceBuffer& other) noexcept {
    std::swap(manager_, other.manager_);
    std::swap(address_, other.address_);
    std::swap(size_bytes_, other.size_bytes_);
  }

  MemoryManager* manager_ = nullptr;
  void* address_ = nullptr;
  size_t size_bytes_ = 0;
};

/// Keeps a range of host memory registered (page-locked, so that copies need no staging) while it lives.
class HostRegistration {
 public:
  HostRegistration() = default;
  HostRegistration(MemoryManager* manager, const void* address) : manager_(manager), address_(address) {}
  HostRegistration(HostRegistration&& other) noexcept { swap(other); }
  HostRegistration& operator=(HostRegistration&& other) noexcept {
    HostRegistration(std::move(other)).swap(*this);
    return *this;
  }
  ~HostRegistration();

 private:
  void swap(HostRegistration& other) noexcept {
    std::swap(manager_, other.manager_);
    std::swap(address_, other.address_);
  }

  MemoryManager* manager_ = nullptr;
  const void* address_ = nullptr;
};

struct MemoryUse {
  uint64_t free_bytes = 0;
  uint64_t total_bytes = 0;
};

class MemoryManager {
 public:
  virtual ~MemoryManager() = default;

  /// At least 256-byte aligned. kFull when the device has not as much; kInvalid for 0 bytes.
  [[nodiscard]] virtual Result<DeviceBuffer> allocate(size_t size_bytes) = 0;

  /// Registers memory of the caller's, a segment of the object store for one. It must stay mapped while the registration
  /// lives.
  [[nodiscard]] virtual Result<HostRegistration> register_host(const void* address, size_t size_bytes) = 0;

  [[nodiscard]] virtual Result<MemoryUse> use() = 0;

 private:
  friend class DeviceBuffer;
  friend class HostRegistration;
  virtual void free(void* address, size_t size_bytes) = 0;
  virtual void unregister_host(const void* address) = 0;
};

class Event {
 public:
  virtual ~Event() = default;
  /// Whether the stream has passed the point where it was last recorded. An event never recorded is done.
  [[nodiscard]] virtual Result<bool> is_done() = 0;
};

/// Work in order. Each call queues and returns; memory it names must stay as it is until the stream has passed it.
/// Ranges are checked before anything is queued: one that does not lie inside its buffer is kInvalid.
class Stream {
 public:
  virtual ~Stream() = default;

  [[nodiscard]] virtual Status copy_to_device(DeviceBuffer& to, size_t offset_bytes, const void* from,
                                              size_t size_bytes) = 0;
  [[nodiscard]] virtual Status copy_to_host(void* to, const DeviceBuffer& from, size_t offset_bytes, size_t size_bytes) = 0;
  [[nodiscard]] virtual Status fill(DeviceBuffer& to, uint8_t value) = 0;

  /// Scales each row of a rows x columns matrix of float32 to Euclidean length 1; rows of zeros stay as they are.
  [[nodiscard]] virtual Status normalize_rows(DeviceBuffer& matrix, size_t rows, size_t columns) = 0;

  [[nodiscard]] virtual Status record(Event& event) = 0;
  /// What is queued after this starts when `event`, recorded on another stream, is done.
  [[nodiscard]] virtual Status wait_for(Event& event) = 0;

  /// Blocks the caller until all that was queued is done; kTimeout when that takes longer (the work goes on).
  [[nodiscard]] virtual Status synchronize(std::chrono::milliseconds timeout) = 0;
};

class Device {
 public:
  virtual ~Device() = default;
  [[nodiscard]] virtual const DeviceInfo& info() const = 0;
  [[nodiscard]] virtual MemoryManager& memory() = 0;
  [[nodiscard]] virtual Result<std::unique_ptr<Stream>> new_stream() = 0;
  [[nodiscard]] virtual Result<std::unique_ptr<Event>> new_event() = 0;
  /// Milliseconds between two recorded events; kUnavailable when one is not done yet.
  [[nodiscard]] virtual Result<double> elapsed_ms(Event& start, Event& end) = 0;
};

}  // namespace manta::gpu

// libmanta_cuda.so: the CUDA backend behind the C door of gpu/cuda_abi.h. Only this file sees CUDA.
#include "gpu/cuda_abi.h"

#include <cuda_runtime.h>

#include <cstdio>

namespace {

constexpr int kThreadsPerRow = 128;

/// One block a row: a Euclidean norm by a tree in shared memory, then the scaling. In double, like the CPU twin.
__global__ void normalize_rows_kernel(float* matrix, uint64_t columns) {
  __shared__ double partial[kThreadsPerRow];
  float* row = matrix + uint64_t{blockIdx.x} * columns;
  double sum = 0;
  for (uint64_t i = threadIdx.x; i < columns; i += kThreadsPerRow) sum += static_cast<double>(row[i]) * row[i];
  partial[threadIdx.x] = sum;
  __syncthreads();
  for (unsigned step = kThreadsPerRow / 2; step > 0; step /= 2) {
    if (threadIdx.x < step) partial[threadIdx.x] += partial[threadIdx.x + step];
    __syncthreads();
  }
  if (partial[0] == 0) return;
  const float scale = static_cast<float>(1 / sqrt(partial[0]));
  for (uint64_t i = threadIdx.x; i < columns; i += kThreadsPerRow) row[i] *= scale;
}

// The current device is a thing of the calling thread, and a thread may serve several devices.
int use(int device) { return cudaSetDevice(device); }

const char* error_text(int error) { return cudaGetErrorString(static_cast<cudaError_t>(error)); }

int device_count(int* count) { return cudaGetDeviceCount(count); }

int device_info(int device, MantaCudaInfo* info) {
  cudaDeviceProp properties{};
  if (const int error = cudaGetDeviceProperties(&properties, device)) return error;
  const auto* id = reinterpret_cast<const unsigned char*>(properties.uuid.bytes);
  int length = std::snprintf(info->uuid, sizeof info->uuid, "GPU-");
  for (int i = 0; i < 16; ++i) {
    const bool dash = i == 4 || i == 6 || i == 8 || i == 10;
    length += std::snprintf(info->uuid + length, sizeof info->uuid - length, dash ? "-%02x" : "%02x", id[i]);
  }
  std::snprintf(info->name, sizeof info->name, "%s", properties.name);
  info->memory_bytes = properties.totalGlobalMem;
  return 0;
}

int memory_use(int device, uint64_t* free_bytes, uint64_t* total_bytes) {
  if (const int error = use(device)) return error;
  size_t available = 0;
  size_t total = 0;
  const int error = cudaMemGetInfo(&available, &total);
  *free_bytes = available;
  *total_bytes = total;
  return error;
}

int allocate(int device, uint64_t size_bytes, void** address) {
  if (const int error = use(device)) return error;
  const cudaError_t error = cudaMalloc(address, size_bytes);
  // Out of memory is an answer, not a broken device: it must not come back from the next, unrelated call.
  if (error == cudaErrorMemoryAllocation) cudaGetLastError();
  return error;
}

int release(int device, void* address) {
  if (const int error = use(device)) return error;
  return cudaFree(address);
}

int register_host(int device, const void* address, uint64_t size_bytes) {
  if (const int error = use(device)) return error;
  void* range = const_cast<void*>(address);
  // The mapping of a sealed segment is read-only, which not every driver takes as it is; then it is asked for as read-only.
  cudaError_t error = cudaHostRegister(range, size_bytes, cudaHostRegisterDefault);
  if (error != cudaSuccess && error != cudaErrorHostMemoryAlreadyRegistered) {
    cudaGetLastError();
    error = cudaHostRegister(range, size_bytes, cudaHostRegisterReadOnly);
  }
  if (error != cudaSuccess) cudaGetLastError();
  return error;
}

int unregister_host(int device, const void* address) {
  if (const int error = use(device)) return error;
  return cudaHostUnregister(const_cast<void*>(address));
}

int stream_create(int device, void** stream) {
  if (const int error = use(device)) return error;
  return cudaStreamCreateWithFlags(reinterpret_cast<cudaStream_t*>(stream), cudaStreamNonBlocking);
}

int stream_destroy(int device, void* stream) {
  if (const int error = use(device)) return error;
  const int error = cudaStreamSynchronize(static_cast<cudaStream_t>(stream));
  const int destroyed = cudaStreamDestroy(static_cast<cudaStream_t>(stream));
  return error ? error : destroyed;
}

int stream_check(int device, void* stream) {
  if (const int error = use(device)) return error;
  const cudaError_t error = cudaStreamQuery(static_cast<cudaStream_t>(stream));
  return error == cudaErrorNotReady ? cudaSuccess : error;
}

int stream_notify(int device, void* stream, void (*done)(void* argument), void* argument) {
  if (const int error = use(device)) return error;
  return cudaLaunchHostFunc(static_cast<cudaStream_t>(stream), done, argument);
}

int copy(int device, void* stream, void* to, const void* from, uint64_t size_bytes) {
  if (const int error = use(device)) return error;
  return cudaMemcpyAsync(to, from, size_bytes, cudaMemcpyDefault, static_cast<cudaStream_t>(stream));
}

int fill(int device, void* stream, void* to, uint8_t value, uint64_t size_bytes) {
  if (const int error = use(device)) return error;
  return cudaMemsetAsync(to, value, size_bytes, static_cast<cudaStream_t>(stream));
}

int normalize_rows(int device, void* stream, float* matrix, uint64_t rows, uint64_t columns) {
  if (rows == 0 || columns == 0) return cudaSuccess;
  if (rows > 0x7fffffff) return cudaErrorInvalidValue;
  if (const int error = use(device)) return error;
  normalize_rows_kernel<<<static_cast<unsigned>(rows), kThreadsPerRow, 0, static_cast<cudaStream_t>(stream)>>>(matrix,
                                                                                                               columns);
  return cudaGetLastError();
}

int event_create(int device, void** event) {
  if (const int error = use(device)) return error;
  return cudaEventCreate(reinterpret_cast<cudaEvent_t*>(event));
}

int event_destroy(int device, void* event) {
  if (const int error = use(device)) return error;
  return cudaEventDestroy(static_cast<cudaEvent_t>(event));
}

int event_record(int device, void* event, void* stream) {
  if (const int error = use(device)) return error;
  return cudaEventRecord(static_cast<cudaEvent_t>(event), static_cast<cudaStream_t>(stream));
}

int event_done(int device, void* event, int* is_done) {
  if (const int error = use(device)) return error;
  const cudaError_t error = cudaEventQuery(static_cast<cudaEvent_t>(event));
  *is_done = error == cudaSuccess;
  return error == cudaErrorNotReady ? cudaSuccess : error;
}

int event_elapsed_ms(int device, void* start, void* end, float* ms) {
  if (const int error = use(device)) return error;
  const cudaError_t error = cudaEventElapsedTime(ms, static_cast<cudaEvent_t>(start), static_cast<cudaEvent_t>(end));
  if (error != cudaSuccess) cudaGetLastError();
  return error;
}

int stream_wait_event(int device, void* stream, void* event) {
  if (const int error = use(device)) return error;
  return cudaStreamWaitEvent(static_cast<cudaStream_t>(stream), static_cast<cudaEvent_t>(event), 0);
}

constexpr MantaCudaTable kTable = {
    MANTA_CUDA_ABI,    error_text,     device_count,
    device_info,       memory_use,     allocate,
    release,           register_host,  unregister_host,
    stream_create,     stream_destroy, stream_check,
    stream_notify,     copy,           fill,
    normalize_rows,    event_create,   event_destroy,
    event_record,      event_done,     event_elapsed_ms,
    stream_wait_event,
};

}  // namespace

extern "C" __attribute__((visibility("default"))) const MantaCudaTable* manta_cuda_table(uint32_t abi) {
  return abi == MANTA_CUDA_ABI ? &kTable : nullptr;
}

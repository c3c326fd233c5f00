// The door between the runtime and libmanta_cuda.so: plain C, so that either side can be built by another compiler.
//
// Every function returns 0 or a cudaError_t. None throws, none keeps a pointer beyond what its comment says.
#pragma once

#include <stdint.h>

extern "C" {

#define MANTA_CUDA_ABI 1u

typedef struct MantaCudaInfo {
  char uuid[64];  // "GPU-xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx"
  char name[256];
  uint64_t memory_bytes;
} MantaCudaInfo;

typedef struct MantaCudaTable {
  uint32_t abi;
  const char* (*error_text)(int error);

  // Neither creates a CUDA context: a process that only looks takes no device memory.
  int (*device_count)(int* count);
  int (*device_info)(int device, MantaCudaInfo* info);

  int (*memory_use)(int device, uint64_t* free_bytes, uint64_t* total_bytes);
  int (*allocate)(int device, uint64_t size_bytes, void** address);
  int (*release)(int device, void* address);
  int (*register_host)(int device, const void* address, uint64_t size_bytes);
  int (*unregister_host)(int device, const void* address);

  int (*stream_create)(int device, void** stream);
  int (*stream_destroy)(int device, void* stream);
  // 0 when the stream has failed in no way so far, whether or not work is left.
  int (*stream_check)(int device, void* stream);
  // Calls `done(argument)` on a thread of the driver when the stream gets there; never, when the device has failed.
  int (*stream_notify)(int device, void* stream, void (*done)(void* argument), void* argument);
  int (*copy)(int device, void* stream, void* to, const void* from, uint64_t size_bytes);
  int (*fill)(int device, void* stream, void* to, uint8_t value, uint64_t size_bytes);
  int (*normalize_rows)(int device, void* stream, float* matrix, uint64_t rows, uint64_t columns);

  int (*event_create)(int device, void** event);
  int (*event_destroy)(int device, void* event);
  int (*event_record)(int device, void* event, void* stream);
  int (*event_done)(int device, void* event, int* is_done);
  int (*event_elapsed_ms)(int device, void* start, void* end, float* ms);
  int (*stream_wait_event)(int device, void* stream, void* event);
} MantaCudaTable;

// The only symbol of the library. Null when it does not speak `abi`.
typedef const MantaCudaTable* (*MantaCudaEntry)(uint32_t abi);
#define MANTA_CUDA_ENTRY "manta_cuda_table"
}

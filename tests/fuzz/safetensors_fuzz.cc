// Any bytes as a .safetensors file.
#include "torch/safetensors.h"

#include <sys/mman.h>
#include <unistd.h>

#include "common/check.h"
#include "tests/fuzz/fuzz.h"

namespace manta::fuzz {

std::vector<std::string> seeds() {
  std::vector<std::string> out;
  for (
      const std::string header :
      {R"({"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},"b":{"dtype":"I64","shape":[2],"data_offsets":[24,40]}})",
       R"({"__metadata__":{"format":"pt"},"x":{"dtype":"U8","shape":[],"data_offsets":[0,1]}})", "{}"}) {
    const uint64_t size = header.size();
    out.push_back(std::string(reinterpret_cast<const char*>(&size), 8) + header);
  }
  out[0] += std::string(40, '\1');
  out[1] += '\1';
  return out;
}

}  // namespace manta::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const int file = ::memfd_create("safetensors", MFD_CLOEXEC);
  MANTA_CHECK(file >= 0 && ::ftruncate(file, 0) == 0 && ::pwrite(file, data, size, 0) == static_cast<ssize_t>(size));
  const auto opened = manta::models::SafeTensors::open("/proc/self/fd/" + std::to_string(file));
  if (!opened.ok()) return 0;
  // Every tensor lies in the file and can be read to its end.
  for (const auto& [name, view] : opened->tensors()) {
    size_t bytes = manta::size_bytes_of(view.dtype);
    for (const int64_t n : view.shape) bytes *= static_cast<size_t>(n);
    MANTA_CHECK(bytes <= size, name, bytes);
    volatile char last = 0;
    if (bytes > 0) last = static_cast<const char*>(view.data)[bytes - 1];
    (void)last;
  }
  return 0;
}

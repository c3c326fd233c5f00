#include <manta/buffer.h>

#include "actors/call_format.h"
#include "actors/own_memory.h"
#include "actors/runtime.h"

#include <manta/error.h>

#include <cstring>

namespace manta {
namespace {

class HeapMemory final : public detail::OwnMemory {
 public:
  explicit HeapMemory(size_t size_bytes) {
    bytes_ = {static_cast<std::byte*>(::operator new(size_bytes, kAlignment)), size_bytes};
  }
  ~HeapMemory() override { ::operator delete(bytes_.data(), kAlignment); }

 private:
  static constexpr std::align_val_t kAlignment{kBufferAlignment};
};

}  // namespace

std::shared_ptr<detail::OwnMemory> heap_memory(size_t size_bytes) { return std::make_shared<HeapMemory>(size_bytes); }

Buffer Buffer::copy_of(std::span<const std::byte> bytes) {
  if (bytes.empty()) return {};
  const auto copy = heap_memory(bytes.size());
  std::memcpy(copy->bytes().data(), bytes.data(), bytes.size());
  return Buffer(copy->bytes(), copy);
}

Buffer Buffer::uninitialized(size_t size_bytes) {
  if (size_bytes == 0) return {};
  std::shared_ptr<detail::OwnMemory> memory;
  if (size_bytes >= kInlineBytes && Runtime::is_installed()) memory = Runtime::get().allocate(size_bytes);
  if (!memory) memory = heap_memory(size_bytes);
  return Buffer(memory);
}

std::span<std::byte> Buffer::writable() {
  if (bytes_.empty()) return {};
  const char* const why = own_ == nullptr           ? "it was not made by uninitialized"
                          : own_->is_frozen()       ? "it has been put, passed or returned"
                          : owner_.use_count() != 1 ? "there are copies of it"
                                                    : nullptr;
  if (why != nullptr) {
    throw Error(Status(Code::kInvalid, "this Buffer or Array of " + std::to_string(bytes_.size()) +
                                           " bytes cannot be written: " + why + "; make another one and fill that"));
  }
  return own_->bytes();
}

}  // namespace manta

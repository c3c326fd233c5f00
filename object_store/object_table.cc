#include "object_store/object_table.h"

#include <sys/stat.h>

#include <cerrno>
#include <cstring>

namespace manta::object_store {
namespace {

constexpr size_t kMaxTableBytes = size_t{1} << 30;

}  // namespace

Result<ObjectTable> ObjectTable::create(uint32_t slots) {
  ObjectTable table;
  size_t size_bytes = size_t{slots} * sizeof(uint32_t);
  Result<Fd> fd = create_shared_memory("manta-table", size_bytes);
  if (!fd.ok()) return fd.status();
  Result<Mapping> mapping = Mapping::map(*fd, size_bytes, Mapping::Access::kReadWrite);
  if (!mapping.ok()) return mapping.status();
  Result<Fd> read_only = reopen_read_only(*fd);
  if (!read_only.ok()) return read_only.status();
  table.mapping_ = std::move(mapping).value();
  table.read_only_ = std::move(read_only).value();
  return table;
}

void ObjectTable::set(uint32_t slot, uint32_t generation) {
  reinterpret_cast<std::atomic<uint32_t>*>(mapping_.data())[slot].store(generation, std::memory_order_seq_cst);
}

Result<ObjectTableView> ObjectTableView::open(const Fd& fd) {
  struct stat info {};
  if (::fstat(fd.get(), &info) != 0) return Status(Code::kInvalid, std::string("the object table: ") + std::strerror(errno));
  auto size_bytes = static_cast<size_t>(info.st_size);
  if (size_bytes == 0 || size_bytes > kMaxTableBytes)
    return Status(Code::kInvalid, "the object table has an impossible size");
  if (Status sealed = check_sealed(fd, size_bytes); !sealed.ok()) return sealed.with_context("the object table");
  Result<Mapping> mapping = Mapping::map(fd, size_bytes, Mapping::Access::kReadOnly);
  if (!mapping.ok()) return mapping.status();
  ObjectTableView view;
  view.mapping_ = std::move(mapping).value();
  view.slots_ = static_cast<uint32_t>(size_bytes / sizeof(uint32_t));
  return view;
}

}  // namespace manta::object_store

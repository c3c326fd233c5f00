#include "object_store/hazard_page.h"

#include <algorithm>

namespace manta::object_store {
namespace {

/// `used` bounds the raylet's look: places at or past it were never set.
struct Page {
  std::atomic<uint32_t> used;
  alignas(4096) std::atomic<uint64_t> keys[kHazardSlots];
};
static_assert(sizeof(Page) == kHazardPageBytes);

// ThreadSanitizer knows memory by its address, and the two sides see the page at two: it is told of the order that letting
// go of a pin and looking at the pins make.
#if defined(__SANITIZE_THREAD__)
extern "C" void __tsan_acquire(void* address);
extern "C" void __tsan_release(void* address);
char order_of_pins;
void pins_let_go() { __tsan_release(&order_of_pins); }
void pins_looked_at() { __tsan_acquire(&order_of_pins); }
#else
void pins_let_go() {}
void pins_looked_at() {}
#endif

}  // namespace

Result<HazardPage> HazardPage::create() {
  HazardPage page;
  Result<Fd> fd = create_shared_memory("manta-hazards", kHazardPageBytes);
  if (!fd.ok()) return fd.status();
  Result<Mapping> mapping = Mapping::map(*fd, kHazardPageBytes, Mapping::Access::kReadWrite);
  if (!mapping.ok()) return mapping.status();
  page.fd_ = std::move(fd).value();
  page.mapping_ = std::move(mapping).value();
  return page;
}

void HazardPage::set(uint32_t index, uint64_t key) {
  auto* page = reinterpret_cast<Page*>(mapping_.data());
  if (key == 0) {  // letting go orders what was read before it
    pins_let_go();
    page->keys[index].store(0, std::memory_order_release);
    return;
  }
  if (page->used.load(std::memory_order_relaxed) <= index) page->used.store(index + 1, std::memory_order_relaxed);
  page->keys[index].exchange(key, std::memory_order_seq_cst);
}

Result<Hazards> Hazards::open(const Fd& fd) {
  if (Status sealed = check_sealed(fd, kHazardPageBytes); !sealed.ok()) return sealed.with_context("the hazard page");
  Result<Mapping> mapping = Mapping::map(fd, kHazardPageBytes, Mapping::Access::kReadOnly);
  if (!mapping.ok()) return mapping.status();
  Hazards hazards;
  hazards.mapping_ = std::move(mapping).value();
  return hazards;
}

void Hazards::collect(std::vector<uint64_t>& keys) const {
  const auto* page = reinterpret_cast<const Page*>(mapping_.data());
  uint32_t used = std::min(page->used.load(std::memory_order_seq_cst), kHazardSlots);
  for (uint32_t i = 0; i < used; ++i) {
    if (uint64_t key = page->keys[i].load(std::memory_order_seq_cst); key != 0) keys.push_back(key);
  }
  pins_looked_at();
}

}  // namespace manta::object_store

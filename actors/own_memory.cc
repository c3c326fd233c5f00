#include "actors/own_memory.h"

#include "common/check.h"

namespace manta {
namespace {

constexpr auto kStoreTimeout = std::chrono::seconds(10);

}  // namespace

StoreMemory::StoreMemory(object_store::MutableBlock block) : block_(std::move(block)) {
  bytes_ = block_.bytes().subspan(kHeadBytes);
}

std::shared_ptr<StoreMemory> StoreMemory::create(object_store::StoreClient& store, size_t size_bytes) {
  Result<object_store::MutableBlock> block = store.create_from_plenty(kHeadBytes + size_bytes);
  if (!block.ok()) return nullptr;
  return std::shared_ptr<StoreMemory>(new StoreMemory(std::move(block).value()));
}

std::optional<Result<wire::ObjectLocation>> StoreMemory::become(object_store::StoreClient& store, const Encoder& value,
                                                                const ObjectId& id) {
  if (is_taken_.exchange(true)) return std::nullopt;
  // Pinned first: from the moment it is sealed its owner may free it, and others of this process may still look at it.
  Result<object_store::PinnedBytes> pinned = store.pin(block_);
  if (!pinned.ok() || !value.write_head(block_.bytes().first(kHeadBytes))) {
    is_taken_ = false;
    return std::nullopt;
  }
  pinned_ = std::move(pinned).value();
  return store.seal(std::move(block_), id);
}

Result<wire::ObjectLocation> write_object(object_store::StoreClient& store, const Encoder& value, const ObjectId& id) {
  if (auto* const memory = dynamic_cast<StoreMemory*>(value.only_own_memory())) {
    if (auto in_place = memory->become(store, value, id)) return *std::move(in_place);
  }
  MANTA_ASSIGN_OR_RETURN(object_store::MutableBlock block, store.create(value.blob_size(), kStoreTimeout));
  value.write_blob(block.bytes());
  return store.seal(std::move(block), id);
}

}  // namespace manta

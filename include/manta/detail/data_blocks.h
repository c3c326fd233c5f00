// Blocks: how rows travel between the processes of a pipeline. Used by the templates of data.h; not for users.
#pragma once

#include <manta/actor.h>

#include <arrow/array/array_primitive.h>
#include <arrow/record_batch.h>
#include <arrow/result.h>

namespace manta {

/// A block of rows: an Arrow record batch. Got from a Ref or as an argument, its columns are views of shared memory.
using Batch = std::shared_ptr<arrow::RecordBatch>;

/// Arrow IPC with the buffers out of band: schema and lengths in band, each column buffer in place. A slice sends its own
/// rows only. A null pointer travels too. Decoding checks the structure (lengths, offsets' ends), not each value.
template <>
struct Codec<Batch> {
  static void encode(Encoder& out, const Batch& value);
  static Batch decode(Decoder& in);
};

/// A table travels as its record batches.
template <>
struct Codec<std::shared_ptr<arrow::Table>> {
  static void encode(Encoder& out, const std::shared_ptr<arrow::Table>& value);
  static std::shared_ptr<arrow::Table> decode(Decoder& in);
};

namespace data {

/// What the driver learns of a block without seeing it.
struct BlockMeta {
  int64_t rows_in = 0;   ///< Rows the call was given or read.
  int64_t rows = 0;      ///< Rows of the block.
  int64_t bytes = 0;     ///< What the block takes in the store, about.
  std::string schema{};  ///< As text, to compare.
};
using BlockAndMeta = std::tuple<Batch, BlockMeta>;

/// Rows [offset, offset + length) of a block.
struct SliceRef {
  Ref<Batch> block;
  int64_t offset = 0;
  int64_t length = 0;
};

/// A step on one block with no state but `state`: enlisted before main under `key`, so that any process of the binary finds
/// it.
using Kernel = Result<Batch> (*)(const std::string& state, const Batch& batch);
struct KernelSpec {
  std::string key{};
  std::string state{};
  std::string label{};  ///< In errors: "filter", "map_batches(tokenize)".
};
bool enlist_kernel(const char* key, Kernel kernel);

/// What an actor or task of a map step is given.
struct MapRequest {
  std::vector<SliceRef> slices{};
  std::vector<KernelSpec> kernels{};  ///< Run on the result, in order.
  bool rows_only = false;             ///< Only the number of rows matters: hand back an empty block.
};

/// The rows of the slices as one batch: without a copy when there is one slice.
Batch assemble(const MapRequest& request);
/// Runs the kernels and describes the result.
BlockAndMeta finish(Batch result, const std::vector<KernelSpec>& kernels, bool rows_only, int64_t rows_in);

// ---- What a user's class or function may return.
inline Batch to_batch(Batch batch) { return batch; }
inline Batch to_batch(manta::Result<Batch> result) { return value_or_throw(std::move(result)); }
[[noreturn]] void throw_arrow(const arrow::Status& status);
inline Batch to_batch(arrow::Result<Batch> result) {
  if (!result.ok()) throw_arrow(result.status());
  return std::move(result).ValueUnsafe();
}

template <typename F>
concept Maps = requires(F& f, Batch batch) {
  to_batch(f(std::move(batch)));
};

/// The actor behind map_batches<C>: one object of the user's class.
template <typename C>
class MapActor {
 public:
  template <typename... Args>
  requires(sizeof...(Args) != 1 ||
           !(std::same_as<std::remove_cvref_t<Args>, MapActor> || ...)) explicit MapActor(Args&&... args)
      : object_(make(std::forward<Args>(args)...)) {}

  void ready() {}
  BlockAndMeta apply(const MapRequest& request) {
    Batch batch = assemble(request);
    const int64_t rows_in = batch->num_rows();
    return finish(to_batch(object_(std::move(batch))), request.kernels, request.rows_only, rows_in);
  }

 private:
  template <typename... Args>
  static C make(Args&&... args) {
    if constexpr (std::is_constructible_v<C, Args...>) {
      return C(std::forward<Args>(args)...);
    } else {
      return C{std::forward<Args>(args)...};
    }
  }
  C object_;
};

/// One living actor of a pool, whatever its class.
class PoolActor {
 public:
  virtual ~PoolActor() = default;
  [[nodiscard]] virtual Ref<void> ready() const = 0;
  [[nodiscard]] virtual std::tuple<Ref<Batch>, Ref<BlockMeta>> apply(const MapRequest& request) const = 0;
  virtual void kill() const = 0;
};

/// Makes the actors of a pool. Immutable; shared by the plans that use it.
class PoolFactory {
 public:
  virtual ~PoolFactory() = default;
  [[nodiscard]] virtual std::unique_ptr<PoolActor> spawn(const ActorOptions& options) const = 0;
};

template <typename C>
class PoolActorOf final : public PoolActor {
 public:
  explicit PoolActorOf(Actor<MapActor<C>> actor) : actor_(std::move(actor)) {}
  [[nodiscard]] Ref<void> ready() const override { return actor_.template call<&MapActor<C>::ready>(); }
  [[nodiscard]] std::tuple<Ref<Batch>, Ref<BlockMeta>> apply(const MapRequest& request) const override {
    return actor_.template call_each<&MapActor<C>::apply>(request);
  }
  void kill() const override { actor_.kill(); }

 private:
  Actor<MapActor<C>> actor_;
};

/// How a constructor argument is kept until actors are made: a Ref as it is, text as std::string, else by value.
template <typename T>
struct KeptArgument {
  using type = detail::travelling<T>;
};
template <typename T>
requires detail::is_a<std::remove_cvref_t<T>, Ref>
struct KeptArgument<T> {
  using type = std::remove_cvref_t<T>;
};
template <typename T>
using kept_argument = typename KeptArgument<T>::type;

template <typename C, typename... Args>
class PoolFactoryOf final : public PoolFactory {
 public:
  explicit PoolFactoryOf(Args... args) : args_(std::move(args)...) {}
  [[nodiscard]] std::unique_ptr<PoolActor> spawn(const ActorOptions& options) const override {
    return std::apply(
        [&](const auto&... args) {
          return std::make_unique<PoolActorOf<C>>(manta::spawn<MapActor<C>>.with(options)(args...));
        },
        args_);
  }

 private:
  std::tuple<Args...> args_;
};

// ---- Functions and predicates as kernels.

using RowMask = std::vector<uint8_t>;
Result<Batch> keep_rows(const Batch& batch, const RowMask& mask);
Result<Batch> keep_rows(const Batch& batch, const std::shared_ptr<arrow::BooleanArray>& mask);
inline std::shared_ptr<arrow::BooleanArray> to_mask(std::shared_ptr<arrow::BooleanArray> mask) { return mask; }
inline std::shared_ptr<arrow::BooleanArray> to_mask(arrow::Result<std::shared_ptr<arrow::BooleanArray>> mask) {
  if (!mask.ok()) throw_arrow(mask.status());
  return std::move(mask).ValueUnsafe();
}

template <typename P>
concept RowPredicate = requires(const P& p, const arrow::RecordBatch& batch, int64_t row) {
  { p(batch, row) } -> std::convertible_to<bool>;
};
template <typename P>
concept BatchPredicate = requires(const P& p, const Batch& batch) {
  to_mask(p(batch));
};

template <typename P>
Result<Batch> filter_with(const P& predicate, const Batch& batch) {
  if constexpr (RowPredicate<P>) {
    RowMask mask(static_cast<size_t>(batch->num_rows()));
    for (int64_t row = 0; row < batch->num_rows(); ++row) mask[static_cast<size_t>(row)] = predicate(*batch, row) ? 1 : 0;
    return keep_rows(batch, mask);
  } else {
    return keep_rows(batch, to_mask(predicate(batch)));
  }
}

template <auto Fn>
struct MapFunction {
  static Result<Batch> run(const std::string&, const Batch& batch) { return to_batch(Fn(batch)); }
};
template <auto Fn>
struct FilterFunction {
  static Result<Batch> run(const std::string&, const Batch& batch) { return filter_with(Fn, batch); }
};
template <typename F>
struct FilterClosure {
  static Result<Batch> run(const std::string& state, const Batch& batch) {
    alignas(F) std::byte bytes[sizeof(F)];
    if (state.size() != sizeof(F)) return Status(Code::kInternal, "a closure has another size");
    std::memcpy(bytes, state.data(), sizeof(F));
    return filter_with(*std::launder(reinterpret_cast<const F*>(bytes)), batch);
  }
};
template <typename K>
struct EnlistedKernel {
  static const bool enlisted;
};
template <typename K>
const bool EnlistedKernel<K>::enlisted = enlist_kernel(typeid(K).name(), &K::run);

template <typename K>
KernelSpec kernel_spec(std::string label, std::string state = {}) {
  (void)&EnlistedKernel<K>::enlisted;
  return {typeid(K).name(), std::move(state), std::move(label)};
}

}  // namespace data
}  // namespace manta

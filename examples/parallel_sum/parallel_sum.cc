// Shared arrays: one copy of the numbers in shared memory, read in place by every process.
#include <manta/manta.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <numeric>
#include <vector>

// An Array argument is a read-only view of shared memory: however big it is, nothing is copied to get here.
double sum_part(const manta::Array<double>& numbers, size_t from, size_t to) {
  return std::accumulate(numbers.begin() + from, numbers.begin() + to, 0.0);
}

// A big result is made in shared memory to begin with, and read there by whoever holds the Ref.
manta::Array<double> make_numbers(size_t count) {
  auto numbers = manta::Array<double>::uninitialized(count);
  std::iota(numbers.writable().begin(), numbers.writable().end(), 1.0);
  return numbers;
}

manta::Async<int> program() {
  constexpr size_t kCount = 8'000'000;  // 64 MB
  constexpr size_t kParts = 8;

  // The Ref goes to eight tasks; the 64 MB stay where the first task put them.
  const manta::Ref<manta::Array<double>> numbers = manta::remote<&make_numbers>(kCount);
  std::vector<manta::Ref<double>> parts;
  for (size_t i = 0; i < kParts; ++i)
    parts.push_back(manta::remote<&sum_part>(numbers, i * kCount / kParts, (i + 1) * kCount / kParts));

  double sum = 0;
  for (const double part : co_await manta::all(parts)) sum += part;
  std::printf("the sum of 1 to %zu is %.0f\n", kCount, sum);

  // Two views of one object are the same memory, and it cannot be written.
  const manta::Array<double> here = co_await numbers;
  const manta::Array<double> again = co_await numbers;
  std::printf("got twice, copied never: %s\n", here.data() == again.data() ? "yes" : "no");
  std::printf("objects in shared memory: %llu\n", static_cast<unsigned long long>(manta::node_info().store_objects));
  co_return 0;
}

int main(int argc, char** argv) { return manta::run(argc, argv, program); }

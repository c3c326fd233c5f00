// What the machine itself does: the bounds that the rows stand beside. Each call measures anew and takes 10 to 200 ms; each
// is written without anything of Manta's.
#pragma once

#include <cstddef>

namespace manta::bench {

/// Messages of 64 bytes a second from one thread to another through a ring in memory, both spinning.
double ring_messages_per_second();
/// One such message there and one back: how long, and how many a second.
double ring_round_trip_us();
double ring_round_trips_per_second();
/// One there and one back when both sides sleep in a futex.
double futex_round_trips_per_second();
double futex_round_trip_us();

/// Bytes copied from the heap into shared memory of the store's kind (a memfd), GB/s (1e9): its pages are there already
/// (warm), or the copy is the first to touch them (cold).
double copy_warm_gbs(size_t size_bytes);
double copy_cold_gbs(size_t size_bytes);

/// A small heap block made and freed, and an atomic exchange, both on one thread.
double allocations_per_second();
double atomic_exchange_us();

/// A process that does nothing, started and waited for.
double process_starts_per_second();

}  // namespace manta::bench

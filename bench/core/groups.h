// The groups of rows. Each runs in a process and a node of its own, so that what one leaves behind changes no other.
#pragma once

#include "bench/core/table.h"

namespace manta::bench {

void tasks(Table& table);
void actors(Table& table);
void many_callers(Table& table);
void small_objects(Table& table);
void big_objects(Table& table);
void many_refs(Table& table);
void queued_tasks(Table& table);
void latencies(Table& table);
void hogged(Table& table);
void four_workers(Table& table);
void actor_lives(Table& table);
void shared_process_actors(Table& table);
void idle(Table& table);
/// These two start nodes of their own and run without one.
void starts(Table& table);
void first_puts(Table& table);

/// What this program does when `first_puts` starts it: waits so long, puts 100 MB for the first time, prints GB/s.
int first_put(int wait_ms);
/// When `starts` does: one task.
int one_task();

}  // namespace manta::bench

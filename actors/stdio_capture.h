// A worker's standard output and error, labelled with the task or actor that printed.
//
// printf, puts, std::cout, std::cerr and std::clog of this process go through our own streams, which write records
// "\x1e" label "\x1f" text to the descriptors that the raylet reads. The label is the printing thread's own, so it is exact
// also with many threads. What a library writes to descriptor 1 or 2 directly travels too, under the last label.
#pragma once

#include <string>

namespace manta {

/// Once, before any task runs. Line-buffered: a line is on its way when it ends.
void capture_stdio();

/// What this thread prints from now on belongs to `label`; empties its buffers first. Null for no label.
void set_stdio_label(const std::string* label);

/// Ends an unfinished line's wait: called after each task.
void flush_stdio();

}  // namespace manta

#include "actors/stdio_capture.h"

#include <sys/uio.h>
#include <unistd.h>
#include <ext/stdio_sync_filebuf.h>

#include <cerrno>
#include <cstdio>
#include <iostream>

namespace manta {
namespace {

thread_local const std::string* t_label = nullptr;

ssize_t write_record(void* cookie, const char* text, size_t size) {
  const int fd = static_cast<int>(reinterpret_cast<intptr_t>(cookie));
  static const std::string none;
  const std::string& label = t_label != nullptr ? *t_label : none;
  char start = '\x1e';
  char middle = '\x1f';
  const iovec parts[] = {
      {&start, 1}, {const_cast<char*>(label.data()), label.size()}, {&middle, 1}, {const_cast<char*>(text), size}};
  size_t total = 0;
  for (const iovec& part : parts) total += part.iov_len;
  ssize_t written = 0;
  do {
    written = ::writev(fd, parts, 4);
  } while (written < 0 && errno == EINTR);
  if (written < 0) return 0;
  // A pipe takes a long text in pieces; the rest follows under the same label.
  size_t done = static_cast<size_t>(written);
  const size_t header = total - size;
  while (done < total) {
    const size_t from = done < header ? 0 : done - header;
    const ssize_t more = ::write(fd, text + from, size - from);
    if (more < 0 && errno != EINTR) return 0;
    if (more > 0) done += static_cast<size_t>(more);
  }
  return static_cast<ssize_t>(size);
}

FILE* open_stream(int fd) {
  cookie_io_functions_t functions{};
  functions.write = &write_record;
  FILE* const stream = ::fopencookie(reinterpret_cast<void*>(static_cast<intptr_t>(fd)), "w", functions);
  if (stream != nullptr) ::setvbuf(stream, nullptr, _IOLBF, 8192);
  return stream;
}

}  // namespace

void capture_stdio() {
  FILE* const out = open_stream(1);
  FILE* const err = open_stream(2);
  if (out == nullptr || err == nullptr) return;
  stdout = out;
  stderr = err;
  // The C++ streams took the old FILE objects when the program started. These live as long as the process.
  static __gnu_cxx::stdio_sync_filebuf<char> cout_buffer(out);
  static __gnu_cxx::stdio_sync_filebuf<char> cerr_buffer(err);
  std::cout.rdbuf(&cout_buffer);
  std::cerr.rdbuf(&cerr_buffer);
  std::clog.rdbuf(&cerr_buffer);
}

void set_stdio_label(const std::string* label) { t_label = label; }

void flush_stdio() {
  std::cout.flush();
  std::fflush(stdout);
  std::fflush(stderr);
}

}  // namespace manta

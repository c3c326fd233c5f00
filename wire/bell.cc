#include "wire/channel.h"

#include "common/check.h"
#include "common/shared_memory.h"

#include <utility>

namespace manta::wire {
namespace {

constexpr size_t kPageBytes = 4096;
constexpr uint32_t kArmed = 1u << 31;  // the lower bits of `sleepers` count

}  // namespace

// Why no ring is lost: a sleeper arms after drawing its ticket and looks at the rings after arming; a ringer publishes first
// and then looks at the mark (a fence on each side). So either the ringer sees the mark and moves `rung` past the ticket, or
// the sleeper sees the message. A ringer that clears the mark always moves `rung` after it, so no sleeper keeps a cleared
// mark and an old ticket.
struct Bell::Page {
  struct alignas(64) LineState {
    Atomic<uint32_t> sleepers;
    alignas(64) Atomic<uint32_t> rung;
  };
  LineState lines[2];
  alignas(64) uint32_t layout;  // Lines, written before anybody else has the page

  LineState& line(Line which, Lines of) { return lines[of == Lines::kOne ? 0 : static_cast<size_t>(which)]; }
  static void leave(LineState& state) {
    uint32_t seen = state.sleepers.load(std::memory_order_relaxed);
    uint32_t next = 0;
    do {
      uint32_t count = seen & ~kArmed;
      // A peer that scribbled may have made it 0: it stays 0.
      next = count <= 1 ? 0 : (seen & kArmed) | (count - 1);
    } while (!state.sleepers.compare_exchange_weak(seen, next, std::memory_order_relaxed));
  }
};

Result<Bell> Bell::create(Lines lines) {
  MANTA_ASSIGN_OR_RETURN(Fd fd, create_shared_memory("manta-bell", kPageBytes));
  MANTA_ASSIGN_OR_RETURN(Bell bell, open(fd));
  bell.fd_ = std::move(fd);
  bell.lines_ = lines;
  bell.page_->layout = static_cast<uint32_t>(lines);
  return bell;
}

Result<Bell> Bell::open(const Fd& fd) {
  static_assert(sizeof(Page) <= kPageBytes);
  MANTA_RETURN_IF_ERROR(check_sealed(fd, kPageBytes).with_context("opening a bell"));
  Bell bell;  // without a descriptor: a process may have thousands of peers
  MANTA_ASSIGN_OR_RETURN(bell.mapping_, Mapping::map(fd, kPageBytes, Mapping::Access::kReadWrite));
  bell.page_ = reinterpret_cast<Page*>(bell.mapping_.data());
  bell.lines_ = bell.page_->layout == static_cast<uint32_t>(Lines::kOne) ? Lines::kOne : Lines::kTwo;
  return bell;
}

Bell::Bell(Bell&& other) noexcept
    : fd_(std::move(other.fd_)),
      mapping_(std::move(other.mapping_)),
      page_(std::exchange(other.page_, nullptr)),
      lines_(other.lines_) {}
Bell& Bell::operator=(Bell&& other) noexcept {
  fd_ = std::move(other.fd_);
  mapping_ = std::move(other.mapping_);
  page_ = std::exchange(other.page_, nullptr);
  lines_ = other.lines_;
  return *this;
}
Bell::~Bell() = default;

void Bell::ring(Line line) {
  Page::LineState& state = page_->line(line, lines_);
  full_fence(state.sleepers);
  if ((state.sleepers.load(std::memory_order_relaxed) & kArmed) == 0) return;
  if ((state.sleepers.fetch_and(~kArmed) & kArmed) == 0) return;  // another ringer does it
  state.rung.fetch_add(1);
  futex_wake(state.rung);
}

uint32_t Bell::prepare_sleep(Line line) {
  Page::LineState& state = page_->line(line, lines_);
  uint32_t ticket = state.rung.load();
  uint32_t seen = state.sleepers.load(std::memory_order_relaxed);
  while (!state.sleepers.compare_exchange_weak(seen, ((seen & ~kArmed) + 1) | kArmed)) {
  }
  full_fence(state.sleepers);
  return ticket;
}

void Bell::sleep(Line line, uint32_t ticket, int64_t timeout_us) {
  Page::LineState& state = page_->line(line, lines_);
  if (timeout_us > 0) futex_wait(state.rung, ticket, timeout_us);
  Page::leave(state);
}

void Bell::cancel_sleep(Line line) { Page::leave(page_->line(line, lines_)); }

}  // namespace manta::wire

// Memory that calls compute in: kept for the next ones, given back by and by.
#include "workspace.h"

#include <algorithm>
#include <cstdlib>
#include <new>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace densenets {

namespace {

constexpr size_t kPage = 4096;
constexpr int kCallsOfReview = 1024;  // some steps of a network, whose calls want more and less in turn
constexpr size_t kKeptAnyway = 1 << 20;

// For AddressSanitizer: of a piece of memory only so many bytes may be touched, and there is some that may not.
#if defined(__SANITIZE_ADDRESS__)
constexpr size_t kGuard = 64;
void bound(char* begin, size_t used, size_t size) {
  ASAN_UNPOISON_MEMORY_REGION(begin, used);
  ASAN_POISON_MEMORY_REGION(begin + used, size - used);
}
#else
constexpr size_t kGuard = 0;
void bound(char*, size_t, size_t) {}
#endif

std::atomic<int64_t> refused{0};

bool is_refused() {
  return refused.load(std::memory_order_relaxed) > 0 && refused.fetch_sub(1, std::memory_order_relaxed) == 1;
}

struct Kept {
  Workspace workspace;
  std::atomic<bool> taken{false};
};

Kept kept[16];  // more calls than that at the same time take turns on the cores anyway

}  // namespace

char* Memory::reserve(size_t bytes, size_t wanted) {
  most_wanted_ = std::max(most_wanted_, wanted);
  if (bytes > size_) {
    release();
    void* memory = nullptr;
    if (is_refused() || posix_memalign(&memory, kPage, bytes) != 0) throw std::bad_alloc();
    begin_ = static_cast<char*>(memory);
    size_ = bytes;
  }
  return begin_;
}

void Memory::shrink() {
  if (size_ > 2 * std::max(most_wanted_, kKeptAnyway)) release();
  most_wanted_ = 0;
}

void Memory::release() {
  if (begin_) bound(begin_, size_, size_);
  std::free(begin_);
  begin_ = nullptr;
  size_ = 0;
}

char* Workspace::whole(size_t bytes) {
  char* begin = whole_.reserve(bytes, bytes);
  bound(begin, bytes, whole_.size());
  return begin;
}

Slices Workspace::slices(int parts, size_t bytes) {
  const size_t needed = (bytes + kGuard + kPage - 1) / kPage * kPage, count = static_cast<size_t>(parts);
  if (step_ < needed || count * step_ > slices_.size()) step_ = needed;
  const Slices slices = {slices_.reserve(count * step_, count * needed), step_};
  for (int part = 0; part < parts; part++) bound(slices.of(part), bytes, step_);
  return slices;
}

void Workspace::end_call() {
  if (++calls_ < kCallsOfReview) return;
  calls_ = 0;
  whole_.shrink();
  slices_.shrink();
}

void Workspace::release() {
  whole_.release();
  slices_.release();
}

Lease::Lease() noexcept : workspace_(&own_), taken_(nullptr) {
  for (Kept& one : kept) {
    if (one.taken.exchange(true, std::memory_order_acquire)) continue;
    workspace_ = &one.workspace;
    taken_ = &one.taken;
    return;
  }
}

Lease::~Lease() {
  if (taken_) {
    workspace_->end_call();
    taken_->store(false, std::memory_order_release);
  } else {
    own_.release();
  }
}

size_t release_workspaces() noexcept {
  size_t bytes = 0;
  for (Kept& one : kept) {
    if (one.taken.exchange(true, std::memory_order_acquire)) continue;
    bytes += one.workspace.size();
    one.workspace.release();
    one.taken.store(false, std::memory_order_release);
  }
  return bytes;
}

void refuse_memory(int64_t n) noexcept { refused.store(n, std::memory_order_relaxed); }

}  // namespace densenets

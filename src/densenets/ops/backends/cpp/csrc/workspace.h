// Memory that calls compute in: taken by the calling thread, before it starts others. Compiled once, for all
// instruction sets.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace densenets {

// A piece of memory that is kept for the next call, because clearing its pages anew would cost more than the work
// that is done in them. Without constructor and destructor: a thread may still compute when the process ends.
class Memory {
 public:
  // At least so many bytes, of which `wanted` are needed; what lay here before is lost. Throws std::bad_alloc.
  char* reserve(size_t bytes, size_t wanted);
  size_t size() const { return size_; }
  // Frees what is more than twice what was wanted since the last time.
  void shrink();
  void release();

 private:
  char* begin_ = nullptr;
  size_t size_ = 0;
  size_t most_wanted_ = 0;
};

// Pieces of equal size, one for each part of the work.
struct Slices {
  char* begin;
  size_t step;

  char* of(int part) const { return begin + static_cast<size_t>(part) * step; }
};

// What a call needs: memory of its own, and some for each part of the work. Both may throw std::bad_alloc.
class Workspace {
 public:
  char* whole(size_t bytes);
  // Where the slices lie stays the same from call to call, while they fit: a part finds its lines in its cache.
  Slices slices(int parts, size_t bytes);

  size_t size() const { return whole_.size() + slices_.size(); }
  // At the end of a call: now and then, memory that none of the last calls needed is freed.
  void end_call();
  void release();

 private:
  Memory whole_, slices_;
  size_t step_ = 0;
  int calls_ = 0;
};

// One of the workspaces that are kept, for the time of a call; where all are taken, one that isn't kept. There are
// no locks: one would stay locked for ever in a process that is forked meanwhile.
class Lease {
 public:
  Lease() noexcept;
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;
  ~Lease();

  operator Workspace&() { return *workspace_; }

 private:
  Workspace own_;
  Workspace* workspace_;
  std::atomic<bool>* taken_;
};

// Frees all memory that is kept and not in use; returns how many bytes.
size_t release_workspaces() noexcept;

// The n-th piece of memory that is taken from now on is refused; 0: none. For tests.
void refuse_memory(int64_t n) noexcept;

}  // namespace densenets

// Teams of threads and their scratch memory.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <type_traits>

namespace densenets {
// Runs task(argument) on every thread of a team.
void run_team(int threads, void (*task)(void*), void* argument);
}  // namespace densenets

// In the namespace of the instruction set: a linker that met two copies of an inline function would keep
// one, perhaps the one that this machine can't run.
namespace DENSENETS_ISA {

// Calls work(part) once for each part of 0 ... parts - 1, in parallel. What a part does must not depend on
// the thread that does it, so results are the same however many threads really come.
template <class Work>
void for_each_part(int threads, int parts, Work&& work) {
  if (threads <= 1 || parts <= 1) {
    for (int part = 0; part < parts; part++) work(part);
    return;
  }
  struct Shared {
    Work& work;
    std::atomic<int> next;
    int parts;
  } shared{work, {0}, parts};
  densenets::run_team(
      threads < parts ? threads : parts,
      [](void* argument) {
        Shared& all = *static_cast<Shared*>(argument);
        for (int part; (part = all.next.fetch_add(1)) < all.parts;) all.work(part);
      },
      &shared);
}

// Where a part's share of `items` begins; part + 1 gives its end.
inline int64_t share(int64_t items, int64_t part, int64_t parts) { return items * part / parts; }

// Memory that grows when asked for more and is kept for the next call, because clearing its pages anew
// would cost more than the work that is done in them.
class Scratch {
 public:
  Scratch() = default;
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() { std::free(memory_); }

  // Places arrays one behind the other; what lay here before is lost. `layout(take)` calls take(pointer, count)
  // for each of them: once to add up their sizes, once to set the pointers.
  template <class Layout>
  void lay_out(Layout&& layout) {
    size_t size = 0;
    layout([&](auto*& array, int64_t count) { size += bytes(count * sizeof(*array)); });
    reserve(size);
    char* at = memory_;
    layout([&](auto*& array, int64_t count) {
      array = reinterpret_cast<std::remove_reference_t<decltype(array)>>(at);
      at += bytes(count * sizeof(*array));
    });
  }

 private:
  // Whole cache lines, and one that keeps arrays of even sizes from competing for the same sets.
  static size_t bytes(size_t size) { return (size + 63) / 64 * 64 + 64; }

  void reserve(size_t bytes) {
    if (bytes <= size_) return;
    std::free(memory_);
    memory_ = nullptr;
    size_ = 0;
    void* memory = nullptr;
    if (posix_memalign(&memory, 4096, bytes) != 0) throw std::bad_alloc();
    memory_ = static_cast<char*>(memory);
    size_ = bytes;
  }

  char* memory_ = nullptr;
  size_t size_ = 0;
};

}  // namespace DENSENETS_ISA

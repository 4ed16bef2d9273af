// Teams of threads, and where the arrays that they compute in lie.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "workspace.h"

namespace densenets {
// Runs task(argument) on every thread of a team; on fewer where the system has no more.
void run_team(int threads, void (*task)(void*), void* argument) noexcept;
}  // namespace densenets

// In the namespace of the instruction set: a linker that met two copies of an inline function would keep
// one, perhaps the one that this machine can't run.
namespace DENSENETS_ISA {

using densenets::Slices;
using densenets::Workspace;

// Calls work(part) once for each part of 0 ... parts - 1, in parallel. What a part does must not depend on
// the thread that does it, so results are the same however many threads really come. It takes no memory, and
// throws nothing: on its thread there is nobody to catch it.
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
      [](void* argument) noexcept {
        Shared& all = *static_cast<Shared*>(argument);
        for (int part; (part = all.next.fetch_add(1)) < all.parts;) all.work(part);
      },
      &shared);
}

// Where a part's share of `items` begins; part + 1 gives its end.
inline int64_t share(int64_t items, int64_t part, int64_t parts) { return items * part / parts; }

// The same of so many parts that the product would be too large a number.
inline int64_t share_of_many(int64_t items, int64_t part, int64_t parts) {
  return items / parts * part + items % parts * part / parts;
}

// Arrays one behind the other. `layout(take)` calls take(pointer, count) for each of them: once to add up their
// sizes, once to set the pointers.

// Whole cache lines, and one that keeps arrays of even sizes from competing for the same sets.
inline size_t array_bytes(size_t size) { return (size + 63) / 64 * 64 + 64; }

template <class Layout>
size_t layout_bytes(Layout&& layout) {
  size_t size = 0;
  layout([&](auto*& array, int64_t count) { size += array_bytes(count * sizeof(*array)); });
  return size;
}

template <class Layout>
void place(char* at, Layout&& layout) {
  layout([&](auto*& array, int64_t count) {
    array = reinterpret_cast<std::remove_reference_t<decltype(array)>>(at);
    at += array_bytes(count * sizeof(*array));
  });
}

// Places arrays of the whole call.
template <class Layout>
void lay_out(Workspace& workspace, Layout&& layout) {
  place(workspace.whole(layout_bytes(layout)), layout);
}

// Takes memory for the arrays of each part, which are placed when it runs.
template <class Layout>
Slices slices_for(Workspace& workspace, int parts, Layout&& layout) {
  return workspace.slices(parts, layout_bytes(layout));
}

}  // namespace DENSENETS_ISA

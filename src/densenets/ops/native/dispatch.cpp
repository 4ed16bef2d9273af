// The C interface: which instruction sets there are, and the way to their kernels.
#include "dispatch.h"

#if defined(__linux__)
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include <thread>
#include <vector>

#include "interface.h"

namespace densenets {

namespace {

using GompParallel = void (*)(void (*)(void*), void*, unsigned, unsigned);
GompParallel gomp_parallel = nullptr;

const Kernels* const kAll[] = {
    &portable_kernels,
#if defined(__x86_64__)
    &avx2_kernels,
    &avx512_kernels,
    &avx512_bf16_kernels,
    &amx_kernels,
#endif
};

#if defined(__x86_64__)
// Whether the processor has AMX for bfloat16, and the system lets this process use its large registers.
bool has_matrices() {
  constexpr unsigned tiles = 1u << 24, bfloat16 = 1u << 22;
  unsigned a, b, c, d;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d & tiles) || !(d & bfloat16)) return false;
#if defined(__linux__)
  constexpr long request_permission = 0x1023, tile_data = 18;  // of arch_prctl
  return syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
#else
  return false;
#endif
}
#endif

int count_supported() {
  int count = 1;
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return count;
  count++;
  if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
      !__builtin_cpu_supports("avx512vl") || !__builtin_cpu_supports("avx512dq")) {
    return count;
  }
  count++;
  if (!__builtin_cpu_supports("avx512bf16")) return count;
  count++;
  if (has_matrices()) count++;
#endif
  return count;
}

const DataTypeKernels& kernels(int32_t instruction_set, int32_t data_type) {
  return kAll[instruction_set]->of[data_type];
}

}  // namespace

void run_team(int threads, void (*task)(void*), void* argument);

void run_team(int threads, void (*task)(void*), void* argument) {
  if (gomp_parallel) {
    gomp_parallel(task, argument, static_cast<unsigned>(threads), 0);
    return;
  }
  std::vector<std::thread> others;
  for (int i = 1; i < threads; i++) others.emplace_back(task, argument);
  task(argument);
  for (std::thread& other : others) other.join();
}

}  // namespace densenets

extern "C" {

void densenets_use_runtime(void* gomp_parallel) {
  densenets::gomp_parallel = reinterpret_cast<densenets::GompParallel>(gomp_parallel);
}

int32_t densenets_instruction_sets() {
  static const int32_t count = densenets::count_supported();
  return count;
}

const char* densenets_instruction_set_name(int32_t index) { return densenets::kAll[index]->name; }

void densenets_expect(void* memory, int64_t bytes) {
#if defined(MADV_HUGEPAGE)
  constexpr uintptr_t page = 4096;
  constexpr int64_t enough = 4 << 20;
  if (bytes < enough) return;
  const uintptr_t begin = (reinterpret_cast<uintptr_t>(memory) + page - 1) / page * page;
  const uintptr_t end = (reinterpret_cast<uintptr_t>(memory) + bytes) / page * page;
  // A refusal costs speed alone.
  (void)madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#else
  (void)memory;
  (void)bytes;
#endif
}

void densenets_forward(int32_t instruction_set, const Unit* unit) {
  densenets::kernels(instruction_set, unit->data_type).forward(*unit);
}

void densenets_backward(int32_t instruction_set, const Unit* unit) {
  densenets::kernels(instruction_set, unit->data_type).backward(*unit);
}

void densenets_block_forward(int32_t instruction_set, const Block* block) {
  densenets::block_forward(densenets::kernels(instruction_set, block->data_type), *block);
}

void densenets_block_backward(int32_t instruction_set, const Block* block) {
  densenets::block_backward(densenets::kernels(instruction_set, block->data_type), *block);
}

void densenets_statistics(int32_t instruction_set, int32_t data_type, int32_t threads, const void* input,
                          int64_t pixels, int64_t channels, int64_t stride, void* mean, void* variance) {
  const Columns columns = {threads, const_cast<void*>(input), pixels, channels, stride, mean, variance};
  densenets::kernels(instruction_set, data_type).statistics(columns);
}

void densenets_complete(int32_t instruction_set, const Unit* unit, int64_t pixels, void* out, int64_t stride) {
  const Columns columns = {unit->threads, out, pixels, unit->out_channels, stride, nullptr, nullptr};
  densenets::kernels(instruction_set, unit->data_type).complete(*unit, columns);
}

void densenets_stem_forward(int32_t instruction_set, const Unit* unit, uint8_t* winners) {
  densenets::kernels(instruction_set, unit->data_type).stem_forward(*unit, winners);
}

void densenets_stem_backward(int32_t instruction_set, const Unit* unit, const uint8_t* winners) {
  densenets::kernels(instruction_set, unit->data_type).stem_backward(*unit, winners);
}

double densenets_peak(int32_t instruction_set, int32_t data_type, int32_t threads, double seconds) {
  return densenets::kernels(instruction_set, data_type).peak(threads, seconds);
}
}

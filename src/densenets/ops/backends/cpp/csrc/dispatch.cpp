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

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <exception>
#include <limits>
#include <new>
#include <thread>
#include <vector>

#include "checks.h"

namespace densenets {

namespace {

using GompParallel = void (*)(void (*)(void*), void*, unsigned, unsigned);
std::atomic<GompParallel> gomp_parallel{nullptr};

thread_local char failure[sizeof(BadArgument::reason)] = "";

#if defined(DENSENETS_AMX)
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

// The instruction sets that were built and that this machine runs; each needs those before it.
struct Supported {
  const Kernels* sets[5] = {&portable_kernels};
  int32_t count = 1;

  Supported() {
#if defined(__x86_64__)
    __builtin_cpu_init();
    [[maybe_unused]] const auto add = [&](const Kernels& kernels) { sets[count++] = &kernels; };
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return;
#if defined(DENSENETS_AVX2)
    add(avx2_kernels);
#endif
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
        !__builtin_cpu_supports("avx512vl") || !__builtin_cpu_supports("avx512dq")) {
      return;
    }
#if defined(DENSENETS_AVX512)
    add(avx512_kernels);
#endif
#if defined(DENSENETS_AVX512_BF16)
    if (!__builtin_cpu_supports("avx512bf16")) return;
    add(avx512_bf16_kernels);
#endif
#if defined(DENSENETS_AMX)
    if (__builtin_cpu_supports("avx512bf16") && has_matrices()) add(amx_kernels);
#endif
#endif
  }
};

const Supported& supported() {
  static const Supported found;
  return found;
}

// An instruction set that adds nothing to a data type has no kernels of its own for it, but those before it.
const DataTypeKernels& kernels(int32_t instruction_set, int32_t data_type) {
  if (instruction_set < 0 || instruction_set >= supported().count) {
    throw BadArgument{"instruction_set is none that this machine runs"};
  }
  check_data_type(data_type);
  const Kernels* const* set = supported().sets + instruction_set;
  while (!(*set)->of[data_type].forward) set--;
  return (*set)->of[data_type];
}

int32_t failed(Status status, const char* reason) {
  std::snprintf(failure, sizeof failure, "%s", reason);
  return status;
}

// Calls compute(workspace); what it throws becomes a status.
template <class Compute>
int32_t guarded(Compute&& compute) noexcept {
  try {
    Lease workspace;
    compute(static_cast<Workspace&>(workspace));
    return kDone;
  } catch (const BadArgument& bad) {
    return failed(kBadArgument, bad.reason);
  } catch (const std::bad_alloc&) {
    return kNoMemory;  // and no word of why, for which a thread may need memory again
  } catch (const std::exception& error) {
    return failed(kFailed, error.what());
  } catch (...) {
    return failed(kFailed, "unknown");
  }
}

// Sets an array of the accumulation type; null stays null.
void fill(void* array, int64_t count, double value, int32_t data_type) {
  if (!array) return;
  if (data_type == kFloat64) {
    std::fill_n(static_cast<double*>(array), count, value);
  } else {
    std::fill_n(static_cast<float*>(array), count, static_cast<float>(value));
  }
}

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();  // the mean of nothing

void fill_gradients(const Unit& unit, int64_t weights) {
  fill(unit.weight_gradient, weights, 0, unit.data_type);
  fill(unit.scale_gradient, unit.in_channels, 0, unit.data_type);
  fill(unit.shift_gradient, unit.in_channels, 0, unit.data_type);
}

}  // namespace

void run_team(int threads, void (*task)(void*), void* argument) noexcept {
  if (const GompParallel parallel = gomp_parallel.load(std::memory_order_relaxed)) {
    parallel(task, argument, static_cast<unsigned>(threads), 0);
    return;
  }
  std::vector<std::thread> others;
  try {
    others.reserve(static_cast<size_t>(threads) - 1);
    for (int i = 1; i < threads; i++) others.emplace_back(task, argument);
  } catch (const std::exception&) {
    // The system has no more threads, or no memory for them: those that there are do all the work.
  }
  task(argument);
  for (std::thread& other : others) other.join();
}

void unit_forward(const DataTypeKernels& kernels, const Unit& unit, Workspace& workspace) {
  check_forward(unit);
  if (pixels_of(unit) > 0) return kernels.forward(unit, workspace);
  fill(unit.output_mean, unit.out_channels, kNone, unit.data_type);
  fill(unit.output_variance, unit.out_channels, kNone, unit.data_type);
}

void unit_backward(const DataTypeKernels& kernels, const Unit& unit, Workspace& workspace) {
  check_backward(unit);
  if (pixels_of(unit) > 0) return kernels.backward(unit, workspace);
  fill_gradients(unit, unit.in_channels * unit.out_channels * unit.taps[0] * unit.taps[1] * unit.taps[2]);
}

}  // namespace densenets

using namespace densenets;

extern "C" {

const char* densenets_failure() noexcept { return failure; }

int64_t densenets_release_memory() noexcept { return static_cast<int64_t>(release_workspaces()); }

void densenets_refuse_memory(int64_t n) noexcept { refuse_memory(n); }

void densenets_use_runtime(void* runtime) noexcept { gomp_parallel = reinterpret_cast<GompParallel>(runtime); }

int32_t densenets_instruction_sets() noexcept { return supported().count; }

const char* densenets_instruction_set_name(int32_t index) noexcept {
  return index >= 0 && index < supported().count ? supported().sets[index]->name : nullptr;
}

void densenets_advise_huge_pages(void* memory, int64_t bytes) noexcept {
#if defined(MADV_HUGEPAGE)
  constexpr uintptr_t page = 4096;
  constexpr int64_t enough = 4 << 20;
  if (!memory || bytes < enough) return;
  const uintptr_t begin = (reinterpret_cast<uintptr_t>(memory) + page - 1) / page * page;
  const uintptr_t end = (reinterpret_cast<uintptr_t>(memory) + bytes) / page * page;
  // A refusal costs speed alone.
  (void)madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#else
  (void)memory;
  (void)bytes;
#endif
}

int32_t densenets_forward(int32_t instruction_set, const Unit* unit) noexcept {
  return guarded(
      [&](Workspace& workspace) { unit_forward(kernels(instruction_set, unit->data_type), *unit, workspace); });
}

int32_t densenets_backward(int32_t instruction_set, const Unit* unit) noexcept {
  return guarded(
      [&](Workspace& workspace) { unit_backward(kernels(instruction_set, unit->data_type), *unit, workspace); });
}

int32_t densenets_block_forward(int32_t instruction_set, const Block* block) noexcept {
  return guarded(
      [&](Workspace& workspace) { block_forward(kernels(instruction_set, block->data_type), *block, workspace); });
}

int32_t densenets_block_backward(int32_t instruction_set, const Block* block) noexcept {
  return guarded(
      [&](Workspace& workspace) { block_backward(kernels(instruction_set, block->data_type), *block, workspace); });
}

int32_t densenets_statistics(int32_t instruction_set, int32_t data_type, int32_t threads, const void* input,
                             int64_t pixels, int64_t channels, int64_t stride, void* mean, void* variance) noexcept {
  return guarded([&](Workspace& workspace) {
    const DataTypeKernels& chosen = kernels(instruction_set, data_type);
    const Columns columns = {threads, const_cast<void*>(input), pixels, channels, stride, mean, variance};
    check_statistics(columns);
    if (pixels > 0) return chosen.statistics(columns, workspace);
    fill(mean, channels, kNone, data_type);
    fill(variance, channels, kNone, data_type);
  });
}

int32_t densenets_apply_correction(int32_t instruction_set, const Unit* unit, int64_t pixels, void* out,
                                   int64_t stride) noexcept {
  return guarded([&](Workspace& workspace) {
    const DataTypeKernels& chosen = kernels(instruction_set, unit->data_type);
    const Columns columns = {unit->threads, out, pixels, unit->out_channels, stride, nullptr, nullptr};
    check_complete(*unit, columns);
    if (pixels > 0) chosen.correct(*unit, columns, workspace);
  });
}

int32_t densenets_stem_forward(int32_t instruction_set, const Unit* unit, uint8_t* winners) noexcept {
  return guarded([&](Workspace& workspace) {
    const DataTypeKernels& chosen = kernels(instruction_set, unit->data_type);
    check_stem_forward(*unit, winners);
    if (pixels_of(*unit) > 0) chosen.stem_forward(*unit, winners, workspace);
  });
}

int32_t densenets_stem_backward(int32_t instruction_set, const Unit* unit, const uint8_t* winners) noexcept {
  return guarded([&](Workspace& workspace) {
    const DataTypeKernels& chosen = kernels(instruction_set, unit->data_type);
    check_stem_backward(*unit, winners);
    if (pixels_of(*unit) > 0) return chosen.stem_backward(*unit, winners, workspace);
    fill_gradients(*unit, 0);
  });
}

int32_t densenets_peak(int32_t instruction_set, int32_t data_type, int32_t threads, double seconds,
                       double* rate) noexcept {
  return guarded([&](Workspace& workspace) {
    const DataTypeKernels& chosen = kernels(instruction_set, data_type);
    check_threads(threads);
    if (!rate || !std::isfinite(seconds)) throw BadArgument{"seconds or rate is missing"};
    *rate = chosen.peak(threads, seconds, workspace);
  });
}
}

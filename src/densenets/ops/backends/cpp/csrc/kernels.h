// What one instruction set offers. Each `kernels_*.cpp` includes this file inside its own namespace, compiled
// with its own flags.
#pragma once

#include <chrono>

#include "backward.h"
#include "dispatch.h"
#include "stem.h"
#include "winograd_backward.h"
#include "winograd_forward.h"

namespace DENSENETS_ISA {

template <class K>
void forward_of(const Unit& unit, Workspace& workspace) {
  if constexpr (!K::in_matrices) {
    if (has_tiles(unit)) return ForwardInTiles<K>(unit).run(workspace);
  }
  unit.pool ? Forward<K, true>(unit).run(workspace) : Forward<K, false>(unit).run(workspace);
}

template <class K>
void backward_of(const Unit& unit, Workspace& workspace) {
  if constexpr (!K::in_matrices) {
    if (has_tiles(unit)) return BackwardInTiles<K>(unit).run(workspace);
  }
  unit.pool ? Backward<K, true>(unit).run(workspace) : Backward<K, false>(unit).run(workspace);
}

template <class K>
void statistics_of(const Columns& in, Workspace& workspace) {
  using Real = typename K::Real;
  constexpr int64_t rows = 64;
  const int64_t tiles = divide_up(in.rows, rows);
  const int parts = static_cast<int>(std::min<int64_t>(in.threads, tiles));
  double* moments;
  lay_out(workspace, [&](auto&& take) { take(moments, parts * Moments::size(in.channels)); });
  for_each_part(in.threads, parts, [&](int part) {
    Moments part_moments(moments + part * Moments::size(in.channels), in.channels);
    part_moments.clear(in.channels);
    for (int64_t i = share(tiles, part, parts); i < share(tiles, part + 1, parts); i++) {
      const int64_t first = share_of_many(in.rows, i, tiles);
      const int64_t count = share_of_many(in.rows, i + 1, tiles) - first;
      const auto* tile = static_cast<const typename K::Stored*>(in.data) + first * in.stride;
      for (int64_t c = 0; c < in.channels; c += kLanes<Real>) {
        const int64_t left = in.channels - c;
        Vector<Real> pivot{}, sum{}, squared{};
        for (int64_t r = 0; r < count; r++) pivot += load_first(tile + r * in.stride + c, left);
        pivot /= broadcast(static_cast<Real>(count));
        for (int64_t r = 0; r < count; r++) {
          const Vector<Real> distance = load_first(tile + r * in.stride + c, left) - pivot;
          sum += distance;
          squared += distance * distance;
        }
        part_moments.add_sums<Real>(c, in.channels, count, pivot, sum, squared);
      }
      *part_moments.count += static_cast<double>(count);
    }
  });
  Moments::finish(moments, parts, in.channels, static_cast<Real*>(in.mean), static_cast<Real*>(in.variance));
}

template <class K>
void correct_of(const Unit& unit, const Columns& out, Workspace& workspace) {
  using Real = typename K::Real;
  Real* coefficients;
  lay_out(workspace, [&](auto&& take) { take(coefficients, BatchNormGradCorrection<K>::size(unit.out_channels)); });
  const BatchNormGradCorrection<K> correct(unit, coefficients);
  for_each_part(unit.threads, unit.threads, [&](int part) {
    for (int64_t row = share(out.rows, part, unit.threads); row < share(out.rows, part + 1, unit.threads); row++) {
      auto* result = static_cast<typename K::Stored*>(out.data) + row * out.stride;
      for (int64_t c = 0; c < unit.out_channels; c += kLanes<Real>) {
        store_first(result + c, correct(unit, row, c), unit.out_channels - c);
      }
    }
  });
}

// The inner loop alone, on operands that stay in the first-level cache.
template <class K>
double peak_of(int threads, double seconds, Workspace& workspace) {
  using Real = typename K::Real;
  constexpr int vectors = K::in_matrices ? 2 : std::min(kMaxVectors, 3);
  constexpr int rows = K::in_matrices ? 2 * kMatrixSide : kMaxRows<vectors>;
  constexpr int segment_length = K::in_matrices ? kBlock<K> : 64, segment_count = K::in_matrices ? 8 : 1;
  constexpr int length = segment_length * segment_count;
  double* rates;
  lay_out(workspace, [&](auto&& take) { take(rates, threads); });
  for_each_part(threads, threads, [&](int part) {
    alignas(64) typename K::Packed blocks[(rows + 1) * kBlock<K> + segment_length] = {};
    alignas(64) Real columns[length * vectors * kLanes<Real>] = {}, out[rows * vectors * kLanes<Real>];
    Segment segments[segment_count];
    for (Segment& segment : segments) segment = {0, segment_length};
    const auto products = products_of<K>(vectors, rows);
    const auto begin = std::chrono::steady_clock::now();
    double passed = 0;
    int64_t calls = 0;
    while (passed < seconds) {
      for (int i = 0; i < 1000; i++) {
        asm volatile("" ::"r"(blocks), "r"(columns), "r"(out) : "memory");  // may change at any time
        products(blocks, segments, segment_count, columns, out, vectors * kLanes<Real>);
      }
      calls += 1000;
      passed = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    }
    release_registers<K>();
    rates[part] = 2.0 * K::pair * rows * vectors * kLanes<Real> * length * static_cast<double>(calls) / passed;
  });
  double sum = 0;
  for (int part = 0; part < threads; part++) sum += rates[part];
  return sum;
}

template <class K>
constexpr densenets::DataTypeKernels kernels_of() {
  return {forward_of<K>,   backward_of<K>,   statistics_of<K>, correct_of<K>,
          stem_forward<K>, stem_backward<K>, peak_of<K>};
}

#if defined(DENSENETS_MATRICES)
using FastBFloat16 = BFloat16Matrices;
#elif defined(__AVX512BF16__)
using FastBFloat16 = BFloat16Pairs;
#else
using FastBFloat16 = BFloat16;
#endif

// What AVX-512 has for bfloat16 changes nothing in float32 and float64: their code is compiled once.
constexpr densenets::Kernels kernels(const char* name) {
#if defined(__AVX512BF16__)
  return {name, {{}, {}, kernels_of<FastBFloat16>()}};
#else
  return {name, {kernels_of<Float32>(), kernels_of<Float64>(), kernels_of<FastBFloat16>()}};
#endif
}

}  // namespace DENSENETS_ISA

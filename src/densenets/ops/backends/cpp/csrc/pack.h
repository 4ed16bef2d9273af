// Operands on their way into the blocks that the inner loops read.
#pragma once

#include "geometry.h"
#include "product.h"

namespace DENSENETS_ISA {

constexpr int64_t round_up(int64_t value, int64_t step) { return (value + step - 1) / step * step; }
constexpr int64_t divide_up(int64_t value, int64_t step) { return (value + step - 1) / step; }

// Elements of a dimension that share a block when it is summed over: 16 floats, 8 doubles, 32 bfloat16.
template <class K>
constexpr int64_t kElements = static_cast<int64_t>(kBlock<K>) * K::pair;

// Per-channel coefficients are kept to this many lanes, zeros at the end.
constexpr int64_t kChannelStep = 32;

// Columns of an output in groups of vectors that the inner loops hold together.
struct Groups {
  int64_t vectors;  // altogether
  int most;         // in a group

  int64_t count() const { return divide_up(vectors, most); }
  int64_t first(int64_t group) const { return vectors * group / count(); }
  int size(int64_t group) const { return static_cast<int>(first(group + 1) - first(group)); }
};

template <class Real>
Groups groups_of(int64_t columns, int most) {
  return {divide_up(columns, kLanes<Real>), most};
}

#if defined(__AVX512F__)
// 16 vectors as the rows of a matrix: rows become columns.
DENSENETS_INLINE void transpose(__m512i (&rows)[16]) {
  __m512i pairs[16], quads[16];
#pragma GCC unroll 8
  for (int i = 0; i < 8; i++) {
    pairs[2 * i] = _mm512_unpacklo_epi32(rows[2 * i], rows[2 * i + 1]);
    pairs[2 * i + 1] = _mm512_unpackhi_epi32(rows[2 * i], rows[2 * i + 1]);
  }
  // quads[4 g + j]: of each 128 bits the column j, from four rows of the group g.
#pragma GCC unroll 4
  for (int g = 0; g < 4; g++) {
    quads[4 * g] = _mm512_unpacklo_epi64(pairs[4 * g], pairs[4 * g + 2]);
    quads[4 * g + 1] = _mm512_unpackhi_epi64(pairs[4 * g], pairs[4 * g + 2]);
    quads[4 * g + 2] = _mm512_unpacklo_epi64(pairs[4 * g + 1], pairs[4 * g + 3]);
    quads[4 * g + 3] = _mm512_unpackhi_epi64(pairs[4 * g + 1], pairs[4 * g + 3]);
  }
#pragma GCC unroll 4
  for (int j = 0; j < 4; j++) {
    const __m512i low = _mm512_shuffle_i32x4(quads[j], quads[4 + j], 0x88);
    const __m512i low_odd = _mm512_shuffle_i32x4(quads[j], quads[4 + j], 0xdd);
    const __m512i high = _mm512_shuffle_i32x4(quads[8 + j], quads[12 + j], 0x88);
    const __m512i high_odd = _mm512_shuffle_i32x4(quads[8 + j], quads[12 + j], 0xdd);
    rows[j] = _mm512_shuffle_i32x4(low, high, 0x88);
    rows[4 + j] = _mm512_shuffle_i32x4(low_odd, high_odd, 0x88);
    rows[8 + j] = _mm512_shuffle_i32x4(low, high, 0xdd);
    rows[12 + j] = _mm512_shuffle_i32x4(low_odd, high_odd, 0xdd);
  }
}
#endif

#if defined(__AVX512BF16__)
// 32 bfloat16: the elements of `low`, then those of `high`.
DENSENETS_INLINE __m512i both(Vector<float> low, Vector<float> high) {
  return (__m512i)_mm512_cvtne2ps_pbh((__m512)high, (__m512)low);
}

// 16 pairs: element i of the lower half beside element i of the upper half.
DENSENETS_INLINE __m512i zip_halves(__m512i halves) {
  const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21,
                                         5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  return _mm512_permutexvar_epi16(order, halves);
}
#endif

// Writes `value(first channel)` for all vectors of a pixel into its blocks, to be summed over channels.
template <class K, class Value>
DENSENETS_INLINE void pack_pixel(typename K::Packed* block, int64_t block_step, int64_t channels, Value&& value) {
  using Real = typename K::Real;
  constexpr int64_t lanes = kLanes<Real>;
  for (int64_t first = 0; first < channels; first += kElements<K>, block += block_step) {
#if defined(__AVX512BF16__)
    if constexpr (K::pair == 2) {
      const Vector<float> low = value(first);
      const Vector<float> high = first + lanes < channels ? value(first + lanes) : Vector<float>{};
      _mm512_store_si512(block, both(low, high));
      continue;
    }
#endif
    if constexpr (K::pair == 1) {
      for (int64_t i = 0; i < kElements<K> && first + i < channels; i += lanes) store(block + i, value(first + i));
    }
  }
}

// The parts of a sum over all taps and all blocks of `channels`.
template <class K>
int64_t segments_of(const Geometry& geometry, const Box& box, int64_t channels, int64_t block_step, bool mirrored,
                    Segment* segments) {
  Segment* segment = segments;
  for (int tap = 0; tap < geometry.tap_count(); tap++) {
    const int64_t start = geometry.tap_offset(box, tap, mirrored) * kBlock<K>;
    for (int64_t first = 0; first < channels; first += kElements<K>, segment++) {
      segment->offset = start + first / kElements<K> * block_step;
      segment->length = round_up(divide_up(std::min(kElements<K>, channels - first), K::pair), kSumStep<K>);
    }
  }
  return segment - segments;
}

// A weight, M x C x taps, as the columns of a product that sums over one of the two and the taps.
struct WeightView {
  int64_t taps;
  int64_t summed;  // channels
  int64_t columns;
  int64_t summed_step;  // elements of the weight
  int64_t column_step;
};

inline WeightView forward_view(const Unit& unit, int64_t taps) {
  return {taps, unit.in_channels, unit.out_channels, taps, unit.in_channels * taps};
}

inline WeightView backward_view(const Unit& unit, int64_t taps) {
  return {taps, unit.out_channels, unit.in_channels, unit.in_channels * taps, taps};
}

// Broadcasts of a tap's sum.
template <class K>
int64_t sums_of_tap(const WeightView& view) {
  return round_up(divide_up(view.summed, K::pair), kSumStep<K>);
}

template <class K>
int64_t sums_of(const WeightView& view) {
  return view.taps * sums_of_tap<K>(view);
}

// Elements of Real that the packed weight takes.
template <class K>
int64_t packed_weight_size(const WeightView& view) {
  return sums_of<K>(view) * round_up(view.columns, kLanes<typename K::Real>);
}

// A few elements of a sum for a vector of columns, one behind the other: the way there is through a piece of memory,
// for in a weight it is the sums or the columns that lie side by side.
template <class Real>
struct WeightPiece {
  static constexpr int64_t lanes = kLanes<Real>, most = 16;
  alignas(64) Real values[most][lanes];

  // From element 0 of `at`; the columns that are not there are zeros.
  void gather(const Real* at, int64_t elements, int64_t step, int64_t columns, int64_t column_step) {
    for (int64_t lane = columns; lane < lanes; lane++) {
      for (int64_t i = 0; i < elements; i++) values[i][lane] = 0;
    }
    if (column_step == 1) {
      for (int64_t i = 0; i < elements; i++) store(values[i], load_first(at + i * step, columns));
      return;
    }
#if defined(__AVX512F__)
    if constexpr (lanes == most) {
      if (step == 1 && columns >= lanes && elements > 0) return transpose_columns(at, elements, column_step);
    }
#endif
    for (int64_t lane = 0; lane < std::min(lanes, columns); lane++) {
      for (int64_t i = 0; i < elements; i++) values[i][lane] = at[lane * column_step + i * step];
    }
  }

#if defined(__AVX512F__)
 private:
  // All lanes, of elements that lie side by side.
  void transpose_columns(const Real* at, int64_t elements, int64_t column_step) {
    __m512i columns[lanes];
    for (int64_t lane = 0; lane < lanes; lane++) columns[lane] = (__m512i)load_first(at + lane * column_step, elements);
    transpose(columns);
    for (int64_t i = 0; i < elements; i++) store(values[i], (Vector<Real>)columns[i]);
  }
#endif
};

// Packs the sums [begin, end) of every group of columns.
template <class K>
void pack_weight(const WeightView& view, const Groups& groups, const typename K::Real* weight, int64_t begin,
                 int64_t end, typename K::Real* packed) {
  using Real = typename K::Real;
  constexpr int64_t lanes = kLanes<Real>;
  const int64_t per_tap = sums_of_tap<K>(view);
  WeightPiece<Real> piece;
  for (int64_t g = 0; g < groups.count(); g++) {
    const int64_t first = groups.first(g) * lanes, width = groups.size(g) * lanes;
    for (int64_t column = first; column < first + width; column += lanes) {
      for (int64_t sum = begin, next; sum < end; sum = next) {
        const int64_t tap = sum / per_tap, element = sum % per_tap * K::pair;
        next = std::min({end, (tap + 1) * per_tap, sum + piece.most / K::pair});
        const int64_t wanted = (next - sum) * K::pair;
        const int64_t elements = std::clamp<int64_t>(view.summed - element, 0, wanted);
        piece.gather(weight + tap + element * view.summed_step + column * view.column_step, elements, view.summed_step,
                     view.columns - column, view.column_step);
        Real* out = packed + first * sums_of<K>(view) + sum * width + column - first;
        if constexpr (K::pair == 1) {
          for (int64_t i = 0; i < elements; i++) store(out + i * width, load(piece.values[i]));
        }
#if defined(__AVX512BF16__)
        if constexpr (K::pair == 2) {
          std::fill_n(piece.values[elements], (wanted - elements) * lanes, 0.f);
          for (int64_t i = 0; i < next - sum; i++) {
            const __m512i halves = both(load(piece.values[2 * i]), load(piece.values[2 * i + 1]));
            _mm512_storeu_si512(out + i * width, zip_halves(halves));
          }
        }
#endif
      }
    }
  }
}

// Scale and shift that make a batch normalisation one multiply-add.
template <class Real>
struct Affine {
  Real* scale;
  Real* shift;
  Real* mean;

  static int64_t size(int64_t channels) { return 3 * round_up(channels, kChannelStep); }

  Affine(const Unit& unit, Real* memory) {
    const int64_t channels = unit.in_channels, padded = round_up(channels, kChannelStep);
    scale = memory;
    shift = scale + padded;
    mean = shift + padded;
    std::fill(memory, memory + size(channels), Real(0));
    const auto *means = static_cast<const Real*>(unit.mean), *variances = static_cast<const Real*>(unit.variance);
    const auto *gammas = static_cast<const Real*>(unit.scale), *betas = static_cast<const Real*>(unit.shift);
    // In vectors, for square roots and quotients take long one by one.
    Real* __restrict scales = scale;
    Real* __restrict shifts = shift;
    for (int64_t c = 0; c < channels; c++) {
      const double factor = gammas[c] / __builtin_sqrt(variances[c] + unit.epsilon);
      scales[c] = static_cast<Real>(factor);
      shifts[c] = static_cast<Real>(betas[c] - means[c] * factor);
    }
    std::copy_n(means, channels, mean);
  }
};

}  // namespace DENSENETS_ISA

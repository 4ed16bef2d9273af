// Gradients of a box's activations on their way through BN-ReLU to the input, which is normalised again for it.
#pragma once

#include "forward.h"

namespace DENSENETS_ISA {

// A group of columns of the input: their coefficients, and their sums over the pixels of a box.
template <class K, int vectors>
struct InputColumns {
  using Real = typename K::Real;
  static constexpr int lanes = kLanes<Real>;
  Vector<Real> scale[vectors], shift[vectors], mean[vectors], shift_sum[vectors] = {}, scale_sum[vectors] = {};

  InputColumns(const Affine<Real>& affine, int64_t first) {
    for (int v = 0; v < vectors; v++) {
      scale[v] = load(affine.scale + first + v * lanes);
      shift[v] = load(affine.shift + first + v * lanes);
      mean[v] = load(affine.mean + first + v * lanes);
    }
  }

  // Takes the gradient of a pixel's activation, hands on that of the input; returns the activation. Where
  // the last vector is not `whole`, `left` columns are.
  template <bool whole, bool accumulate>
  DENSENETS_INLINE Vector<Real> pixel(int v, const typename K::Stored* inputs, typename K::Stored* handed_on,
                                      int64_t left, Vector<Real> gradient) {
    const int64_t count = whole || v + 1 < vectors ? lanes : left - v * lanes;
    const Vector<Real> input = load_first(inputs + v * lanes, count);
    const Vector<Real> normalised = input * scale[v] + shift[v];
    const Vector<Real> masked = normalised <= 0 ? Vector<Real>{} : gradient;
    shift_sum[v] += masked;
    scale_sum[v] += masked * (input - mean[v]);
    Vector<Real> sum = masked * scale[v];
    if constexpr (accumulate) sum += load_first(handed_on + v * lanes, count);
    store_first(handed_on + v * lanes, sum, count);
    return relu<Real>(normalised);
  }

  void add_sums(int64_t first, int64_t channels, double* shift_sums, double* scale_sums) const {
    for (int v = 0; v < vectors; v++) {
      for (int64_t i = 0; i < lanes && first + v * lanes + i < channels; i++) {
        shift_sums[first + v * lanes + i] += shift_sum[v][i];
        scale_sums[first + v * lanes + i] += scale_sum[v][i];
      }
    }
  }
};

// Broadcasts of a line of pixels in a sum over them.
template <class K>
int64_t pixel_steps(int64_t width) {
  return round_up(divide_up(width, K::pair), kSumStep<K>);
}

// What a box hands to its input.
template <class K>
struct InputPass {
  const Unit& unit;
  const Affine<typename K::Real>& affine;
  const int64_t* inputs;  // rows of the input: `sources` for each pixel
  int sources;
  Box box;
  const typename K::Real* tile;  // gradients of the activations, pixel by pixel
  int64_t tile_stride;
  typename K::Packed* activations;  // to be written, for the weight's gradient
  int64_t block_step;
  double* shift_sums;
  double* scale_sums;
};

// The gradients of a group of columns go through BN-ReLU to the input; the activations into blocks: pixel by
// pixel, or pair by pair of a line for products of pairs, with zeros behind what a matrix needs more.
template <class K, int vectors, bool pooled, bool whole, bool accumulate>
void pass_to_input(const InputPass<K>& pass, int64_t first) {
  using Real = typename K::Real;
  constexpr int lanes = kLanes<Real>;
  const Unit& unit = pass.unit;
  const auto* input = static_cast<const typename K::Stored*>(unit.input) + first;
  auto* input_gradient = static_cast<typename K::Stored*>(unit.input_gradient) + first;
  const int64_t left = unit.in_channels - first, width = pass.box.size[2];
  const int64_t lines = pass.box.size[0] * pass.box.size[1], phase = first % kBlock<K>;
  const Real part = Real(1) / static_cast<Real>(pass.sources);
  InputColumns<K, vectors> columns(pass.affine, first);
  const auto activation = [&](int64_t pixel, int v) {
    const Vector<Real> gradient = load(pass.tile + pixel * pass.tile_stride + v * lanes);
    const int64_t* rows = pass.inputs + pixel * (pooled ? pass.sources : 1);
    if constexpr (!pooled) {
      return columns.template pixel<whole, accumulate>(
          v, input + *rows * unit.input_stride, input_gradient + *rows * unit.input_gradient_stride, left, gradient);
    } else {
      Vector<Real> sum{};
      for (int i = 0; i < pass.sources; i++) {
        sum += columns.template pixel<whole, accumulate>(v, input + rows[i] * unit.input_stride,
                                                         input_gradient + rows[i] * unit.input_gradient_stride, left,
                                                         gradient * part);
      }
      return sum * part;
    }
  };
  const auto place = [&](int v) {
    return (phase + v * lanes) / kBlock<K> * pass.block_step + (phase + v * lanes) % kBlock<K>;
  };
  typename K::Packed* out = pass.activations;
  if constexpr (K::pair == 1) {
    for (int64_t pixel = 0; pixel < lines * width; pixel++, out += kBlock<K>) {
#pragma GCC unroll 4
      for (int v = 0; v < vectors; v++) store(out + place(v), activation(pixel, v));
    }
  }
#if defined(__AVX512BF16__)
  if constexpr (K::pair == 2) {
    for (int64_t line = 0; line < lines; line++) {
      for (int64_t w = 0; w < width; w += 2, out += kBlock<K>) {
        const int64_t pixel = line * width + w;
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) {
          const Vector<Real> one = activation(pixel, v);
          const Vector<Real> other = w + 1 < width ? activation(pixel + 1, v) : Vector<Real>{};
          _mm512_store_si512(out + place(v), zip_halves(both(one, other)));
        }
      }
      for (int64_t i = divide_up(width, 2); i < pixel_steps<K>(width); i++, out += kBlock<K>) {
        for (int v = 0; v < vectors; v++) _mm512_store_si512(out + place(v), _mm512_setzero_si512());
      }
    }
  }
#endif
  columns.add_sums(first, unit.in_channels, pass.shift_sums, pass.scale_sums);
}

template <class K, int vectors, bool pooled>
void pass_group_of(const InputPass<K>& pass, int64_t first) {
  const bool whole = first + vectors * kLanes<typename K::Real> <= pass.unit.in_channels;
  if (pass.unit.accumulate) {
    whole ? pass_to_input<K, vectors, pooled, true, true>(pass, first)
          : pass_to_input<K, vectors, pooled, false, true>(pass, first);
  } else {
    whole ? pass_to_input<K, vectors, pooled, true, false>(pass, first)
          : pass_to_input<K, vectors, pooled, false, false>(pass, first);
  }
}

template <class K, bool pooled>
void pass_group(const InputPass<K>& pass, int64_t first, int vectors) {
  switch (vectors) {
    case 1: return pass_group_of<K, 1, pooled>(pass, first);
    case 2: return pass_group_of<K, 2, pooled>(pass, first);
    case 3: return pass_group_of<K, 3, pooled>(pass, first);
    default: return pass_group_of<K, kMaxVectors, pooled>(pass, first);
  }
}

}  // namespace DENSENETS_ISA

// A unit backward: the gradient of its result is corrected on the way in; BN-ReLU of the input is made
// again, box by box, in the cache.
#pragma once

#include "input_pass.h"

namespace DENSENETS_ISA {

// Corrects the gradient of a result: gradient + result * slope + offset, and dropout's mask.
template <class K>
struct BatchNormGradCorrection {
  using Real = typename K::Real;
  Real* slope;
  Real* offset;

  static size_t size(int64_t channels) { return 2 * round_up(channels, kChannelStep); }

  BatchNormGradCorrection(const Unit& unit, Real* memory)
      : slope(memory), offset(memory + round_up(unit.out_channels, kChannelStep)) {
    std::fill(memory, memory + size(unit.out_channels), Real(0));
    if (!unit.result) return;
    for (int64_t c = 0; c < unit.out_channels; c++) {
      const double mean = static_cast<const Real*>(unit.result_mean)[c];
      const double first = static_cast<const Real*>(unit.result_sum_1)[c];
      const double second = static_cast<const Real*>(unit.result_sum_2)[c];
      slope[c] = static_cast<Real>(-second / unit.result_count);
      offset[c] = static_cast<Real>((mean * second - first) / unit.result_count);
    }
  }

  DENSENETS_INLINE Vector<Real> operator()(const Unit& unit, int64_t row, int64_t c) const {
    const int64_t left = unit.out_channels - c;
    const auto* gradients =
        static_cast<const typename K::Stored*>(unit.output_gradient) + row * unit.output_gradient_stride;
    Vector<Real> gradient = load_first(gradients + c, left);
    if (unit.result) {
      const auto* results = static_cast<const typename K::Stored*>(unit.result) + row * unit.result_stride;
      gradient += load_first(results + c, left) * load(slope + c) + load(offset + c);
    }
    if (unit.dropout_mask) {
      const uint8_t* mask = unit.dropout_mask + row * unit.out_channels + c;
      for (int64_t i = 0; i < kLanes<Real> && i < left; i++) {
        gradient[i] = mask[i] ? gradient[i] * static_cast<Real>(unit.dropout_scale) : 0;
      }
    }
    return gradient;
  }
};

template <class K>
void pack_gradient(const Unit& unit, const BatchNormGradCorrection<K>& correct, const int64_t* rows, int64_t pixels,
                   typename K::Packed* blocks, int64_t block_step) {
  using Real = typename K::Real;
  for (int64_t pixel = 0; pixel < pixels; pixel++, blocks += kBlock<K>) {
    const int64_t row = rows[pixel];
    if (row == kOutside) {
      pack_pixel<K>(blocks, block_step, unit.out_channels, [](int64_t) { return Vector<Real>{}; });
    } else {
      pack_pixel<K>(blocks, block_step, unit.out_channels, [&](int64_t c) { return correct(unit, row, c); });
    }
  }
}

// From pairs of channels to pairs of neighbouring pixels: 16 channels a block, a pair begins at every pixel.
// `channel_pairs` have room for one more pixel behind the last.
inline void pair_pixels([[maybe_unused]] uint32_t* channel_pairs, [[maybe_unused]] int64_t block_step,
                        [[maybe_unused]] int64_t channels, [[maybe_unused]] int64_t pixels,
                        [[maybe_unused]] uint32_t* pixel_pairs) {
#if defined(__AVX512BF16__)
  for (int64_t first = 0; first < channels; first += 32, channel_pairs += block_step) {
    std::fill_n(channel_pairs + pixels * 16, 16, 0u);
    for (int64_t half = 0; half < 2 && first + half * 16 < channels; half++, pixel_pairs += pixels * 16) {
      for (int64_t pixel = 0; pixel < pixels; pixel++) {
        const uint32_t* at = channel_pairs + pixel * 16 + half * 8;
        const __m256i here = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at));
        const __m256i next = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at + 16));
        const __m512i halves = _mm512_inserti64x4(_mm512_castsi256_si512(here), next, 1);
        _mm512_store_si512(pixel_pairs + pixel * 16, zip_halves(halves));
      }
    }
  }
#endif
}

// sums[tap][m][c] += the weight's gradient from a box, for a group of columns.
template <class K, class Between>
void add_weight_gradient(const Unit& unit, const Geometry& geometry, const Box& box, int64_t first_vector, int vectors,
                         const typename K::Packed* gradients, const typename K::Packed* activations,
                         typename K::Real* sums, int64_t sums_stride, Between&& between) {
  const int64_t halo_height = geometry.halo(box.size, 1), halo_width = geometry.halo(box.size, 2);
  const int64_t gradient_block = geometry.halo_pixels(box) * kBlock<K>;
  const int64_t steps = pixel_steps<K>(box.size[2]);
  const int64_t activation_block = box.size[0] * box.size[1] * steps * kBlock<K>;
  const Runs runs = {box.size[1], steps, halo_width * kBlock<K>, steps * kBlock<K>, K::pair * kBlock<K>};
  for (int tap = 0; tap < geometry.tap_count(); tap++) {
    const int64_t offset = geometry.tap_offset(box, tap, true);
    for (int64_t block = 0; block < unit.out_channels; block += kBlock<K>) {
      const int64_t left = std::min<int64_t>(kBlock<K>, unit.out_channels - block);
      const int64_t pieces = divide_up(left, max_rows(vectors));
      for (int64_t piece = 0; piece < pieces; piece++) {
        const int64_t first = share(left, piece, pieces);
        const int rows = static_cast<int>(share(left, piece + 1, pieces) - first);
        const AddProducts<K> add_products = add_products_of<K>(vectors, rows);
        for (int64_t d = 0; d < box.size[0]; d++) {
          const auto* from = gradients + block / kBlock<K> * gradient_block + first +
                             (d * halo_height * halo_width + offset) * kBlock<K>;
          add_products(from, activations + d * box.size[1] * steps * kBlock<K>, activation_block, first_vector, runs,
                       sums + (tap * unit.out_channels + block + first) * sums_stride, sums_stride);
        }
        between(rows);
      }
    }
  }
}

// The same by matrices; `gradients` lie channel by channel, their pixels side by side.
template <class K, class Between>
void add_weight_gradient_in_matrices([[maybe_unused]] const Unit& unit, [[maybe_unused]] const Geometry& geometry,
                                     [[maybe_unused]] const Box& box, [[maybe_unused]] int vectors,
                                     [[maybe_unused]] const bfloat16* gradients,
                                     [[maybe_unused]] const typename K::Packed* activations,
                                     [[maybe_unused]] typename K::Real* sums, [[maybe_unused]] int64_t sums_stride,
                                     [[maybe_unused]] Between&& between) {
#if defined(DENSENETS_MATRICES)
  const int64_t halo_height = geometry.halo(box.size, 1), halo_width = geometry.halo(box.size, 2);
  const int64_t line = pixel_line(geometry.halo_pixels(box)), steps = pixel_steps<K>(box.size[2]);
  const int64_t activation_block = box.size[0] * box.size[1] * steps * kBlock<K>;
  const Runs runs = {box.size[1], steps, halo_width, steps * kBlock<K>, 0};
  for (int64_t first = 0; first < unit.out_channels; first += MatrixProducts::kMostRows) {
    const int rows = static_cast<int>(std::min<int64_t>(unit.out_channels - first, MatrixProducts::kMostRows));
    const MatrixProducts products(vectors, rows);
    for (int tap = 0; tap < geometry.tap_count(); tap++) {
      for (int64_t d = 0; d < box.size[0]; d++) {
        const int64_t pixel = d * halo_height * halo_width + geometry.tap_offset(box, tap, true);
        products.add(gradients + first * line + pixel, line * 2, activations + d * box.size[1] * steps * kBlock<K>,
                     activation_block, runs, sums + (tap * unit.out_channels + first) * sums_stride, sums_stride);
      }
      between(rows);
    }
  }
#endif
}

// What a unit's backward pass sums up, part by part.
template <class Real>
struct GradientSums {
  Real* weight;
  double* channels;  // shift's, then scale's
  int64_t weight_size;
  int64_t in_channels;

  Real* weight_of(int part) const { return weight + part * weight_size; }
  double* shift_of(int part) const { return channels + 2 * part * in_channels; }
  double* scale_of(int part) const { return shift_of(part) + in_channels; }

  void clear(int part) const {
    std::fill_n(weight_of(part), weight_size, Real(0));
    std::fill_n(shift_of(part), 2 * in_channels, 0.0);
  }
};

// Joins the weight's gradients of all parts, in the order of the parts.
template <class K>
void finish_weight(const Unit& unit, const GradientSums<typename K::Real>& sums, int64_t stride, int parts) {
  using Real = typename K::Real;
  const int64_t in = unit.in_channels, out = unit.out_channels, taps = tap_count(unit);
  for_each_part(unit.threads, unit.threads, [&](int share_of) {
    for (int64_t row = share(taps * out, share_of, unit.threads); row < share(taps * out, share_of + 1, unit.threads);
         row++) {
      Real* gradient = static_cast<Real*>(unit.weight_gradient) + row % out * in * taps + row / out;
      for (int64_t c = 0; c < in; c++) {
        Real sum = 0;
        for (int part = 0; part < parts; part++) sum += sums.weight_of(part)[row * stride + c];
        gradient[c * taps] = sum;
      }
    }
  });
}

// Joins what the parts have summed over the pixels of each channel, in the order of the parts.
template <class Real>
void finish_channels(const Unit& unit, const Affine<Real>& affine, const GradientSums<Real>& sums, int parts) {
  const int64_t in = unit.in_channels;
  for (int64_t c = 0; c < in; c++) {
    double shift = 0, scale = 0;
    for (int part = 0; part < parts; part++) {
      shift += sums.shift_of(part)[c];
      scale += sums.scale_of(part)[c];
    }
    const double inverse = 1 / __builtin_sqrt(static_cast<const Real*>(unit.variance)[c] + unit.epsilon);
    static_cast<Real*>(unit.shift_gradient)[c] = static_cast<Real>(shift);
    static_cast<Real*>(unit.scale_gradient)[c] = static_cast<Real>(scale * inverse);
    if (unit.sum_1) {
      static_cast<Real*>(unit.sum_1)[c] += static_cast<Real>(affine.scale[c] * shift);
      static_cast<Real*>(unit.sum_2)[c] += static_cast<Real>(affine.scale[c] * scale * inverse * inverse);
    }
  }
}

template <class K, bool pooled>
class Backward {
  using Real = typename K::Real;
  using Packed = typename K::Packed;
  static constexpr int64_t kGroupColumns = kMaxVectors * kLanes<Real>;
  static constexpr int64_t kGroupBlocks = divide_up(kGroupColumns, kBlock<K>) + 1;

 public:
  explicit Backward(const Unit& unit)
      : unit_(unit), in_(unit.in_channels), out_(unit.out_channels), taps_(tap_count(unit)),
        columns_(round_up(in_, kLanes<Real>)), sum_blocks_(divide_up(out_, kElements<K>)),
        pair_blocks_(K::pair == 2 ? divide_up(out_, kBlock<K>) : 0),
        geometry_(unit, kBoxBytes<K>, taps_ == 1 ? kLinePixels<K> : kBoxPixels,
                  [&](int64_t halo, int64_t own) {
                    return halo * (sum_blocks_ + pair_blocks_) * 64 +
                           own * (kGroupColumns * static_cast<int64_t>(sizeof(Real)) + kGroupBlocks * 64);
                  }),
        activation_block_(geometry_.largest()[0] * geometry_.largest()[1] * pixel_steps<K>(geometry_.largest()[2]) *
                          kBlock<K>),
        view_(backward_view(unit, taps_)), groups_(groups_of<Real>(in_, kMaxVectors)), sums_(sums_of<K>(view_)) {}

  void run(Workspace& workspace) {
    const int parts = parts_of(unit_, geometry_);
    Real *coefficients, *correction;
    gradients_ = {nullptr, nullptr, taps_ * out_ * columns_, in_};
    lay_out(workspace, [&](auto&& take) {
      take(weight_, packed_weight_size<K>(view_));
      take(coefficients, Affine<Real>::size(in_));
      take(correction, BatchNormGradCorrection<K>::size(out_));
      take(gradients_.weight, parts * gradients_.weight_size);
      take(gradients_.channels, 2 * parts * in_);
    });
    slices_ = slices_for(workspace, parts, [&](auto&& take) { Arrays().list(*this, take); });
    const Affine<Real> affine(unit_, coefficients);
    const BatchNormGradCorrection<K> correct(unit_, correction);
    pack_in_parallel(unit_, sums_, [&](int64_t begin, int64_t end) {
      pack_weight<K>(view_, groups_, static_cast<const Real*>(unit_.weight), begin, end, weight_);
    });
    for_each_part(unit_.threads, parts,
                  [&](int part) { run_part(affine, correct, part, BoxRange(geometry_, part, parts)); });
    finish_weight<K>(unit_, gradients_, columns_, parts);
    finish_channels(unit_, affine, gradients_, parts);
  }

 private:
  struct Arrays {
    int64_t* rows;
    int64_t* inputs;
    int64_t* next_inputs;
    Segment* segments;
    Packed* gradients;
    Packed* pairs;  // the same, pixel by pixel, where products take pairs; matrices want whole lines of them
    Packed* activations;
    Real* tile;

    template <class Take>
    void list(const Backward& unit, Take&& take) {
      const int64_t halo = unit.geometry_.largest_halo(), own = unit.geometry_.largest_box();
      take(rows, halo);
      take(inputs, own * unit.geometry_.sources());
      take(next_inputs, own * unit.geometry_.sources());
      take(segments, unit.taps_ * unit.sum_blocks_);
      take(gradients, (halo + 1) * unit.sum_blocks_ * kBlock<K>);
      take(pairs, K::in_matrices ? unit.pair_blocks_ * kMatrixSide * pixel_line(halo) / K::pair
                                 : halo * unit.pair_blocks_ * kBlock<K>);
      take(activations, kGroupBlocks * unit.activation_block_);
      take(tile, own * kGroupColumns);
    }
  };

  void run_part(const Affine<Real>& affine, const BatchNormGradCorrection<K>& correct, int part, BoxRange range) {
    Arrays arrays;
    place(slices_.of(part), [&](auto&& take) { arrays.list(*this, take); });
    gradients_.clear(part);
    list_inputs(geometry_.box(range.begin), arrays.rows, arrays.inputs);
    for (int64_t i = range.begin; i < range.end; i++) {
      const Box box = geometry_.box(i), next_box = geometry_.box(range.next(i));
      const int64_t count = pack_box(correct, box, arrays);
      list_inputs(next_box, arrays.rows, arrays.next_inputs);
      for (int64_t g = 0; g < groups_.count(); g++) run_group(affine, part, box, next_box, g, count, arrays);
      std::swap(arrays.inputs, arrays.next_inputs);
    }
    release_registers<K>();
  }

  // The corrected gradients of a box with its halo; returns how many segments they are summed in.
  int64_t pack_box(const BatchNormGradCorrection<K>& correct, const Box& box, const Arrays& arrays) const {
    const int64_t halo_pixels = geometry_.halo_pixels(box), block_step = (halo_pixels + (K::pair == 2)) * kBlock<K>;
    geometry_.rows(box, true, arrays.rows);
    pack_gradient<K>(unit_, correct, arrays.rows, halo_pixels, arrays.gradients, block_step);
    if constexpr (K::in_matrices) {
      transpose_pixels(arrays.gradients, block_step, out_, halo_pixels, reinterpret_cast<bfloat16*>(arrays.pairs));
    } else if constexpr (K::pair == 2) {
      pair_pixels(arrays.gradients, block_step, out_, halo_pixels, arrays.pairs);
    }
    return segments_of<K>(geometry_, box, out_, block_step, true, arrays.segments);
  }

  void run_group(const Affine<Real>& affine, int part, const Box& box, const Box& next_box, int64_t g, int64_t count,
                 const Arrays& arrays) const {
    constexpr int64_t lanes = kLanes<Real>;
    const int64_t first = groups_.first(g) * lanes, steps = pixel_steps<K>(box.size[2]);
    const int vectors = groups_.size(g);
    // While this group is computed, the next one's columns of input and gradient are on their way.
    const bool last = g + 1 == groups_.count();
    const int64_t next = last ? 0 : groups_.first(g + 1) * lanes;
    const int64_t next_columns = std::min(in_ - next, groups_.size(last ? 0 : g + 1) * lanes);
    const int64_t* next_rows = last ? arrays.next_inputs : arrays.inputs;
    const int64_t wanted = taps_ == 1 ? (last ? next_box : box).pixels() * geometry_.sources() : 0;
    const auto* input = static_cast<const typename K::Stored*>(unit_.input);
    const auto* gradient = static_cast<const typename K::Stored*>(unit_.input_gradient);
    const Prefetch inputs_ahead(input + next, unit_.input_stride, next_columns, next_rows, wanted);
    const Prefetch gradients_ahead(gradient + next, unit_.input_gradient_stride, unit_.accumulate ? next_columns : 0,
                                   next_rows, wanted);
    const int64_t work = box.pixels() * out_ * taps_;
    Pace pace(wanted, 2 * work);
    const auto between = [&](int64_t done) {
      pace.advance(done, [&](int64_t row) {
        inputs_ahead.row(row);
        gradients_ahead.row(row);
      });
    };
    multiply_box<K>(geometry_, box, arrays.segments, count, arrays.gradients, vectors, weight_ + first * sums_,
                    arrays.tile, kGroupColumns, [&](int pixels) { between(pixels * out_ * taps_); });
    const InputPass<K> pass = {unit_,
                               affine,
                               arrays.inputs,
                               geometry_.sources(),
                               box,
                               arrays.tile,
                               kGroupColumns,
                               arrays.activations,
                               box.size[0] * box.size[1] * steps * kBlock<K>,
                               gradients_.shift_of(part),
                               gradients_.scale_of(part)};
    pass_group<K, pooled>(pass, first, vectors);
    Real* sums = gradients_.weight_of(part) + first;
    const auto between_rows = [&](int rows) { between(rows * box.pixels()); };
    if constexpr (K::in_matrices) {
      add_weight_gradient_in_matrices<K>(unit_, geometry_, box, vectors, reinterpret_cast<bfloat16*>(arrays.pairs),
                                         arrays.activations, sums, columns_, between_rows);
    } else {
      add_weight_gradient<K>(unit_, geometry_, box, first % kBlock<K> / lanes, vectors,
                             K::pair == 2 ? arrays.pairs : arrays.gradients, arrays.activations, sums, columns_,
                             between_rows);
    }
  }

  void list_inputs(const Box& box, int64_t* rows, int64_t* inputs) const {
    geometry_.rows(box, false, rows);
    geometry_.input_rows(rows, box.pixels(), inputs);
  }

  const Unit& unit_;
  const int64_t in_, out_, taps_, columns_, sum_blocks_, pair_blocks_;
  const Geometry geometry_;
  const int64_t activation_block_;  // the largest
  const WeightView view_;
  const Groups groups_;
  const int64_t sums_;
  Real* weight_;
  GradientSums<Real> gradients_;
  Slices slices_;
};

}  // namespace DENSENETS_ISA

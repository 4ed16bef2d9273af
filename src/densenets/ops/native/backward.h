// A unit backward: the gradient of its result is completed on the way in; BN-ReLU of the input is made
// again, box by box, in the cache.
#pragma once

#include "forward.h"

namespace DENSENETS_ISA {

// Makes the gradient of a result complete: gradient + result * slope + offset, and dropout's mask.
template <class K>
struct Completion {
  using Real = typename K::Real;
  Real* slope;
  Real* offset;

  static size_t size(int64_t channels) { return 2 * round_up(channels, kChannelStep); }

  Completion(const Unit& unit, Real* memory)
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
    const auto* gradients = static_cast<const Real*>(unit.output_gradient) + row * unit.output_gradient_stride;
    Vector<Real> gradient = load_first(gradients + c, left);
    if (unit.result) {
      const auto* results = static_cast<const typename K::Stored*>(unit.result) + row * unit.result_stride;
      gradient += load_first(results + c, left) * load(slope + c) + load(offset + c);
    }
    if (unit.keep) {
      const uint8_t* keep = unit.keep + row * unit.out_channels + c;
      for (int64_t i = 0; i < kLanes<Real> && i < left; i++) {
        gradient[i] = keep[i] ? gradient[i] * static_cast<Real>(unit.keep_scale) : 0;
      }
    }
    return gradient;
  }
};

template <class K>
void pack_gradient(const Unit& unit, const Completion<K>& complete, const int64_t* rows, int64_t pixels,
                   typename K::Packed* blocks, int64_t block_step) {
  using Real = typename K::Real;
  for (int64_t pixel = 0; pixel < pixels; pixel++, blocks += kBlock<K>) {
    const int64_t row = rows[pixel];
    if (row == kOutside) {
      pack_pixel<K>(blocks, block_step, unit.out_channels, [](int64_t) { return Vector<Real>{}; });
    } else {
      pack_pixel<K>(blocks, block_step, unit.out_channels, [&](int64_t c) { return complete(unit, row, c); });
    }
  }
}

#if defined(__AVX512BF16__)
// From pairs of channels to pairs of neighbouring pixels: 16 channels a block, a pair begins at every pixel.
// `channel_pairs` have one more pixel behind the last.
inline void pair_pixels(const uint32_t* channel_pairs, int64_t block_step, int64_t channels, int64_t pixels,
                        uint32_t* pixel_pairs) {
  for (int64_t first = 0; first < channels; first += 32, channel_pairs += block_step) {
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
}
#endif

// What goes through BN-ReLU of the input, backward, for some lanes of channels.
template <class K>
struct InputChannels {
  using Real = typename K::Real;
  Vector<Real> scale, shift, mean;
  Vector<Real> shift_sum{}, scale_sum{};

  InputChannels(const Affine<Real>& affine, int64_t c)
      : scale(load(affine.scale + c)), shift(load(affine.shift + c)), mean(load(affine.mean + c)) {}

  // Takes the gradient of a pixel's activation, hands on that of the input; returns the activation.
  DENSENETS_INLINE Vector<Real> pixel(const Unit& unit, int64_t row, int64_t c, Vector<Real> gradient) {
    const int64_t left = unit.in_channels - c;
    const auto* inputs = static_cast<const typename K::Stored*>(unit.input) + row * unit.input_stride;
    Real* handed_on = static_cast<Real*>(unit.input_gradient) + row * unit.input_gradient_stride + c;
    const Vector<Real> input = load_first(inputs + c, left);
    const Vector<Real> normalised = input * scale + shift;
    const Vector<Real> masked = normalised <= 0 ? Vector<Real>{} : gradient;
    shift_sum += masked;
    scale_sum += masked * (input - mean);
    const Vector<Real> before = unit.accumulate ? load_first(handed_on, left) : Vector<Real>{};
    store_first(handed_on, before + masked * scale, left);
    return relu<Real>(normalised);
  }
};

// The box's gradients go through BN-ReLU to the input; its activations into blocks for the weight's gradient:
// pixel by pixel, or pair by pair of a line for products of pairs.
template <class K, bool pooled>
void pass_to_input(const Unit& unit, const Affine<typename K::Real>& affine, const int64_t* inputs, int sources,
                   const Box& box, const typename K::Real* tile, int64_t tile_stride,
                   typename K::Packed* activations, int64_t block_step, double* shift_sums,
                   double* scale_sums) {
  using Real = typename K::Real;
  constexpr int64_t lanes = kLanes<Real>;
  const int64_t width = box.size[2], lines = box.size[0] * box.size[1];
  const Real part = Real(1) / static_cast<Real>(sources);
  for (int64_t c = 0; c < unit.in_channels; c += lanes) {
    InputChannels<K> channels(affine, c);
    typename K::Packed* out = activations + c / kBlock<K> * block_step + c % kBlock<K>;
    const auto activation = [&](int64_t pixel) {
      const Vector<Real> gradient = load(tile + pixel * tile_stride + c);
      if constexpr (!pooled) {
        return channels.pixel(unit, inputs[pixel], c, gradient);
      } else {
        Vector<Real> sum{};
        for (int i = 0; i < sources; i++) {
          sum += channels.pixel(unit, inputs[pixel * sources + i], c, gradient * part);
        }
        return sum * part;
      }
    };
    if constexpr (K::pair == 1) {
      for (int64_t pixel = 0; pixel < lines * width; pixel++, out += kBlock<K>) store(out, activation(pixel));
    }
#if defined(__AVX512BF16__)
    if constexpr (K::pair == 2) {
      for (int64_t line = 0; line < lines; line++) {
        for (int64_t w = 0; w < width; w += 2, out += kBlock<K>) {
          const Vector<Real> first = activation(line * width + w);
          const Vector<Real> second = w + 1 < width ? activation(line * width + w + 1) : Vector<Real>{};
          _mm512_store_si512(out, zip_halves(both(first, second)));
        }
      }
    }
#endif
    for (int64_t i = 0; i < lanes && c + i < unit.in_channels; i++) {
      shift_sums[c + i] += channels.shift_sum[i];
      scale_sums[c + i] += channels.scale_sum[i];
    }
  }
}

// sums[tap][m][c] += the weight's gradient from a box.
template <class K>
void add_weight_gradient(const Unit& unit, const Geometry& geometry, const Box& box, const Groups& groups,
                         const typename K::Packed* gradients, const typename K::Packed* activations,
                         typename K::Real* sums, int64_t sums_stride) {
  constexpr int64_t lanes = kLanes<typename K::Real>;
  const int64_t halo_height = geometry.halo(box.size, 1), halo_width = geometry.halo(box.size, 2);
  const int64_t gradient_block = geometry.halo_pixels(box) * kBlock<K>;
  const int64_t steps = divide_up(box.size[2], K::pair);
  const int64_t activation_block = box.size[0] * box.size[1] * steps * kBlock<K>;
  const Runs runs = {box.size[1], steps, halo_width * kBlock<K>, steps * kBlock<K>, K::pair * kBlock<K>};
  for (int64_t g = 0; g < groups.count(); g++) {
    const int vectors = groups.size(g);
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
            add_products(from, activations + d * box.size[1] * steps * kBlock<K>, activation_block,
                         groups.first(g), runs,
                         sums + (tap * unit.out_channels + block + first) * sums_stride + groups.first(g) * lanes,
                         sums_stride);
          }
        }
      }
    }
  }
}

// Joins what the parts have summed, in the order of the parts.
template <class K>
void finish_backward(const Unit& unit, const Affine<typename K::Real>& affine, const typename K::Real* weight_sums,
                     int64_t part_size, int64_t stride, const double* channel_sums, int parts) {
  using Real = typename K::Real;
  const int64_t in = unit.in_channels, out = unit.out_channels, taps = tap_count(unit);
  for_each_part(unit.threads, unit.threads, [&](int share_of) {
    for (int64_t row = share(taps * out, share_of, unit.threads); row < share(taps * out, share_of + 1, unit.threads);
         row++) {
      Real* gradient = static_cast<Real*>(unit.weight_gradient) + row % out * in * taps + row / out;
      for (int64_t c = 0; c < in; c++) {
        Real sum = 0;
        for (int part = 0; part < parts; part++) sum += weight_sums[part * part_size + row * stride + c];
        gradient[c * taps] = sum;
      }
    }
  });
  for (int64_t c = 0; c < in; c++) {
    double shift = 0, scale = 0;
    for (int part = 0; part < parts; part++) {
      shift += channel_sums[(2 * part) * in + c];
      scale += channel_sums[(2 * part + 1) * in + c];
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
void backward(const Unit& unit) {
  using Real = typename K::Real;
  using Packed = typename K::Packed;
  const int64_t in = unit.in_channels, out = unit.out_channels, taps = tap_count(unit);
  const int64_t in_blocks = divide_up(in, kBlock<K>), columns = round_up(in, kLanes<Real>);
  const int64_t sum_blocks = divide_up(out, kElements<K>), pixel_blocks = divide_up(out, kBlock<K>);
  const Geometry geometry(unit, kBoxBytes, taps == 1 ? kLinePixels : kBoxPixels, [&](int64_t halo, int64_t own) {
    return halo * sum_blocks * 64 + own * columns * static_cast<int64_t>(sizeof(Real)) + own * in_blocks * 64;
  });
  const WeightView view = backward_view(unit, taps);
  const Groups groups = groups_of<Real>(in, kMaxVectors);
  const Groups weight_groups = groups_of<Real>(in, std::min(kMaxVectors, 3));
  const int64_t sums = sums_of<K>(view);
  const int64_t boxes = geometry.boxes();
  const int parts = static_cast<int>(std::min<int64_t>(unit.threads, boxes));
  const int64_t weight_part = taps * out * columns;
  const int64_t coefficients = Affine<Real>::arrays * round_up(in, kChannelStep);

  Scratch& scratch = scratch_of_caller();
  scratch.reset(Scratch::bytes<Real>(packed_weight_size<K>(view)) + Scratch::bytes<Real>(coefficients) +
                Scratch::bytes<Real>(Completion<K>::size(out)) + Scratch::bytes<Real>(parts * weight_part) +
                Scratch::bytes<double>(2 * parts * in));
  Real* weight = scratch.take<Real>(packed_weight_size<K>(view));
  const Affine<Real> affine(unit, scratch.take<Real>(coefficients));
  const Completion<K> complete(unit, scratch.take<Real>(Completion<K>::size(out)));
  Real* weight_sums = scratch.take<Real>(parts * weight_part);
  double* channel_sums = scratch.take<double>(2 * parts * in);
  for_each_part(unit.threads, unit.threads, [&](int part) {
    pack_weight<K>(view, groups, static_cast<const Real*>(unit.weight), share(sums, part, unit.threads),
                   share(sums, part + 1, unit.threads), weight);
  });

  for_each_part(unit.threads, parts, [&](int part) {
    const int64_t halo = geometry.largest_halo(), own = geometry.largest_box(), sources = geometry.sources();
    const int64_t gradient_size = (halo + 1) * sum_blocks * kBlock<K>;
    const int64_t pair_size = K::pair == 2 ? halo * pixel_blocks * kBlock<K> : 0;
    Scratch& local = scratch_of_part();
    local.reset(Scratch::bytes<int64_t>(halo) + Scratch::bytes<int64_t>(own * sources) +
                Scratch::bytes<Segment>(taps * sum_blocks) + Scratch::bytes<Packed>(gradient_size) +
                Scratch::bytes<Packed>(pair_size) + Scratch::bytes<Packed>(own * in_blocks * kBlock<K>) +
                Scratch::bytes<Real>(own * columns));
    int64_t* rows = local.take<int64_t>(halo);
    int64_t* inputs = local.take<int64_t>(own * sources);
    Segment* segments = local.take<Segment>(taps * sum_blocks);
    Packed* gradients = local.take<Packed>(gradient_size);
    [[maybe_unused]] Packed* pixel_pairs = local.take<Packed>(pair_size);
    Packed* activations = local.take<Packed>(own * in_blocks * kBlock<K>);
    Real* tile = local.take<Real>(own * columns);
    Real* part_weight = weight_sums + part * weight_part;
    double* shift_sums = channel_sums + 2 * part * in;
    double* scale_sums = shift_sums + in;
    std::fill(part_weight, part_weight + weight_part, Real(0));
    std::fill(shift_sums, shift_sums + 2 * in, 0.0);
    for (int64_t i = share(boxes, part, parts); i < share(boxes, part + 1, parts); i++) {
      const Box box = geometry.box(i);
      const int64_t halo_pixels = geometry.halo_pixels(box);
      // Products of pairs look one pixel past the end.
      const int64_t block_step = (halo_pixels + (K::pair - 1)) * kBlock<K>;
      geometry.rows(box, true, rows);
      pack_gradient<K>(unit, complete, rows, halo_pixels, gradients, block_step);
      const int64_t count = segments_of<K>(geometry, box, out, block_step, true, segments);
      multiply_box<K>(geometry, box, segments, count, gradients, groups, weight, sums, tile, columns);
      geometry.rows(box, false, rows);
      geometry.input_rows(rows, box.pixels(), inputs);
      const int64_t activation_block =
          box.size[0] * box.size[1] * divide_up(box.size[2], K::pair) * kBlock<K>;
      pass_to_input<K, pooled>(unit, affine, inputs, geometry.sources(), box, tile, columns, activations,
                               activation_block, shift_sums, scale_sums);
      const Packed* factors = gradients;
#if defined(__AVX512BF16__)
      if constexpr (K::pair == 2) {
        for (int64_t b = 0; b < sum_blocks; b++) std::fill_n(gradients + (b + 1) * block_step - kBlock<K>, kBlock<K>, 0u);
        pair_pixels(gradients, block_step, out, halo_pixels, pixel_pairs);
        factors = pixel_pairs;
      }
#endif
      add_weight_gradient<K>(unit, geometry, box, weight_groups, factors, activations, part_weight, columns);
    }
  });
  finish_backward<K>(unit, affine, weight_sums, weight_part, columns, channel_sums, parts);
}

}  // namespace DENSENETS_ISA

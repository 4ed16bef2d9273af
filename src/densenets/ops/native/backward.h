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
    const auto* gradients = static_cast<const typename K::Stored*>(unit.output_gradient) + row * unit.output_gradient_stride;
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
  DENSENETS_INLINE Vector<Real> pixel(int v, const typename K::Stored* inputs,
                                      typename K::Stored* handed_on, int64_t left, Vector<Real> gradient) {
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
// pixel, or pair by pair of a line for products of pairs.
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
      return columns.template pixel<whole, accumulate>(v, input + *rows * unit.input_stride,
                                                       input_gradient + *rows * unit.input_gradient_stride, left,
                                                       gradient);
    } else {
      Vector<Real> sum{};
      for (int i = 0; i < pass.sources; i++) {
        sum += columns.template pixel<whole, accumulate>(v, input + rows[i] * unit.input_stride,
                                                         input_gradient + rows[i] * unit.input_gradient_stride,
                                                         left, gradient * part);
      }
      return sum * part;
    }
  };
  const auto place = [&](int v) { return (phase + v * lanes) / kBlock<K> * pass.block_step + (phase + v * lanes) % kBlock<K>; };
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

// sums[tap][m][c] += the weight's gradient from a box, for a group of columns.
template <class K, class Between>
void add_weight_gradient(const Unit& unit, const Geometry& geometry, const Box& box, int64_t first_vector,
                         int vectors, const typename K::Packed* gradients, const typename K::Packed* activations,
                         typename K::Real* sums, int64_t sums_stride, Between&& between) {
  const int64_t halo_height = geometry.halo(box.size, 1), halo_width = geometry.halo(box.size, 2);
  const int64_t gradient_block = geometry.halo_pixels(box) * kBlock<K>;
  const int64_t steps = divide_up(box.size[2], K::pair);
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

// Joins the weight's gradients of all parts, in the order of the parts.
template <class K>
void finish_weight(const Unit& unit, const typename K::Real* sums, int64_t part_size, int64_t stride, int parts) {
  using Real = typename K::Real;
  const int64_t in = unit.in_channels, out = unit.out_channels, taps = tap_count(unit);
  for_each_part(unit.threads, unit.threads, [&](int share_of) {
    for (int64_t row = share(taps * out, share_of, unit.threads); row < share(taps * out, share_of + 1, unit.threads);
         row++) {
      Real* gradient = static_cast<Real*>(unit.weight_gradient) + row % out * in * taps + row / out;
      for (int64_t c = 0; c < in; c++) {
        Real sum = 0;
        for (int part = 0; part < parts; part++) sum += sums[part * part_size + row * stride + c];
        gradient[c * taps] = sum;
      }
    }
  });
}

// Joins what the parts have summed over the pixels of each channel, in the order of the parts.
template <class Real>
void finish_channels(const Unit& unit, const Affine<Real>& affine, const double* sums, int parts) {
  const int64_t in = unit.in_channels;
  for (int64_t c = 0; c < in; c++) {
    double shift = 0, scale = 0;
    for (int part = 0; part < parts; part++) {
      shift += sums[(2 * part) * in + c];
      scale += sums[(2 * part + 1) * in + c];
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
  constexpr int64_t lanes = kLanes<Real>;
  constexpr int64_t group_columns = kMaxVectors * lanes;
  const int64_t in = unit.in_channels, out = unit.out_channels, taps = tap_count(unit);
  const int64_t columns = round_up(in, lanes), group_blocks = divide_up(group_columns, kBlock<K>) + 1;
  const int64_t sum_blocks = divide_up(out, kElements<K>), pixel_blocks = divide_up(out, kBlock<K>);
  const Geometry geometry(unit, kBoxBytes, taps == 1 ? kLinePixels : kBoxPixels, [&](int64_t halo, int64_t own) {
    return halo * (sum_blocks + (K::pair == 2 ? pixel_blocks : 0)) * 64 +
           own * (group_columns * static_cast<int64_t>(sizeof(Real)) + group_blocks * 64);
  });
  const WeightView view = backward_view(unit, taps);
  const Groups groups = groups_of<Real>(in, kMaxVectors);
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
    local.reset(Scratch::bytes<int64_t>(halo) + 2 * Scratch::bytes<int64_t>(own * sources) +
                Scratch::bytes<Segment>(taps * sum_blocks) + Scratch::bytes<Packed>(gradient_size) +
                Scratch::bytes<Packed>(pair_size) + Scratch::bytes<Packed>(own * group_blocks * kBlock<K>) +
                Scratch::bytes<Real>(own * group_columns));
    int64_t* rows = local.take<int64_t>(halo);
    int64_t* inputs = local.take<int64_t>(own * sources);
    int64_t* next_inputs = local.take<int64_t>(own * sources);
    Segment* segments = local.take<Segment>(taps * sum_blocks);
    Packed* gradients = local.take<Packed>(gradient_size);
    [[maybe_unused]] Packed* pixel_pairs = local.take<Packed>(pair_size);
    Packed* activations = local.take<Packed>(own * group_blocks * kBlock<K>);
    Real* tile = local.take<Real>(own * group_columns);
    Real* part_weight = weight_sums + part * weight_part;
    double* shift_sums = channel_sums + 2 * part * in;
    double* scale_sums = shift_sums + in;
    std::fill(part_weight, part_weight + weight_part, Real(0));
    std::fill(shift_sums, shift_sums + 2 * in, 0.0);
    const auto list_inputs = [&](const Box& box, int64_t* list) {
      geometry.rows(box, false, rows);
      geometry.input_rows(rows, box.pixels(), list);
    };
    const auto* input = static_cast<const typename K::Stored*>(unit.input);
    const auto* input_gradient = static_cast<const typename K::Stored*>(unit.input_gradient);
    const int64_t first_box = share(boxes, part, parts), end_box = share(boxes, part + 1, parts);
    list_inputs(geometry.box(first_box), inputs);
    for (int64_t i = first_box; i < end_box; i++) {
      const Box box = geometry.box(i), next_box = geometry.box(std::min(i + 1, end_box - 1));
      const int64_t halo_pixels = geometry.halo_pixels(box);
      // Products of pairs look one pixel past the end.
      const int64_t block_step = (halo_pixels + (K::pair - 1)) * kBlock<K>;
      geometry.rows(box, true, rows);
      pack_gradient<K>(unit, complete, rows, halo_pixels, gradients, block_step);
      const int64_t count = segments_of<K>(geometry, box, out, block_step, true, segments);
      list_inputs(next_box, next_inputs);
      const Packed* factors = gradients;
#if defined(__AVX512BF16__)
      if constexpr (K::pair == 2) {
        for (int64_t b = 0; b < sum_blocks; b++) std::fill_n(gradients + (b + 1) * block_step - kBlock<K>, kBlock<K>, 0u);
        pair_pixels(gradients, block_step, out, halo_pixels, pixel_pairs);
        factors = pixel_pairs;
      }
#endif
      const int64_t activation_block = box.size[0] * box.size[1] * divide_up(box.size[2], K::pair) * kBlock<K>;
      const InputPass<K> pass = {unit, affine, inputs, geometry.sources(), box, tile, group_columns, activations,
                                 activation_block, shift_sums, scale_sums};
      for (int64_t g = 0; g < groups.count(); g++) {
        const int64_t first = groups.first(g) * lanes;
        const int vectors = groups.size(g);
        // While this group is computed, the next one's columns of input and gradient are on their way.
        const bool last = g + 1 == groups.count();
        const int64_t next = last ? 0 : groups.first(g + 1) * lanes;
        const int64_t next_columns = std::min(in - next, groups.size(last ? 0 : g + 1) * lanes);
        const int64_t* next_rows = last ? next_inputs : inputs;
        const int64_t wanted = taps == 1 ? (last ? next_box : box).pixels() * sources : 0;
        const Prefetch inputs_ahead(input + next, unit.input_stride, next_columns, next_rows, wanted);
        const Prefetch gradients_ahead(input_gradient + next, unit.input_gradient_stride, next_columns, next_rows, wanted);
        const int64_t work = box.pixels() * out * taps;
        Pace pace(wanted, 2 * work);
        const auto between = [&](int64_t done) {
          pace.advance(done, [&](int64_t row) {
            inputs_ahead.row(row);
            if (unit.accumulate) gradients_ahead.row(row);
          });
        };
        multiply_box<K>(geometry, box, segments, count, gradients, vectors, weight + first * sums, tile, group_columns,
                        [&](int pixels) { between(pixels * out * taps); });
        pass_group<K, pooled>(pass, first, vectors);
        add_weight_gradient<K>(unit, geometry, box, first % kBlock<K> / lanes, vectors, factors, activations,
                               part_weight + first, columns, [&](int rows) { between(rows * box.pixels()); });
      }
      std::swap(inputs, next_inputs);
    }
  });
  finish_weight<K>(unit, weight_sums, weight_part, columns, parts);
  finish_channels(unit, affine, channel_sums, parts);
}

}  // namespace DENSENETS_ISA

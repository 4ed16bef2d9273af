// A unit forward: BN-ReLU on the way into the product, statistics of its result on the way out.
#pragma once

#include "moments.h"

namespace DENSENETS_ISA {

// Bytes of a box that stay in the second-level cache beside the weights; pixels of one without neighbours.
constexpr int64_t kBoxBytes = 256 * 1024;
constexpr int64_t kLinePixels = 96;
constexpr int64_t kBoxPixels = 1024;

inline Scratch& scratch_of_caller() {
  static thread_local Scratch scratch;
  return scratch;
}

inline Scratch& scratch_of_part() {
  static thread_local Scratch scratch;
  return scratch;
}

inline int64_t tap_count(const Unit& unit) { return unit.taps[0] * unit.taps[1] * unit.taps[2]; }

// BN-ReLU of the input pixels `rows` (`sources` for each pixel, averaged), into blocks to be summed over.
template <class K, bool pooled>
void pack_input(const Unit& unit, const Affine<typename K::Real>& affine, const int64_t* rows, int64_t pixels,
                int sources, typename K::Packed* blocks, int64_t block_step) {
  using Real = typename K::Real;
  const auto* input = static_cast<const typename K::Stored*>(unit.input);
  const Real part = Real(1) / static_cast<Real>(sources);
  for (int64_t pixel = 0; pixel < pixels; pixel++, blocks += kBlock<K>) {
    const int64_t* from = rows + pixel * sources;
    if (*from == kOutside) {
      pack_pixel<K>(blocks, block_step, unit.in_channels, [](int64_t) { return Vector<Real>{}; });
      continue;
    }
    pack_pixel<K>(blocks, block_step, unit.in_channels, [&](int64_t c) {
      const Vector<Real> scale = load(affine.scale + c), shift = load(affine.shift + c);
      const auto activation = [&](int64_t row) {
        return relu<Real>(load_first(input + row * unit.input_stride + c, unit.in_channels - c) * scale + shift);
      };
      if constexpr (!pooled) {
        return activation(*from);
      } else {
        Vector<Real> sum = activation(from[0]);
        for (int i = 1; i < sources; i++) sum += activation(from[i]);
        return sum * part;
      }
    });
  }
}

// tile[pixel][column] = the products of all taps, for a box and a group of columns. `blocks` hold the box and
// its halo, `weight` the columns of the group; `between` is called again and again in the meantime.
template <class K, class Between>
void multiply_box(const Geometry& geometry, const Box& box, const Segment* segments, int64_t segment_count,
                  const typename K::Packed* blocks, int vectors, const typename K::Real* weight,
                  typename K::Real* tile, int64_t tile_stride, Between&& between) {
  const int64_t halo_height = geometry.halo(box.size, 1), halo_width = geometry.halo(box.size, 2);
  const int64_t width = box.size[2];
  const int64_t pieces = divide_up(width, max_rows(vectors));
  for (int64_t piece = 0; piece < pieces; piece++) {
    const int64_t first = share(width, piece, pieces);
    const int rows = static_cast<int>(share(width, piece + 1, pieces) - first);
    const SumProducts<K> sum_products = sum_products_of<K>(vectors, rows);
    for (int64_t d = 0; d < box.size[0]; d++) {
      for (int64_t h = 0; h < box.size[1]; h++) {
        const int64_t from = (d * halo_height + h) * halo_width + first;
        const int64_t to = (d * box.size[1] + h) * width + first;
        sum_products(blocks + from * kBlock<K>, segments, segment_count, weight, tile + to * tile_stride, tile_stride);
        between(rows);
      }
    }
  }
}

// Asks for some columns of some rows of a matrix, a few at a time, while something else is computed.
class Prefetch {
 public:
  template <class T>
  Prefetch(const T* columns, int64_t stride, int64_t columns_count, const int64_t* rows, int64_t count)
      : start_(reinterpret_cast<const char*>(columns)), row_bytes_(stride * static_cast<int64_t>(sizeof(T))),
        bytes_(round_up(columns_count * static_cast<int64_t>(sizeof(T)), kHalfLine)), rows_(rows), count_(count) {}

  // A prefetch is dropped where the page isn't known yet, so a value of the row is loaded some rows before.
  DENSENETS_INLINE void row(int64_t index) const {
    if (bytes_ == 0) return;
    if (const int64_t later = index + 8; later < count_ && rows_[later] != kOutside) {
      (void)*static_cast<const volatile char*>(start_ + rows_[later] * row_bytes_);
    }
    if (rows_[index] == kOutside) return;
    const char* end = start_ + rows_[index] * row_bytes_ + bytes_;
    for (const char* line = end - bytes_ - (reinterpret_cast<intptr_t>(end - bytes_) & 63); line < end; line += 64) {
      __builtin_prefetch(line, 0, 2);
    }
  }

 private:
  static constexpr int64_t kHalfLine = 32;  // what the load of a row's last columns takes at least
  const char* start_;
  int64_t row_bytes_;
  int64_t bytes_;
  const int64_t* rows_;
  int64_t count_;
};

// Spreads `wanted` items evenly over `work` units of other work.
class Pace {
 public:
  Pace(int64_t wanted, int64_t work) : wanted_(wanted), work_(work) {}

  template <class Item>
  DENSENETS_INLINE void advance(int64_t work, Item&& item) {
    done_ += work;
    const int64_t end = std::min(wanted_, wanted_ * done_ / work_ + 1);
    for (; next_ < end; next_++) item(next_);
  }

 private:
  int64_t wanted_;
  int64_t work_;
  int64_t done_ = 0;
  int64_t next_ = 0;
};

// Some columns of a tile on their way to the output: dropout, statistics, rounding to the data type.
template <class K, int vectors>
void write_columns(const Unit& unit, const int64_t* rows, int64_t pixels, typename K::Real* tile, int64_t stride,
                   int64_t first, Moments* moments) {
  using Real = typename K::Real;
  constexpr int64_t lanes = kLanes<Real>;
  const int64_t left = unit.out_channels - first;
  if (unit.keep) {
    for (int64_t pixel = 0; pixel < pixels; pixel++) {
      const uint8_t* keep = unit.keep + rows[pixel] * unit.out_channels + first;
      Real* values = tile + pixel * stride;
      for (int64_t c = 0; c < std::min<int64_t>(left, vectors * lanes); c++) {
        values[c] = keep[c] ? values[c] * static_cast<Real>(unit.keep_scale) : 0;
      }
    }
  }
  auto* output = static_cast<typename K::Stored*>(unit.output) + first;
  Vector<Real> pivot[vectors] = {}, sum[vectors] = {}, squared[vectors] = {};
  if (moments) {
    for (int64_t pixel = 0; pixel < pixels; pixel++) {
#pragma GCC unroll 4
      for (int v = 0; v < vectors; v++) pivot[v] += load(tile + pixel * stride + v * lanes);
    }
    for (int v = 0; v < vectors; v++) pivot[v] /= broadcast(static_cast<Real>(pixels));
  }
  for (int64_t pixel = 0; pixel < pixels; pixel++) {
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) {
      const Vector<Real> value = load(tile + pixel * stride + v * lanes);
      store_first(output + rows[pixel] * unit.output_stride + v * lanes, value,
                  v + 1 < vectors ? lanes : left - v * lanes);
      const Vector<Real> distance = value - pivot[v];
      sum[v] += distance;
      squared[v] += distance * distance;
    }
  }
  if (moments) {
    for (int v = 0; v < vectors; v++) {
      moments->add_sums<Real>(first + v * lanes, unit.out_channels, pixels, pivot[v], sum[v], squared[v]);
    }
  }
}

template <class K>
void write_group(const Unit& unit, const int64_t* rows, int64_t pixels, typename K::Real* tile, int64_t stride,
                 int64_t first, int vectors, Moments* moments) {
  switch (vectors) {
    case 1: return write_columns<K, 1>(unit, rows, pixels, tile, stride, first, moments);
    case 2: return write_columns<K, 2>(unit, rows, pixels, tile, stride, first, moments);
    case 3: return write_columns<K, 3>(unit, rows, pixels, tile, stride, first, moments);
    default: return write_columns<K, kMaxVectors>(unit, rows, pixels, tile, stride, first, moments);
  }
}

template <class K, bool pooled>
void forward(const Unit& unit) {
  using Real = typename K::Real;
  using Packed = typename K::Packed;
  const int64_t in = unit.in_channels, out = unit.out_channels, taps = tap_count(unit);
  const int64_t in_blocks = divide_up(in, kElements<K>);
  const int64_t columns = std::min<int64_t>(round_up(out, kLanes<Real>), kMaxVectors * kLanes<Real>);  // of a group
  const Geometry geometry(unit, kBoxBytes, taps == 1 ? kLinePixels : kBoxPixels, [&](int64_t halo, int64_t own) {
    return halo * in_blocks * 64 + own * columns * static_cast<int64_t>(sizeof(Real));
  });
  const WeightView view = forward_view(unit, taps);
  const Groups groups = groups_of<Real>(out, kMaxVectors);
  const int64_t sums = sums_of<K>(view);
  const int64_t boxes = geometry.boxes();
  const int parts = static_cast<int>(std::min<int64_t>(unit.threads, boxes));
  const int64_t coefficients = Affine<Real>::arrays * round_up(in, kChannelStep);

  Scratch& scratch = scratch_of_caller();
  scratch.reset(Scratch::bytes<Real>(packed_weight_size<K>(view)) + Scratch::bytes<Real>(coefficients) +
                Scratch::bytes<double>(parts * Moments::size(out)));
  Real* weight = scratch.take<Real>(packed_weight_size<K>(view));
  const Affine<Real> affine(unit, scratch.take<Real>(coefficients));
  double* moments = scratch.take<double>(parts * Moments::size(out));
  for_each_part(unit.threads, unit.threads, [&](int part) {
    pack_weight<K>(view, groups, static_cast<const Real*>(unit.weight), share(sums, part, unit.threads),
                   share(sums, part + 1, unit.threads), weight);
  });

  for_each_part(unit.threads, parts, [&](int part) {
    const int64_t halo = geometry.largest_halo(), own = geometry.largest_box();
    const int64_t sources = geometry.sources();
    const auto* input = static_cast<const typename K::Stored*>(unit.input);
    Scratch& local = scratch_of_part();
    local.reset(2 * Scratch::bytes<int64_t>(halo * (1 + sources)) + Scratch::bytes<int64_t>(own) +
                Scratch::bytes<Segment>(taps * in_blocks) + Scratch::bytes<Packed>(halo * in_blocks * kBlock<K>) +
                Scratch::bytes<Real>(own * columns));
    int64_t* rows = local.take<int64_t>(halo * (1 + sources));
    int64_t* next_rows = local.take<int64_t>(halo * (1 + sources));
    int64_t* own_rows = local.take<int64_t>(own);
    Segment* segments = local.take<Segment>(taps * in_blocks);
    Packed* blocks = local.take<Packed>(halo * in_blocks * kBlock<K>);
    Real* tile = local.take<Real>(own * columns);
    Moments part_moments(moments + part * Moments::size(out), out);
    part_moments.clear(out);
    // Rows of the output with the halo, and behind them, where they differ, the rows of the input.
    const auto list_rows = [&](const Box& box, int64_t* list) {
      geometry.rows(box, true, list);
      if (pooled) geometry.input_rows(list, geometry.halo_pixels(box), list + halo);
    };
    const int64_t first_box = share(boxes, part, parts), end_box = share(boxes, part + 1, parts);
    list_rows(geometry.box(first_box), rows);
    for (int64_t i = first_box; i < end_box; i++) {
      const Box box = geometry.box(i), next_box = geometry.box(std::min(i + 1, end_box - 1));
      const int64_t halo_pixels = geometry.halo_pixels(box), block_step = halo_pixels * kBlock<K>;
      const int64_t* inputs = pooled ? rows + halo : rows;
      pack_input<K, pooled>(unit, affine, inputs, halo_pixels, geometry.sources(), blocks, block_step);
      const int64_t count = segments_of<K>(geometry, box, in, block_step, false, segments);
      list_rows(next_box, next_rows);
      geometry.rows(box, false, own_rows);
      // A kernel with neighbours reads whole rows of few channels: the processor sees those coming by itself.
      const int64_t wanted = taps == 1 && i + 1 < end_box ? geometry.halo_pixels(next_box) * sources : 0;
      const Prefetch ahead(input, unit.input_stride, in, pooled ? next_rows + halo : next_rows, wanted);
      Pace pace(wanted, box.pixels() * groups.count());
      for (int64_t g = 0; g < groups.count(); g++) {
        const int64_t column = groups.first(g) * kLanes<Real>;
        multiply_box<K>(geometry, box, segments, count, blocks, groups.size(g), weight + column * sums, tile, columns,
                        [&](int pixels) { pace.advance(pixels, [&](int64_t row) { ahead.row(row); }); });
        write_group<K>(unit, own_rows, box.pixels(), tile, columns, column, groups.size(g),
                       unit.output_mean ? &part_moments : nullptr);
      }
      *part_moments.count += static_cast<double>(box.pixels());
      std::swap(rows, next_rows);
    }
  });
  if (unit.output_mean) {
    Moments::finish(moments, parts, out, static_cast<Real*>(unit.output_mean),
                    static_cast<Real*>(unit.output_variance));
  }
}

}  // namespace DENSENETS_ISA

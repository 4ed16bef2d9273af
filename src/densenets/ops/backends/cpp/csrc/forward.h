// A unit forward: BN-ReLU on the way into the product, statistics of its result on the way out.
#pragma once

#include "matrix.h"
#include "moments.h"
#include "prefetch.h"

namespace DENSENETS_ISA {

// Bytes of a box that stay in the second-level cache beside the weights; pixels of one without neighbours.
// Processors that multiply matrices have larger caches, and look at the sums of a weight's gradient more often.
template <class K>
constexpr int64_t kBoxBytes = (K::in_matrices ? 512 : 256) * 1024;
template <class K>
constexpr int64_t kLinePixels = K::in_matrices ? 256 : 96;
constexpr int64_t kBoxPixels = 1024;

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
                  const typename K::Packed* blocks, int vectors, const typename K::Real* weight, typename K::Real* tile,
                  int64_t tile_stride, Between&& between) {
  const int64_t halo_height = geometry.halo(box.size, 1), halo_width = geometry.halo(box.size, 2);
  const int64_t width = box.size[2];
  const int64_t pieces = divide_up(width, most_rows<K>(vectors));
  for (int64_t piece = 0; piece < pieces; piece++) {
    const int64_t first = share(width, piece, pieces);
    const int rows = static_cast<int>(share(width, piece + 1, pieces) - first);
    const auto multiply = products_of<K>(vectors, rows);
    for (int64_t d = 0; d < box.size[0]; d++) {
      for (int64_t h = 0; h < box.size[1]; h++) {
        const int64_t from = (d * halo_height + h) * halo_width + first;
        const int64_t to = (d * box.size[1] + h) * width + first;
        multiply(blocks + from * kBlock<K>, segments, segment_count, weight, tile + to * tile_stride, tile_stride);
        between(rows);
      }
    }
  }
}

// Some columns of a tile on their way to the output: dropout, statistics, rounding to the data type.
template <class K, int vectors>
void write_columns(const Unit& unit, const int64_t* rows, int64_t pixels, typename K::Real* tile, int64_t stride,
                   int64_t first, Moments& moments) {
  using Real = typename K::Real;
  constexpr int64_t lanes = kLanes<Real>;
  const int64_t left = unit.out_channels - first;
  if (unit.dropout_mask) {
    for (int64_t pixel = 0; pixel < pixels; pixel++) {
      const uint8_t* mask = unit.dropout_mask + rows[pixel] * unit.out_channels + first;
      Real* values = tile + pixel * stride;
      for (int64_t c = 0; c < std::min<int64_t>(left, vectors * lanes); c++) {
        values[c] = mask[c] ? values[c] * static_cast<Real>(unit.dropout_scale) : 0;
      }
    }
  }
  auto* output = static_cast<typename K::Stored*>(unit.output) + first;
  Vector<Real> pivot[vectors] = {}, sum[vectors] = {}, squared[vectors] = {};
  if (unit.output_mean) {
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
  if (unit.output_mean) {
    for (int v = 0; v < vectors; v++) {
      moments.add_sums<Real>(first + v * lanes, unit.out_channels, pixels, pivot[v], sum[v], squared[v]);
    }
  }
}

template <class K>
void write_group(const Unit& unit, const int64_t* rows, int64_t pixels, typename K::Real* tile, int64_t stride,
                 int64_t first, int vectors, Moments& moments) {
  switch (vectors) {
    case 1: return write_columns<K, 1>(unit, rows, pixels, tile, stride, first, moments);
    case 2: return write_columns<K, 2>(unit, rows, pixels, tile, stride, first, moments);
    case 3: return write_columns<K, 3>(unit, rows, pixels, tile, stride, first, moments);
    default: return write_columns<K, kMaxVectors>(unit, rows, pixels, tile, stride, first, moments);
  }
}

// The numbers of a part's share of the boxes.
struct BoxRange {
  int64_t begin;
  int64_t end;

  BoxRange(const Geometry& geometry, int part, int parts)
      : begin(share(geometry.boxes(), part, parts)), end(share(geometry.boxes(), part + 1, parts)) {}

  int64_t next(int64_t i) const { return std::min(i + 1, end - 1); }
};

// As many parts as threads, if there are as many boxes.
inline int parts_of(const Unit& unit, const Geometry& geometry) {
  return static_cast<int>(std::min<int64_t>(unit.threads, geometry.boxes()));
}

// Calls pack(begin, end) on all threads for the sums of a weight.
template <class Pack>
void pack_in_parallel(const Unit& unit, int64_t sums, Pack&& pack) {
  for_each_part(unit.threads, unit.threads,
                [&](int part) { pack(share(sums, part, unit.threads), share(sums, part + 1, unit.threads)); });
}

// The statistics of a unit's result, if it wants them.
template <class Real>
void finish_moments(const Unit& unit, double* moments, int parts) {
  if (!unit.output_mean) return;
  Moments::finish(moments, parts, unit.out_channels, static_cast<Real*>(unit.output_mean),
                  static_cast<Real*>(unit.output_variance));
}

template <class K, bool pooled>
class Forward {
  using Real = typename K::Real;
  using Packed = typename K::Packed;

 public:
  explicit Forward(const Unit& unit)
      : unit_(unit), in_(unit.in_channels), out_(unit.out_channels), taps_(tap_count(unit)),
        in_blocks_(divide_up(in_, kElements<K>)),
        columns_(std::min<int64_t>(round_up(out_, kLanes<Real>), kMaxVectors * kLanes<Real>)),
        geometry_(unit, kBoxBytes<K>, taps_ == 1 ? kLinePixels<K> : kBoxPixels,
                  [&](int64_t halo, int64_t own) {
                    return halo * in_blocks_ * 64 + own * columns_ * static_cast<int64_t>(sizeof(Real));
                  }),
        view_(forward_view(unit, taps_)), groups_(groups_of<Real>(out_, kMaxVectors)), sums_(sums_of<K>(view_)) {}

  void run(Workspace& workspace) {
    const int parts = parts_of(unit_, geometry_);
    Real* coefficients;
    lay_out(workspace, [&](auto&& take) {
      take(weight_, packed_weight_size<K>(view_));
      take(coefficients, Affine<Real>::size(in_));
      take(moments_, parts * Moments::size(out_));
    });
    slices_ = slices_for(workspace, parts, [&](auto&& take) { Arrays().list(*this, take); });
    const Affine<Real> affine(unit_, coefficients);
    pack_in_parallel(unit_, sums_, [&](int64_t begin, int64_t end) {
      pack_weight<K>(view_, groups_, static_cast<const Real*>(unit_.weight), begin, end, weight_);
    });
    for_each_part(unit_.threads, parts, [&](int part) { run_part(affine, part, BoxRange(geometry_, part, parts)); });
    finish_moments<Real>(unit_, moments_, parts);
  }

 private:
  struct Arrays {
    int64_t* rows;  // of the output with the halo, and behind them, where they differ, of the input
    int64_t* next_rows;
    int64_t* own_rows;
    Segment* segments;
    Packed* blocks;
    Real* tile;

    template <class Take>
    void list(const Forward& unit, Take&& take) {
      const int64_t halo = unit.geometry_.largest_halo(), own = unit.geometry_.largest_box();
      take(rows, halo * (1 + unit.geometry_.sources()));
      take(next_rows, halo * (1 + unit.geometry_.sources()));
      take(own_rows, own);
      take(segments, unit.taps_ * unit.in_blocks_);
      take(blocks, halo * unit.in_blocks_ * kBlock<K>);
      take(tile, own * unit.columns_);
    }
  };

  void run_part(const Affine<Real>& affine, int part, BoxRange range) {
    Arrays arrays;
    place(slices_.of(part), [&](auto&& take) { arrays.list(*this, take); });
    Moments moments(moments_ + part * Moments::size(out_), out_);
    moments.clear(out_);
    list_rows(geometry_.box(range.begin), arrays.rows);
    for (int64_t i = range.begin; i < range.end; i++) {
      run_box(affine, geometry_.box(i), geometry_.box(range.next(i)), i + 1 == range.end, arrays, moments);
      std::swap(arrays.rows, arrays.next_rows);
    }
    release_registers<K>();
  }

  void run_box(const Affine<Real>& affine, const Box& box, const Box& next_box, bool last, const Arrays& arrays,
               Moments& moments) {
    const int64_t halo_pixels = geometry_.halo_pixels(box), block_step = halo_pixels * kBlock<K>;
    pack_input<K, pooled>(unit_, affine, inputs(arrays.rows), halo_pixels, geometry_.sources(), arrays.blocks,
                          block_step);
    const int64_t count = segments_of<K>(geometry_, box, in_, block_step, false, arrays.segments);
    list_rows(next_box, arrays.next_rows);
    geometry_.rows(box, false, arrays.own_rows);
    // A kernel with neighbours reads whole rows of few channels: the processor sees those coming by itself.
    const int64_t wanted = taps_ == 1 && !last ? geometry_.halo_pixels(next_box) * geometry_.sources() : 0;
    const auto* input = static_cast<const typename K::Stored*>(unit_.input);
    const Prefetch ahead(input, unit_.input_stride, in_, inputs(arrays.next_rows), wanted);
    Pace pace(wanted, box.pixels() * groups_.count());
    for (int64_t g = 0; g < groups_.count(); g++) {
      const int64_t column = groups_.first(g) * kLanes<Real>;
      multiply_box<K>(geometry_, box, arrays.segments, count, arrays.blocks, groups_.size(g), weight_ + column * sums_,
                      arrays.tile, columns_,
                      [&](int pixels) { pace.advance(pixels, [&](int64_t row) { ahead.row(row); }); });
      write_group<K>(unit_, arrays.own_rows, box.pixels(), arrays.tile, columns_, column, groups_.size(g), moments);
    }
    *moments.count += static_cast<double>(box.pixels());
  }

  void list_rows(const Box& box, int64_t* list) const {
    geometry_.rows(box, true, list);
    if (pooled) geometry_.input_rows(list, geometry_.halo_pixels(box), inputs(list));
  }

  int64_t* inputs(int64_t* rows) const { return pooled ? rows + geometry_.largest_halo() : rows; }

  const Unit& unit_;
  const int64_t in_, out_, taps_, in_blocks_;
  const int64_t columns_;  // of a group
  const Geometry geometry_;
  const WeightView view_;
  const Groups groups_;
  const int64_t sums_;
  Real* weight_;
  double* moments_;
  Slices slices_;
};

}  // namespace DENSENETS_ISA

// 3x3 convolutions by minimal filtering, F(2x2, 3x3) (Winograd 1980; Lavin and Gray 2016): a tile of 2 x 2 results
// is made from 4 x 4 values at 16 points, by 16 multiplications in the place of 36. Of a kernel with three
// dimensions the first is summed directly.
//
// At each point the products of all tiles are one matrix product, by the same inner loops as any other.
#pragma once

#include "pack.h"

namespace DENSENETS_ISA {

constexpr int kPoints = 16;

// A side of one pixel leaves nothing to share in a tile.
inline bool has_tiles(const Unit& unit) {
  return unit.taps[1] == 3 && unit.taps[2] == 3 && unit.sides[1] > 1 && unit.sides[2] > 1;
}

// The data type whose blocks hold single elements, in the precision of the sums.
template <class K>
struct PlainOf {
  using type = K;
};
template <>
struct PlainOf<BFloat16Pairs> {
  using type = BFloat16;
};
template <class K>
using Plain = typename PlainOf<K>::type;

// A box in tiles; its last row and column of them may reach over its edge.
struct Tiles {
  int64_t depth;
  int64_t height;
  int64_t width;
  int64_t halo_depth;

  Tiles(const int64_t* size, int depth_taps)
      : depth(size[0]), height((size[1] + 1) / 2), width((size[2] + 1) / 2), halo_depth(size[0] + depth_taps - 1) {}

  int64_t plane() const { return height * width; }
  int64_t count() const { return depth * plane(); }
  int64_t halo_count() const { return halo_depth * plane(); }
  int64_t halo_width() const { return 2 * width + 2; }
  int64_t halo_plane() const { return (2 * height + 2) * halo_width(); }
  int64_t halo_pixels() const { return halo_depth * halo_plane(); }
};

// The box with the pixels that its last tiles have beyond its edge.
inline Box in_whole_tiles(Box box) {
  box.size[1] = round_up(box.size[1], 2);
  box.size[2] = round_up(box.size[2], 2);
  return box;
}

// From a point to the next: an odd number of cache lines, for even ones would compete for the same sets.
template <class T>
int64_t point_step(int64_t elements) {
  constexpr int64_t line = 64 / sizeof(T);
  return (divide_up(elements, line) | 1) * line;
}

// Four values at a stride, by the matrix for the side with the halo: B^T d.
template <class V>
DENSENETS_INLINE void transform_line(V* d, int step) {
  const V first = d[0] - d[2 * step], second = d[step] + d[2 * step];
  const V third = d[2 * step] - d[step], fourth = d[step] - d[3 * step];
  d[0] = first, d[step] = second, d[2 * step] = third, d[3 * step] = fourth;
}

// B^T d B.
template <class V>
DENSENETS_INLINE void transform_halo(V (&d)[kPoints]) {
#pragma GCC unroll 4
  for (int i = 0; i < 4; i++) transform_line(d + 4 * i, 1);
#pragma GCC unroll 4
  for (int i = 0; i < 4; i++) transform_line(d + i, 4);
}

// A a A^T: 2 x 2 values to 16 points.
template <class V>
DENSENETS_INLINE void transform_tile(const V (&a)[4], V (&points)[kPoints]) {
  V lines[8];
#pragma GCC unroll 2
  for (int i = 0; i < 2; i++) {
    const V left = a[2 * i], right = a[2 * i + 1];
    lines[4 * i] = left, lines[4 * i + 1] = left + right, lines[4 * i + 2] = left - right, lines[4 * i + 3] = -right;
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; i++) {
    const V upper = lines[i], lower = lines[4 + i];
    points[i] = upper, points[4 + i] = upper + lower, points[8 + i] = upper - lower, points[12 + i] = -lower;
  }
}

// A^T m A: 16 points to 2 x 2 results.
template <class V>
DENSENETS_INLINE void tile_of_points(const V (&m)[kPoints], V (&results)[4]) {
  V lines[8];
#pragma GCC unroll 4
  for (int i = 0; i < 4; i++) {
    lines[i] = m[i] + m[4 + i] + m[8 + i];
    lines[4 + i] = m[4 + i] - m[8 + i] - m[12 + i];
  }
#pragma GCC unroll 2
  for (int i = 0; i < 2; i++) {
    results[2 * i] = lines[4 * i] + lines[4 * i + 1] + lines[4 * i + 2];
    results[2 * i + 1] = lines[4 * i + 1] - lines[4 * i + 2] - lines[4 * i + 3];
  }
}

// G g G^T: a kernel of 3 x 3 to 16 points.
template <class V>
DENSENETS_INLINE void transform_kernel(const V (&g)[9], V (&points)[kPoints]) {
  V lines[12];
#pragma GCC unroll 3
  for (int i = 0; i < 3; i++) {
    const V outer = (g[i] + g[6 + i]) * 0.5f, middle = g[3 + i] * 0.5f;
    lines[i] = g[i], lines[3 + i] = outer + middle, lines[6 + i] = outer - middle, lines[9 + i] = g[6 + i];
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; i++) {
    const V* line = lines + 3 * i;
    const V outer = (line[0] + line[2]) * 0.5f, middle = line[1] * 0.5f;
    points[4 * i] = line[0], points[4 * i + 1] = outer + middle;
    points[4 * i + 2] = outer - middle, points[4 * i + 3] = line[2];
  }
}

// G^T u G: what 16 points give to the gradient of a kernel of 3 x 3.
template <class V>
DENSENETS_INLINE void kernel_of_points(const V (&u)[kPoints], V (&g)[9]) {
  V lines[12];
#pragma GCC unroll 4
  for (int i = 0; i < 4; i++) {
    const V sum = (u[4 + i] + u[8 + i]) * 0.5f, difference = (u[4 + i] - u[8 + i]) * 0.5f;
    lines[i] = u[i] + sum, lines[4 + i] = difference, lines[8 + i] = sum + u[12 + i];
  }
#pragma GCC unroll 3
  for (int i = 0; i < 3; i++) {
    const V* line = lines + 4 * i;
    const V sum = (line[1] + line[2]) * 0.5f, difference = (line[1] - line[2]) * 0.5f;
    g[3 * i] = line[0] + sum, g[3 * i + 1] = difference, g[3 * i + 2] = sum + line[3];
  }
}

// An element's place in a block of packed channels, and a vector stored there.
template <class K>
DENSENETS_INLINE void store_channels(typename K::Packed* block, int64_t channel, Vector<typename K::Real> values) {
  if constexpr (K::pair == 1) store(block + channel, values);
#if defined(__AVX512BF16__)
  if constexpr (K::pair == 2) store_first(reinterpret_cast<bfloat16*>(block) + channel, values, kLanes<float>);
#endif
}

// Blocks of a box with its halo, pixel by pixel, to the blocks of each point, tile by tile.
template <class K>
void tiles_of_halo(const Tiles& tiles, const typename K::Real* halo, int64_t halo_block, int64_t channels,
                   typename K::Packed* points, int64_t point, int64_t block) {
  using Real = typename K::Real;
  constexpr int64_t halo_step = kBlock<Plain<K>>;
  const int64_t line = tiles.halo_width() * halo_step;
  for (int64_t c = 0; c < channels; c += kLanes<Real>) {
    const Real* from = halo + c / halo_step * halo_block + c % halo_step;
    typename K::Packed* to = points + c / kElements<K> * block;
    for (int64_t d = 0; d < tiles.halo_depth; d++, from += tiles.halo_plane() * halo_step) {
      for (int64_t h = 0; h < tiles.height; h++) {
        const Real* corner = from + 2 * h * line;
        for (int64_t w = 0; w < tiles.width; w++, corner += 2 * halo_step, to += kBlock<K>) {
          Vector<Real> values[kPoints];
#pragma GCC unroll 16
          for (int i = 0; i < kPoints; i++) values[i] = load(corner + i / 4 * line + i % 4 * halo_step);
          transform_halo(values);
#pragma GCC unroll 16
          for (int i = 0; i < kPoints; i++) store_channels<K>(to + i * point, c % kElements<K>, values[i]);
        }
      }
    }
  }
}

// A weight's view with the taps in depth alone: the others are those of the points.
inline WeightView tile_view(const Unit& unit, WeightView view) {
  view.taps = unit.taps[0];
  return view;
}

// The products of some columns at all points, for all tiles of a box: points[point][tile][column]. `between` is
// called again and again in the meantime.
template <class K, class Between>
void multiply_tiles(const Tiles& tiles, const Segment* segments, int64_t segment_count,
                    const typename K::Packed* blocks, int64_t block_point, int vectors, const typename K::Real* weight,
                    int64_t weight_point, typename K::Real* points, int64_t point, int64_t stride, Between&& between) {
  const int64_t count = tiles.count(), pieces = divide_up(count, max_rows(vectors));
  for (int i = 0; i < kPoints; i++) {
    for (int64_t piece = 0; piece < pieces; piece++) {
      const int64_t first = share(count, piece, pieces);
      const int rows = static_cast<int>(share(count, piece + 1, pieces) - first);
      sum_products_of<K>(vectors, rows)(blocks + i * block_point + first * kBlock<K>, segments, segment_count,
                                        weight + i * weight_point, points + i * point + first * stride, stride);
      between(rows);
    }
  }
}

// The parts of a sum over the taps in depth and all blocks of `channels`.
template <class K>
int64_t tile_segments(const Tiles& tiles, int depth_taps, int64_t channels, int64_t block, Segment* segments) {
  Segment* segment = segments;
  for (int tap = 0; tap < depth_taps; tap++) {
    for (int64_t first = 0; first < channels; first += kElements<K>, segment++) {
      segment->offset = tap * tiles.plane() * kBlock<K> + first / kElements<K> * block;
      segment->length = divide_up(std::min(kElements<K>, channels - first), K::pair);
    }
  }
  return segment - segments;
}

// The four pixels of each tile, by their place in the box, or kOutside.
inline void list_pixels(const Tiles& tiles, const Box& box, int64_t* places) {
  for (int64_t d = 0; d < tiles.depth; d++) {
    for (int64_t h = 0; h < tiles.height; h++) {
      for (int64_t w = 0; w < tiles.width; w++) {
        for (int64_t i = 0; i < 4; i++) {
          const int64_t y = 2 * h + i / 2, x = 2 * w + i % 2;
          *places++ = y < box.size[1] && x < box.size[2] ? (d * box.size[1] + y) * box.size[2] + x : kOutside;
        }
      }
    }
  }
}

// The sums of some columns at all points back to the pixels of a box.
template <class K>
void pixels_of_points(int64_t tiles, const int64_t* places, int vectors, const typename K::Real* points, int64_t point,
                      int64_t stride, typename K::Real* pixels) {
  using Real = typename K::Real;
  for (int64_t tile = 0; tile < tiles; tile++, places += 4) {
    for (int64_t lane = 0; lane < vectors * kLanes<Real>; lane += kLanes<Real>) {
      Vector<Real> sums[kPoints], results[4];
#pragma GCC unroll 16
      for (int i = 0; i < kPoints; i++) sums[i] = load(points + i * point + tile * stride + lane);
      tile_of_points(sums, results);
#pragma GCC unroll 4
      for (int i = 0; i < 4; i++) {
        if (places[i] != kOutside) store(pixels + places[i] * stride + lane, results[i]);
      }
    }
  }
}

// A tile's values of a vector of channels at all points.
template <class K>
DENSENETS_INLINE void points_of_tile(const typename K::Real* pixels, const int64_t* places,
                                     Vector<typename K::Real> (&points)[kPoints]) {
  Vector<typename K::Real> values[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; i++) {
    values[i] = places[i] == kOutside ? Vector<typename K::Real>{} : load(pixels + places[i] * kBlock<Plain<K>>);
  }
  transform_tile(values, points);
}

// The pixels of a box, in blocks, to the blocks of each point: tile by tile, or pair by pair of them for products
// of pairs.
template <class K>
void points_of_pixels(int64_t tiles, const int64_t* places, const typename K::Real* pixels, int64_t pixel_block,
                      int64_t vectors, typename K::Packed* points, int64_t point, int64_t block) {
  using Real = typename K::Real;
  constexpr int64_t pixel_step = kBlock<Plain<K>>;
  for (int64_t lane = 0; lane < vectors * kLanes<Real>; lane += kLanes<Real>) {
    const Real* from = pixels + lane / pixel_step * pixel_block + lane % pixel_step;
    typename K::Packed* to = points + lane / kBlock<K> * block + lane % kBlock<K>;
    for (int64_t tile = 0; tile < tiles; tile += K::pair, to += kBlock<K>) {
      Vector<Real> one[kPoints];
      points_of_tile<K>(from, places + tile * 4, one);
      if constexpr (K::pair == 1) {
#pragma GCC unroll 16
        for (int i = 0; i < kPoints; i++) store(to + i * point, one[i]);
      }
#if defined(__AVX512BF16__)
      if constexpr (K::pair == 2) {
        Vector<Real> other[kPoints] = {};
        if (tile + 1 < tiles) points_of_tile<K>(from, places + tile * 4 + 4, other);
#pragma GCC unroll 16
        for (int i = 0; i < kPoints; i++) _mm512_store_si512(to + i * point, zip_halves(both(one[i], other[i])));
      }
#endif
    }
  }
}

// Packs the sums [begin, end) of every group of columns, at all points. `mirrored`: the taps of the backward
// pass. The view's taps are those in depth.
template <class K>
void pack_tile_weight(const WeightView& view, const Groups& groups, const typename K::Real* weight, bool mirrored,
                      int64_t begin, int64_t end, typename K::Real* packed, int64_t point) {
  using Real = typename K::Real;
  constexpr int64_t lanes = kLanes<Real>;
  const int64_t per_tap = divide_up(view.summed, K::pair);
  WeightPiece<Real> piece;
  const auto at_points = [&](int64_t tap, int64_t element, int64_t column, Vector<Real>(&points)[kPoints]) {
    Vector<Real> kernel[9] = {};
    if (element < view.summed) {
      const Real* at = weight + (mirrored ? view.taps - 1 - tap : tap) * 9 + element * view.summed_step;
      piece.gather(at + column * view.column_step, 9, 1, view.columns - column, view.column_step);
      for (int i = 0; i < 9; i++) kernel[i] = load(piece.values[mirrored ? 8 - i : i]);
    }
    transform_kernel(kernel, points);
  };
  for (int64_t g = 0; g < groups.count(); g++) {
    const int64_t first = groups.first(g) * lanes, width = groups.size(g) * lanes;
    for (int64_t sum = begin; sum < end; sum++) {
      Real* out = packed + first * sums_of<K>(view) + sum * width;
      const int64_t tap = sum / per_tap, element = sum % per_tap * K::pair;
      for (int64_t column = 0; column < width; column += lanes) {
        Vector<Real> low[kPoints];
        at_points(tap, element, first + column, low);
#if defined(__AVX512BF16__)
        if constexpr (K::pair == 2) {
          Vector<Real> high[kPoints];
          at_points(tap, element + 1, first + column, high);
          for (int i = 0; i < kPoints; i++)
            _mm512_storeu_si512(out + i * point + column, zip_halves(both(low[i], high[i])));
        }
#endif
        if constexpr (K::pair == 1) {
          for (int i = 0; i < kPoints; i++) store(out + i * point + column, low[i]);
        }
      }
    }
  }
}

}  // namespace DENSENETS_ISA

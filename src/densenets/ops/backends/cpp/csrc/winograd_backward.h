// A unit with a 3x3 kernel backward, in tiles: the gradient of its result has the halo, and its 16 points serve
// the gradients of the input and of the weight.
#pragma once

#include "backward.h"
#include "winograd_forward.h"

namespace DENSENETS_ISA {

// sums[point][depth tap][m][c] += the weight's gradient from a box, for a group of columns.
template <class K>
void add_tile_weight_gradient(const Unit& unit, const Tiles& tiles, const typename K::Packed* gradients,
                              int64_t gradient_point, int64_t gradient_block, const typename K::Packed* activations,
                              int64_t activation_point, int64_t activation_block, int64_t first_vector, int vectors,
                              typename K::Real* sums, int64_t stride) {
  const Runs runs = {1, divide_up(tiles.count(), K::pair), 0, 0, K::pair * kBlock<K>};
  const int64_t out = unit.out_channels;
  for (int point = 0; point < kPoints; point++) {
    for (int tap = 0; tap < unit.taps[0]; tap++) {
      for (int64_t block = 0; block < out; block += kBlock<K>) {
        const int64_t left = std::min<int64_t>(kBlock<K>, out - block), pieces = divide_up(left, max_rows(vectors));
        const auto* from =
            gradients + point * gradient_point + block / kBlock<K> * gradient_block + tap * tiles.plane() * kBlock<K>;
        for (int64_t piece = 0; piece < pieces; piece++) {
          const int64_t first = share(left, piece, pieces);
          const int rows = static_cast<int>(share(left, piece + 1, pieces) - first);
          add_products_of<K>(vectors, rows)(
              from + first, activations + point * activation_point, activation_block, first_vector, runs,
              sums + ((point * unit.taps[0] + tap) * out + block + first) * stride, stride);
        }
      }
    }
  }
}

// From the sums of all parts, in their order, to the weight's gradient.
template <class K>
void finish_tile_weight(const Unit& unit, const GradientSums<typename K::Real>& sums, int64_t stride, int parts) {
  using Real = typename K::Real;
  const int64_t in = unit.in_channels, out = unit.out_channels, depth = unit.taps[0];
  for_each_part(unit.threads, unit.threads, [&](int share_of) {
    for (int64_t row = share(depth * out, share_of, unit.threads); row < share(depth * out, share_of + 1, unit.threads);
         row++) {
      const int64_t tap = depth - 1 - row / out, m = row % out;
      for (int64_t c = 0; c < in; c += kLanes<Real>) {
        Vector<Real> points[kPoints] = {}, kernel[9];
        for (int part = 0; part < parts; part++) {
          const Real* at = sums.weight_of(part) + row * stride + c;
          for (int i = 0; i < kPoints; i++) points[i] += load(at + i * depth * out * stride);
        }
        kernel_of_points(points, kernel);
        for (int64_t lane = 0; lane < kLanes<Real> && c + lane < in; lane++) {
          Real* gradient = static_cast<Real*>(unit.weight_gradient) + ((m * in + c + lane) * depth + tap) * 9;
          for (int i = 0; i < 9; i++) gradient[i] = kernel[8 - i][lane];
        }
      }
    }
  });
}

template <class K>
class BackwardInTiles {
  using Real = typename K::Real;
  using Packed = typename K::Packed;
  static constexpr int64_t kPlain = kBlock<Plain<K>>;
  static constexpr int64_t kGroupColumns = kMaxVectors * kLanes<Real>;
  static constexpr int64_t kGroupBlocks = divide_up(kGroupColumns, kBlock<K>) + 1;

 public:
  explicit BackwardInTiles(const Unit& unit)
      : unit_(unit), in_(unit.in_channels), out_(unit.out_channels), columns_(round_up(in_, kLanes<Real>)),
        plain_blocks_(divide_up(out_, kPlain)), sum_blocks_(divide_up(out_, kElements<K>)),
        pair_blocks_(K::pair == 2 ? divide_up(out_, kBlock<K>) : 0),
        geometry_(
            unit, kTileBytes, kBoxPixels,
            [&](int64_t halo, int64_t own) {
              return halo * plain_blocks_ * 64 + own * 4 * (sum_blocks_ + pair_blocks_) * 64 +
                     own * (5 * kGroupColumns * static_cast<int64_t>(sizeof(Real)) + kGroupBlocks * 64);
            },
            2),
        most_(geometry_.largest(), unit.taps[0]), view_(tile_view(unit, backward_view(unit, tap_count(unit)))),
        groups_(groups_of<Real>(in_, kMaxVectors)), sums_(sums_of<K>(view_)),
        weight_point_(point_step<Real>(packed_weight_size<K>(view_))), block_((most_.halo_count() + 1) * kBlock<K>),
        block_point_(point_step<Packed>(sum_blocks_ * block_)),
        pair_point_(point_step<Packed>(pair_blocks_ * most_.halo_count() * kBlock<K>)),
        point_(point_step<Real>(most_.count() * kGroupColumns)),
        activation_block_(divide_up(most_.count(), K::pair) * kBlock<K>),
        activation_point_(point_step<Packed>(kGroupBlocks * activation_block_)) {}

  void run(Workspace& workspace) {
    const int parts = parts_of(unit_, geometry_);
    Real *coefficients, *correction;
    gradients_ = {nullptr, nullptr, kPoints * unit_.taps[0] * out_ * columns_, in_};
    lay_out(workspace, [&](auto&& take) {
      take(weight_, kPoints * weight_point_);
      take(coefficients, Affine<Real>::size(in_));
      take(correction, BatchNormGradCorrection<K>::size(out_));
      take(gradients_.weight, parts * gradients_.weight_size);
      take(gradients_.channels, 2 * parts * in_);
    });
    slices_ = slices_for(workspace, parts, [&](auto&& take) { Arrays().list(*this, take); });
    const Affine<Real> affine(unit_, coefficients);
    const BatchNormGradCorrection<Plain<K>> correct(unit_, correction);
    pack_in_parallel(unit_, sums_, [&](int64_t begin, int64_t end) {
      pack_tile_weight<K>(view_, groups_, static_cast<const Real*>(unit_.weight), true, begin, end, weight_,
                          weight_point_);
    });
    for_each_part(unit_.threads, parts,
                  [&](int part) { run_part(affine, correct, part, BoxRange(geometry_, part, parts)); });
    finish_tile_weight<K>(unit_, gradients_, columns_, parts);
    finish_channels(unit_, affine, gradients_, parts);
  }

 private:
  struct Arrays {
    int64_t* rows;
    int64_t* next_rows;
    int64_t* own_rows;
    int64_t* places;
    Segment* segments;
    Real* gradient_pixels;  // the box with its halo
    Packed* gradients;      // the same at all points
    Packed* pairs;          // the same, tile by tile, where products take pairs
    Real* points;           // products
    Real* tile;
    Real* activation_pixels;
    Packed* activations;  // the same at all points

    template <class Take>
    void list(const BackwardInTiles& unit, Take&& take) {
      const int64_t halo = unit.geometry_.largest_halo(), own = unit.geometry_.largest_box();
      take(rows, halo);
      take(next_rows, halo);
      take(own_rows, own);
      take(places, own);
      take(segments, unit.unit_.taps[0] * unit.sum_blocks_);
      take(gradient_pixels, halo * unit.plain_blocks_ * kPlain);
      take(gradients, kPoints * unit.block_point_);
      take(pairs, kPoints * unit.pair_point_);
      take(points, kPoints * unit.point_);
      take(tile, own * kGroupColumns);
      take(activation_pixels, own * kGroupBlocks * kPlain);
      take(activations, kPoints * unit.activation_point_);
    }
  };

  void run_part(const Affine<Real>& affine, const BatchNormGradCorrection<Plain<K>>& correct, int part,
                BoxRange range) {
    Arrays arrays;
    place(slices_.of(part), [&](auto&& take) { arrays.list(*this, take); });
    gradients_.clear(part);
    geometry_.rows(in_whole_tiles(geometry_.box(range.begin)), true, arrays.rows);
    for (int64_t i = range.begin; i < range.end; i++) {
      const Box box = geometry_.box(i), next_box = in_whole_tiles(geometry_.box(range.next(i)));
      pack_box(correct, box, arrays);
      geometry_.rows(next_box, true, arrays.next_rows);
      run_box(affine, part, box, i + 1 < range.end ? geometry_.halo_pixels(next_box) : 0, arrays);
      std::swap(arrays.rows, arrays.next_rows);
    }
  }

  // The corrected gradients of a box with its halo, at all points.
  void pack_box(const BatchNormGradCorrection<Plain<K>>& correct, const Box& box, const Arrays& arrays) const {
    const Tiles tiles(box.size, unit_.taps[0]);
    const int64_t pixel_block = tiles.halo_pixels() * kPlain;
    pack_gradient<Plain<K>>(unit_, correct, arrays.rows, tiles.halo_pixels(), arrays.gradient_pixels, pixel_block);
    tiles_of_halo<K>(tiles, arrays.gradient_pixels, pixel_block, out_, arrays.gradients, block_point_, block_);
    if constexpr (K::pair == 2) {
      for (int i = 0; i < kPoints; i++) {
        pair_pixels(arrays.gradients + i * block_point_, block_, out_, tiles.halo_count(),
                    arrays.pairs + i * pair_point_);
      }
    }
    geometry_.rows(box, false, arrays.own_rows);
    list_pixels(tiles, box, arrays.places);
  }

  // Everything behind the gradients of a box; meanwhile the next one's few columns of gradient and result, which lie
  // far apart, are on their way: `wanted` rows.
  void run_box(const Affine<Real>& affine, int part, const Box& box, int64_t wanted, const Arrays& arrays) const {
    const Tiles tiles(box.size, unit_.taps[0]);
    const int64_t count = tile_segments<K>(tiles, unit_.taps[0], out_, block_, arrays.segments);
    const InputPass<Plain<K>> pass = {unit_,
                                      affine,
                                      arrays.own_rows,
                                      1,
                                      box,
                                      arrays.tile,
                                      kGroupColumns,
                                      arrays.activation_pixels,
                                      box.pixels() * kPlain,
                                      gradients_.shift_of(part),
                                      gradients_.scale_of(part)};
    const auto* gradient = static_cast<const typename K::Stored*>(unit_.output_gradient);
    const auto* result = static_cast<const typename K::Stored*>(unit_.result);
    const Prefetch gradient_ahead(gradient, unit_.output_gradient_stride, out_, arrays.next_rows, wanted);
    const Prefetch result_ahead(result, unit_.result_stride, result ? out_ : 0, arrays.next_rows, wanted);
    Pace pace(wanted, kPoints * tiles.count() * groups_.count());
    const auto between = [&](int done) {
      pace.advance(done, [&](int64_t row) {
        gradient_ahead.row(row);
        result_ahead.row(row);
      });
    };
    for (int64_t g = 0; g < groups_.count(); g++) {
      const int64_t first = groups_.first(g) * kLanes<Real>, phase = first % kPlain / kLanes<Real>;
      const int vectors = groups_.size(g);
      multiply_tiles<K>(tiles, arrays.segments, count, arrays.gradients, block_point_, vectors, weight_ + first * sums_,
                        weight_point_, arrays.points, point_, kGroupColumns, between);
      pixels_of_points<K>(tiles.count(), arrays.places, vectors, arrays.points, point_, kGroupColumns, arrays.tile);
      pass_group<Plain<K>, false>(pass, first, vectors);
      points_of_pixels<K>(tiles.count(), arrays.places, arrays.activation_pixels, box.pixels() * kPlain,
                          phase + vectors, arrays.activations, activation_point_, activation_block_);
      add_tile_weight_gradient<K>(
          unit_, tiles, K::pair == 2 ? arrays.pairs : arrays.gradients, K::pair == 2 ? pair_point_ : block_point_,
          K::pair == 2 ? tiles.halo_count() * kBlock<K> : block_, arrays.activations, activation_point_,
          activation_block_, phase, vectors, gradients_.weight_of(part) + first, columns_);
    }
  }

  const Unit& unit_;
  const int64_t in_, out_, columns_, plain_blocks_, sum_blocks_, pair_blocks_;
  const Geometry geometry_;
  const Tiles most_;
  const WeightView view_;
  const Groups groups_;
  const int64_t sums_, weight_point_, block_, block_point_, pair_point_, point_, activation_block_, activation_point_;
  Real* weight_;
  GradientSums<Real> gradients_;
  Slices slices_;
};

}  // namespace DENSENETS_ISA

// A unit with a 3x3 kernel forward, in tiles.
#pragma once

#include "forward.h"
#include "winograd.h"

namespace DENSENETS_ISA {

// Bytes of a box in tiles, which has 16 points for 4 pixels.
constexpr int64_t kTileBytes = 512 * 1024;

template <class K>
class ForwardInTiles {
  using Real = typename K::Real;
  using Packed = typename K::Packed;
  static constexpr int64_t kPlain = kBlock<Plain<K>>;

 public:
  explicit ForwardInTiles(const Unit& unit)
      : unit_(unit), in_(unit.in_channels), out_(unit.out_channels), plain_blocks_(divide_up(in_, kPlain)),
        in_blocks_(divide_up(in_, kElements<K>)),
        columns_(std::min<int64_t>(round_up(out_, kLanes<Real>), kMaxVectors * kLanes<Real>)),
        geometry_(
            unit, kTileBytes, kBoxPixels,
            [&](int64_t halo, int64_t own) {
              return halo * plain_blocks_ * 64 + own * 4 * in_blocks_ * 64 +
                     own * 5 * columns_ * static_cast<int64_t>(sizeof(Real));
            },
            2),
        most_(geometry_.largest(), unit.taps[0]), view_(tile_view(unit, forward_view(unit, tap_count(unit)))),
        groups_(groups_of<Real>(out_, kMaxVectors)), sums_(sums_of<K>(view_)),
        weight_point_(point_step<Real>(packed_weight_size<K>(view_))), block_(most_.halo_count() * kBlock<K>),
        block_point_(point_step<Packed>(in_blocks_ * block_)), point_(point_step<Real>(most_.count() * columns_)) {}

  void run(Workspace& workspace) {
    const int parts = parts_of(unit_, geometry_);
    Real* coefficients;
    lay_out(workspace, [&](auto&& take) {
      take(weight_, kPoints * weight_point_);
      take(coefficients, Affine<Real>::size(in_));
      take(moments_, parts * Moments::size(out_));
    });
    slices_ = slices_for(workspace, parts, [&](auto&& take) { Arrays().list(*this, take); });
    const Affine<Real> affine(unit_, coefficients);
    pack_in_parallel(unit_, sums_, [&](int64_t begin, int64_t end) {
      pack_tile_weight<K>(view_, groups_, static_cast<const Real*>(unit_.weight), false, begin, end, weight_,
                          weight_point_);
    });
    for_each_part(unit_.threads, parts, [&](int part) { run_part(affine, part, BoxRange(geometry_, part, parts)); });
    finish_moments<Real>(unit_, moments_, parts);
  }

 private:
  struct Arrays {
    int64_t* rows;
    int64_t* own_rows;
    int64_t* places;
    Segment* segments;
    Real* pixels;    // BN-ReLU of the box with its halo
    Packed* blocks;  // the same at all points
    Real* points;    // products
    Real* tile;

    template <class Take>
    void list(const ForwardInTiles& unit, Take&& take) {
      const int64_t halo = unit.geometry_.largest_halo(), own = unit.geometry_.largest_box();
      take(rows, halo);
      take(own_rows, own);
      take(places, own);
      take(segments, unit.unit_.taps[0] * unit.in_blocks_);
      take(pixels, halo * unit.plain_blocks_ * kPlain);
      take(blocks, kPoints * unit.block_point_);
      take(points, kPoints * unit.point_);
      take(tile, own * unit.columns_);
    }
  };

  void run_part(const Affine<Real>& affine, int part, BoxRange range) {
    Arrays arrays;
    place(slices_.of(part), [&](auto&& take) { arrays.list(*this, take); });
    Moments moments(moments_ + part * Moments::size(out_), out_);
    moments.clear(out_);
    for (int64_t i = range.begin; i < range.end; i++) run_box(affine, geometry_.box(i), arrays, moments);
  }

  void run_box(const Affine<Real>& affine, const Box& box, const Arrays& arrays, Moments& moments) {
    const Tiles tiles(box.size, unit_.taps[0]);
    const int64_t halo_pixels = tiles.halo_pixels(), pixel_block = halo_pixels * kPlain;
    geometry_.rows(in_whole_tiles(box), true, arrays.rows);
    geometry_.rows(box, false, arrays.own_rows);
    list_pixels(tiles, box, arrays.places);
    pack_input<Plain<K>, false>(unit_, affine, arrays.rows, halo_pixels, 1, arrays.pixels, pixel_block);
    tiles_of_halo<K>(tiles, arrays.pixels, pixel_block, in_, arrays.blocks, block_point_, block_);
    const int64_t count = tile_segments<K>(tiles, unit_.taps[0], in_, block_, arrays.segments);
    for (int64_t g = 0; g < groups_.count(); g++) {
      const int64_t column = groups_.first(g) * kLanes<Real>;
      const int vectors = groups_.size(g);
      multiply_tiles<K>(tiles, arrays.segments, count, arrays.blocks, block_point_, vectors, weight_ + column * sums_,
                        weight_point_, arrays.points, point_, columns_, [](int) {});
      pixels_of_points<K>(tiles.count(), arrays.places, vectors, arrays.points, point_, columns_, arrays.tile);
      write_group<K>(unit_, arrays.own_rows, box.pixels(), arrays.tile, columns_, column, vectors, moments);
    }
    *moments.count += static_cast<double>(box.pixels());
  }

  const Unit& unit_;
  const int64_t in_, out_, plain_blocks_, in_blocks_;
  const int64_t columns_;  // of a group
  const Geometry geometry_;
  const Tiles most_;
  const WeightView view_;
  const Groups groups_;
  const int64_t sums_, weight_point_, block_, block_point_, point_;
  Real* weight_;
  double* moments_;
  Slices slices_;
};

}  // namespace DENSENETS_ISA

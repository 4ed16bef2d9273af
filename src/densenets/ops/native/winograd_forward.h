// A unit with a 3x3 kernel forward, in tiles.
#pragma once

#include "forward.h"
#include "winograd.h"

namespace DENSENETS_ISA {

// Bytes of a box in tiles, which has 16 points for 4 pixels.
constexpr int64_t kTileBytes = 512 * 1024;

template <class K>
void forward_in_tiles(const Unit& unit) {
  using Real = typename K::Real;
  using Packed = typename K::Packed;
  const int64_t in = unit.in_channels, out = unit.out_channels;
  const int64_t plain_blocks = divide_up(in, kBlock<Plain<K>>), blocks_in = divide_up(in, kElements<K>);
  const int64_t columns = std::min<int64_t>(round_up(out, kLanes<Real>), kMaxVectors * kLanes<Real>);  // of a group
  const Geometry geometry(unit, kTileBytes, kBoxPixels, [&](int64_t halo, int64_t own) {
    return halo * plain_blocks * 64 + own * (4 * blocks_in * 64 + 5 * columns * static_cast<int64_t>(sizeof(Real)));
  }, 2);
  const Tiles most(geometry.largest(), unit.taps[0]);
  WeightView view = forward_view(unit, tap_count(unit));
  view.taps = unit.taps[0];
  const Groups groups = groups_of<Real>(out, kMaxVectors);
  const int64_t sums = sums_of<K>(view), weight_point = point_step<Real>(packed_weight_size<K>(view));
  const int64_t boxes = geometry.boxes();
  const int parts = static_cast<int>(std::min<int64_t>(unit.threads, boxes));
  const int64_t coefficients = Affine<Real>::arrays * round_up(in, kChannelStep);

  Scratch& scratch = scratch_of_caller();
  scratch.reset(Scratch::bytes<Real>(kPoints * weight_point) + Scratch::bytes<Real>(coefficients) +
                Scratch::bytes<double>(parts * Moments::size(out)));
  Real* weight = scratch.take<Real>(kPoints * weight_point);
  const Affine<Real> affine(unit, scratch.take<Real>(coefficients));
  double* moments = scratch.take<double>(parts * Moments::size(out));
  for_each_part(unit.threads, unit.threads, [&](int part) {
    pack_tile_weight<K>(view, groups, static_cast<const Real*>(unit.weight), false, share(sums, part, unit.threads),
                        share(sums, part + 1, unit.threads), weight, weight_point);
  });

  for_each_part(unit.threads, parts, [&](int part) {
    const int64_t halo = geometry.largest_halo(), own = geometry.largest_box();
    const int64_t block = most.halo_count() * kBlock<K>, block_point = point_step<Packed>(blocks_in * block);
    const int64_t point = point_step<Real>(most.count() * columns);
    Scratch& local = scratch_of_part();
    local.reset(Scratch::bytes<int64_t>(halo) + 2 * Scratch::bytes<int64_t>(own) +
                Scratch::bytes<Segment>(unit.taps[0] * blocks_in) +
                Scratch::bytes<Real>(halo * plain_blocks * kBlock<Plain<K>>) +
                Scratch::bytes<Packed>(kPoints * block_point) + Scratch::bytes<Real>(kPoints * point) +
                Scratch::bytes<Real>(own * columns));
    int64_t* rows = local.take<int64_t>(halo);
    int64_t* own_rows = local.take<int64_t>(own);
    int64_t* places = local.take<int64_t>(own);
    Segment* segments = local.take<Segment>(unit.taps[0] * blocks_in);
    Real* pixels = local.take<Real>(halo * plain_blocks * kBlock<Plain<K>>);
    Packed* blocks = local.take<Packed>(kPoints * block_point);
    Real* points = local.take<Real>(kPoints * point);
    Real* tile = local.take<Real>(own * columns);
    Moments part_moments(moments + part * Moments::size(out), out);
    part_moments.clear(out);
    for (int64_t i = share(boxes, part, parts); i < share(boxes, part + 1, parts); i++) {
      const Box box = geometry.box(i);
      const Tiles tiles(box.size, unit.taps[0]);
      const int64_t halo_pixels = tiles.halo_depth * tiles.halo_plane(), pixel_block = halo_pixels * kBlock<Plain<K>>;
      geometry.rows(in_whole_tiles(box), true, rows);
      geometry.rows(box, false, own_rows);
      list_pixels(tiles, box, places);
      pack_input<Plain<K>, false>(unit, affine, rows, halo_pixels, 1, pixels, pixel_block);
      tiles_of_halo<K>(tiles, pixels, pixel_block, in, blocks, block_point, block);
      const int64_t count = tile_segments<K>(tiles, unit.taps[0], in, block, segments);
      for (int64_t g = 0; g < groups.count(); g++) {
        const int64_t column = groups.first(g) * kLanes<Real>;
        const int vectors = groups.size(g);
        multiply_tiles<K>(tiles, segments, count, blocks, block_point, vectors, weight + column * sums, weight_point,
                          points, point, columns, [](int) {});
        pixels_of_points<K>(tiles.count(), places, vectors, points, point, columns, tile);
        write_group<K>(unit, own_rows, box.pixels(), tile, columns, column, vectors,
                       unit.output_mean ? &part_moments : nullptr);
      }
      *part_moments.count += static_cast<double>(box.pixels());
    }
  });
  if (unit.output_mean) {
    Moments::finish(moments, parts, out, static_cast<Real*>(unit.output_mean),
                    static_cast<Real*>(unit.output_variance));
  }
}

}  // namespace DENSENETS_ISA

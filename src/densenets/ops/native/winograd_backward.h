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
        const auto* from = gradients + point * gradient_point + block / kBlock<K> * gradient_block +
                           tap * tiles.plane() * kBlock<K>;
        for (int64_t piece = 0; piece < pieces; piece++) {
          const int64_t first = share(left, piece, pieces);
          const int rows = static_cast<int>(share(left, piece + 1, pieces) - first);
          add_products_of<K>(vectors, rows)(from + first, activations + point * activation_point, activation_block,
                                            first_vector, runs,
                                            sums + ((point * unit.taps[0] + tap) * out + block + first) * stride, stride);
        }
      }
    }
  }
}

// From the sums of all parts, in their order, to the weight's gradient.
template <class K>
void finish_tile_weight(const Unit& unit, const typename K::Real* sums, int64_t part_size, int64_t stride, int parts) {
  using Real = typename K::Real;
  const int64_t in = unit.in_channels, out = unit.out_channels, depth = unit.taps[0];
  for_each_part(unit.threads, unit.threads, [&](int share_of) {
    for (int64_t row = share(depth * out, share_of, unit.threads); row < share(depth * out, share_of + 1, unit.threads);
         row++) {
      const int64_t tap = depth - 1 - row / out, m = row % out;
      for (int64_t c = 0; c < in; c += kLanes<Real>) {
        Vector<Real> points[kPoints] = {}, kernel[9];
        for (int part = 0; part < parts; part++) {
          const Real* at = sums + part * part_size + row * stride + c;
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
void backward_in_tiles(const Unit& unit) {
  using Real = typename K::Real;
  using Packed = typename K::Packed;
  constexpr int64_t lanes = kLanes<Real>;
  constexpr int64_t group_columns = kMaxVectors * lanes, group_blocks = divide_up(group_columns, kBlock<K>) + 1;
  constexpr int64_t plain = kBlock<Plain<K>>;
  const int64_t in = unit.in_channels, out = unit.out_channels, depth_taps = unit.taps[0];
  const int64_t columns = round_up(in, lanes);
  const int64_t plain_blocks = divide_up(out, plain), sum_blocks = divide_up(out, kElements<K>);
  const int64_t pixel_blocks = divide_up(out, kBlock<K>);
  const Geometry geometry(unit, kTileBytes, kBoxPixels, [&](int64_t halo, int64_t own) {
    return halo * plain_blocks * 64 + 4 * own * (sum_blocks + (K::pair == 2 ? pixel_blocks : 0)) * 64 +
           own * (5 * group_columns * static_cast<int64_t>(sizeof(Real)) + group_blocks * 64);
  }, 2);
  const Tiles most(geometry.largest(), unit.taps[0]);
  WeightView view = backward_view(unit, tap_count(unit));
  view.taps = depth_taps;
  const Groups groups = groups_of<Real>(in, kMaxVectors);
  const int64_t sums = sums_of<K>(view), weight_point = point_step<Real>(packed_weight_size<K>(view));
  const int64_t boxes = geometry.boxes();
  const int parts = static_cast<int>(std::min<int64_t>(unit.threads, boxes));
  const int64_t weight_part = kPoints * depth_taps * out * columns;
  const int64_t coefficients = Affine<Real>::arrays * round_up(in, kChannelStep);

  Scratch& scratch = scratch_of_caller();
  scratch.reset(Scratch::bytes<Real>(kPoints * weight_point) + Scratch::bytes<Real>(coefficients) +
                Scratch::bytes<Real>(Completion<K>::size(out)) + Scratch::bytes<Real>(parts * weight_part) +
                Scratch::bytes<double>(2 * parts * in));
  Real* weight = scratch.take<Real>(kPoints * weight_point);
  const Affine<Real> affine(unit, scratch.take<Real>(coefficients));
  const Completion<Plain<K>> complete(unit, scratch.take<Real>(Completion<K>::size(out)));
  Real* weight_sums = scratch.take<Real>(parts * weight_part);
  double* channel_sums = scratch.take<double>(2 * parts * in);
  for_each_part(unit.threads, unit.threads, [&](int part) {
    pack_tile_weight<K>(view, groups, static_cast<const Real*>(unit.weight), true, share(sums, part, unit.threads),
                        share(sums, part + 1, unit.threads), weight, weight_point);
  });

  for_each_part(unit.threads, parts, [&](int part) {
    const int64_t halo = geometry.largest_halo(), own = geometry.largest_box();
    const int64_t block = (most.halo_count() + 1) * kBlock<K>, block_point = point_step<Packed>(sum_blocks * block);
    const int64_t pair_block = most.halo_count() * kBlock<K>;
    const int64_t pair_point = K::pair == 2 ? point_step<Packed>(pixel_blocks * pair_block) : 0;
    const int64_t point = point_step<Real>(most.count() * group_columns);
    const int64_t activation_block = divide_up(most.count(), K::pair) * kBlock<K>;
    const int64_t activation_point = point_step<Packed>(group_blocks * activation_block);
    Scratch& local = scratch_of_part();
    local.reset(2 * Scratch::bytes<int64_t>(halo) + 2 * Scratch::bytes<int64_t>(own) +
                Scratch::bytes<Segment>(depth_taps * sum_blocks) + Scratch::bytes<Real>(halo * plain_blocks * plain) +
                Scratch::bytes<Packed>(kPoints * block_point) + Scratch::bytes<Packed>(kPoints * pair_point) +
                Scratch::bytes<Real>(kPoints * point) + Scratch::bytes<Packed>(kPoints * activation_point) +
                Scratch::bytes<Real>(own * group_columns) + Scratch::bytes<Real>(own * group_blocks * plain));
    int64_t* rows = local.take<int64_t>(halo);
    int64_t* next_rows = local.take<int64_t>(halo);
    int64_t* own_rows = local.take<int64_t>(own);
    int64_t* places = local.take<int64_t>(own);
    Segment* segments = local.take<Segment>(depth_taps * sum_blocks);
    Real* gradient_pixels = local.take<Real>(halo * plain_blocks * plain);
    Packed* gradients = local.take<Packed>(kPoints * block_point);
    [[maybe_unused]] Packed* pairs = local.take<Packed>(kPoints * pair_point);
    Real* points = local.take<Real>(kPoints * point);
    Packed* activations = local.take<Packed>(kPoints * activation_point);
    Real* tile = local.take<Real>(own * group_columns);
    Real* activation_pixels = local.take<Real>(own * group_blocks * plain);
    const auto* output_gradient = static_cast<const typename K::Stored*>(unit.output_gradient);
    const auto* result = static_cast<const typename K::Stored*>(unit.result);
    Real* part_weight = weight_sums + part * weight_part;
    double* shift_sums = channel_sums + 2 * part * in;
    double* scale_sums = shift_sums + in;
    std::fill(part_weight, part_weight + weight_part, Real(0));
    std::fill(shift_sums, shift_sums + 2 * in, 0.0);
    const int64_t first_box = share(boxes, part, parts), end_box = share(boxes, part + 1, parts);
    geometry.rows(in_whole_tiles(geometry.box(first_box)), true, rows);
    for (int64_t i = first_box; i < end_box; i++) {
      const Box box = geometry.box(i), next_box = geometry.box(std::min(i + 1, end_box - 1));
      const Tiles tiles(box.size, unit.taps[0]);
      const int64_t halo_pixels = tiles.halo_depth * tiles.halo_plane(), halo_tiles = tiles.halo_count();
      geometry.rows(in_whole_tiles(next_box), true, next_rows);
      geometry.rows(box, false, own_rows);
      list_pixels(tiles, box, places);
      pack_gradient<Plain<K>>(unit, complete, rows, halo_pixels, gradient_pixels, halo_pixels * plain);
      tiles_of_halo<K>(tiles, gradient_pixels, halo_pixels * plain, out, gradients, block_point, block);
      const Packed* factors = gradients;
      int64_t factor_point = block_point, factor_block = block;
#if defined(__AVX512BF16__)
      if constexpr (K::pair == 2) {
        for (int p = 0; p < kPoints; p++) {
          Packed* at = gradients + p * block_point;
          for (int64_t b = 0; b < sum_blocks; b++) std::fill_n(at + b * block + halo_tiles * kBlock<K>, kBlock<K>, 0u);
          pair_pixels(at, block, out, halo_tiles, pairs + p * pair_point);
        }
        factors = pairs, factor_point = pair_point, factor_block = halo_tiles * kBlock<K>;
      }
#endif
      const int64_t count = tile_segments<K>(tiles, unit.taps[0], out, block, segments);
      const InputPass<Plain<K>> pass = {unit, affine, own_rows, 1, box, tile, group_columns, activation_pixels,
                                        box.pixels() * plain, shift_sums, scale_sums};
      // The next box's few columns of gradient and result lie far apart: they are asked for in the meantime.
      const int64_t wanted = i + 1 < end_box ? geometry.halo_pixels(in_whole_tiles(next_box)) : 0;
      const Prefetch gradient_ahead(output_gradient, unit.output_gradient_stride, out, next_rows, wanted);
      const Prefetch result_ahead(result, unit.result_stride, result ? out : 0, next_rows, wanted);
      Pace pace(wanted, kPoints * tiles.count() * groups.count());
      const auto between = [&](int done) {
        pace.advance(done, [&](int64_t row) {
          gradient_ahead.row(row);
          result_ahead.row(row);
        });
      };
      for (int64_t g = 0; g < groups.count(); g++) {
        const int64_t first = groups.first(g) * lanes, phase = first % plain;
        const int vectors = groups.size(g);
        multiply_tiles<K>(tiles, segments, count, gradients, block_point, vectors, weight + first * sums, weight_point,
                          points, point, group_columns, between);
        pixels_of_points<K>(tiles.count(), places, vectors, points, point, group_columns, tile);
        pass_group<Plain<K>, false>(pass, first, vectors);
        points_of_pixels<K>(tiles.count(), places, activation_pixels, box.pixels() * plain, phase / lanes + vectors, activations,
                            activation_point, activation_block);
        add_tile_weight_gradient<K>(unit, tiles, factors, factor_point, factor_block, activations, activation_point,
                                    activation_block, phase / lanes, vectors, part_weight + first, columns);
      }
      std::swap(rows, next_rows);
    }
  });
  finish_tile_weight<K>(unit, weight_sums, weight_part, columns, parts);
  finish_channels(unit, affine, channel_sums, parts);
}

}  // namespace DENSENETS_ISA

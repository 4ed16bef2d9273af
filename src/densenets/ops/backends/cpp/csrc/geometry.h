// Which pixels a unit works on at a time: boxes of the output, and the input pixels around them.
#pragma once

#include <algorithm>
#include <cstdint>

#include "interface.h"

namespace DENSENETS_ISA {

constexpr int64_t kOutside = -1;

struct Box {
  int64_t image;
  int64_t begin[3];
  int64_t size[3];

  int64_t pixels() const { return size[0] * size[1] * size[2]; }
};

// The output of a unit, cut into boxes. Without neighbours to look at (one tap) all pixels form one line.
class Geometry {
 public:
  // `bytes(halo pixels, own pixels)` is what a box needs while it is worked on. Boxes are cut at multiples
  // of `step` in height and width.
  template <class Bytes>
  Geometry(const Unit& unit, int64_t budget, int64_t most_pixels, Bytes bytes, int64_t step = 1)
      : unit_(unit), steps_{1, step, step} {
    const bool line = unit.taps[0] * unit.taps[1] * unit.taps[2] == 1;
    images_ = line ? 1 : unit.batch;
    for (int i = 0; i < 3; i++) {
      coarse_[i] = unit.pool && unit.sides[i] > 1 ? unit.sides[i] / 2 : unit.sides[i];
      sides_[i] = line ? 1 : unit.sides[i];
      taps_[i] = unit.taps[i];
    }
    pixels_ = unit.batch * coarse_[0] * coarse_[1] * coarse_[2];
    if (line) sides_[2] = pixels_;
    cut(budget, most_pixels, bytes);
    for (int i = 0; i < 3; i++) largest_[i] = largest_side(i);
    sources_ = 1;
    for (int i = 0; i < 3; i++) {
      if (unit.pool && unit.sides[i] > 1) sources_ *= 2;
    }
  }

  int64_t pixels() const { return pixels_; }
  int64_t boxes() const { return images_ * cuts_[0] * cuts_[1] * cuts_[2]; }
  int tap_count() const { return taps_[0] * taps_[1] * taps_[2]; }
  // Sides that no box exceeds, multiples of the step.
  const int64_t* largest() const { return largest_; }
  int64_t largest_box() const { return largest_[0] * largest_[1] * largest_[2]; }
  int64_t largest_halo() const { return halo(largest_, 0) * halo(largest_, 1) * halo(largest_, 2); }
  // Input pixels that are averaged into one before the product.
  int sources() const { return sources_; }

  Box box(int64_t index) const {
    Box box;
    for (int i = 2; i >= 0; i--) {
      const int64_t at = index % cuts_[i];
      index /= cuts_[i];
      box.begin[i] = steps(i) * at / cuts_[i] * steps_[i];
      box.size[i] = std::min(sides_[i], steps(i) * (at + 1) / cuts_[i] * steps_[i]) - box.begin[i];
    }
    box.image = index;
    return box;
  }

  int64_t halo(const int64_t* size, int i) const { return size[i] + taps_[i] - 1; }
  int64_t halo_pixels(const Box& box) const { return halo(box.size, 0) * halo(box.size, 1) * halo(box.size, 2); }

  // From a pixel of the halo to the one that a tap looks at. `mirrored`: the tap of the backward pass.
  int64_t tap_offset(const Box& box, int tap, bool mirrored) const {
    int64_t at[3] = {tap / (taps_[1] * taps_[2]), tap / taps_[2] % taps_[1], tap % taps_[2]};
    if (mirrored) {
      for (int i = 0; i < 3; i++) at[i] = taps_[i] - 1 - at[i];
    }
    return (at[0] * halo(box.size, 1) + at[1]) * halo(box.size, 2) + at[2];
  }

  // The output pixel, as a row of its matrix, of each pixel of the box or of its halo.
  void rows(const Box& box, bool with_halo, int64_t* rows) const {
    int64_t size[3], margin[3];
    for (int i = 0; i < 3; i++) {
      size[i] = with_halo ? halo(box.size, i) : box.size[i];
      margin[i] = with_halo ? taps_[i] / 2 : 0;
    }
    for (int64_t d = 0; d < size[0]; d++) {
      for (int64_t h = 0; h < size[1]; h++) {
        const int64_t z = box.begin[0] + d - margin[0], y = box.begin[1] + h - margin[1];
        const bool inside = z >= 0 && z < sides_[0] && y >= 0 && y < sides_[1];
        const int64_t line = ((box.image * sides_[0] + z) * sides_[1] + y) * sides_[2];
        for (int64_t w = 0; w < size[2]; w++) {
          const int64_t x = box.begin[2] + w - margin[2];
          *rows++ = inside && x >= 0 && x < sides_[2] ? line + x : kOutside;
        }
      }
    }
  }

  // The input pixels behind each output pixel: `sources()` for each.
  void input_rows(const int64_t* rows, int64_t count, int64_t* inputs) const {
    if (!unit_.pool) {
      std::copy(rows, rows + count, inputs);
      return;
    }
    for (int64_t i = 0; i < count; i++) {
      const int64_t w = rows[i] % coarse_[2], h = rows[i] / coarse_[2] % coarse_[1];
      const int64_t d = rows[i] / (coarse_[2] * coarse_[1]) % coarse_[0];
      const int64_t image = rows[i] / (coarse_[2] * coarse_[1] * coarse_[0]);
      const int64_t* sides = unit_.sides;
      for (int z = 0; z < (sides[0] > 1 ? 2 : 1); z++) {
        for (int y = 0; y < (sides[1] > 1 ? 2 : 1); y++) {
          for (int x = 0; x < (sides[2] > 1 ? 2 : 1); x++) {
            const int64_t depth = sides[0] > 1 ? 2 * d + z : 0, height = sides[1] > 1 ? 2 * h + y : 0;
            const int64_t width = sides[2] > 1 ? 2 * w + x : 0;
            *inputs++ = ((image * sides[0] + depth) * sides[1] + height) * sides[2] + width;
          }
        }
      }
    }
  }

 private:
  // Cut the longest side of the boxes until one fits, and until every thread has as many as the others.
  template <class Bytes>
  void cut(int64_t budget, int64_t most_pixels, Bytes bytes) {
    for (;;) {
      int64_t size[3];
      for (int i = 0; i < 3; i++) size[i] = largest_side(i);
      const int64_t own = size[0] * size[1] * size[2];
      const int64_t around = halo(size, 0) * halo(size, 1) * halo(size, 2);
      const auto cuttable = [&](int i) { return cuts_[i] < steps(i) ? size[i] : 0; };
      const int flat = cuttable(1) >= cuttable(2) ? 1 : 2, longest = cuttable(flat) >= cuttable(0) ? flat : 0;
      if (!cuttable(longest)) return;
      const bool fits = own <= most_pixels && bytes(around, own) <= budget;
      const int64_t uneven = boxes() % unit_.threads;
      const bool balanced = uneven == 0 || boxes() >= 8 * unit_.threads || own <= 8;
      if (fits && balanced) return;
      cuts_[longest] += fits ? 1 : std::max<int64_t>(1, cuts_[longest] / 8);
      cuts_[longest] = std::min(cuts_[longest], steps(longest));
    }
  }

  int64_t steps(int i) const { return (sides_[i] + steps_[i] - 1) / steps_[i]; }
  int64_t largest_side(int i) const { return (steps(i) + cuts_[i] - 1) / cuts_[i] * steps_[i]; }

  const Unit& unit_;
  int64_t images_ = 1;
  int64_t pixels_ = 0;
  int64_t coarse_[3];
  int64_t sides_[3];
  int64_t largest_[3];
  int64_t taps_[3];
  int64_t cuts_[3] = {1, 1, 1};
  int64_t steps_[3];
  int sources_ = 1;
};

}  // namespace DENSENETS_ISA

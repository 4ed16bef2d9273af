// BN-ReLU-max pooling behind the first convolution: windows of 3, two apart, one pixel of margin.
//
// Kept for the backward pass: the input, and for each result which pixel of its window it came from.
#pragma once

#include "forward.h"

namespace DENSENETS_ISA {

// The windows of a dimension: output o reads the inputs 2 o - 1 ... 2 o + 1 that there are.
struct Windows {
  int64_t side;  // of the input
  int taps;      // 3, or 1 for a dimension that there is not

  int64_t outputs() const { return taps == 1 ? side : (side - 1) / 2 + 1; }
  int64_t input(int64_t output, int tap) const { return taps == 1 ? output : 2 * output - 1 + tap; }
  // The outputs that read an input: `count` of them from `first`.
  int64_t first(int64_t input) const { return taps == 1 ? input : input / 2; }
  int count(int64_t input) const { return taps == 1 || input % 2 == 0 || input / 2 + 1 >= outputs() ? 1 : 2; }
  int tap(int64_t input, int64_t output) const { return taps == 1 ? 0 : static_cast<int>(input - (2 * output - 1)); }
};

struct StemShape {
  Windows windows[3];
  int64_t images;

  explicit StemShape(const Unit& unit) : images(unit.batch) {
    for (int i = 0; i < 3; i++) windows[i] = {unit.sides[i], unit.taps[i]};
  }

  int64_t input_lines() const { return images * windows[0].side * windows[1].side; }
  int64_t output_lines() const { return images * windows[0].outputs() * windows[1].outputs(); }
  int64_t input_row(int64_t image, int64_t d, int64_t h) const {
    return ((image * windows[0].side + d) * windows[1].side + h) * windows[2].side;
  }
  int64_t output_row(int64_t image, int64_t d, int64_t h) const {
    return ((image * windows[0].outputs() + d) * windows[1].outputs() + h) * windows[2].outputs();
  }
};

template <class Real>
struct BytesOf {
  typedef uint8_t type __attribute__((vector_size(kLanes<Real>)));
};

// A byte for each lane.
template <class Real>
using Bytes = typename BytesOf<Real>::type;

// unit.output: the maxima; `winners`: for each, the number of its tap.
template <class K>
void stem_forward(const Unit& unit, uint8_t* winners, Workspace& workspace) {
  using Real = typename K::Real;
  constexpr int64_t lanes = kLanes<Real>;
  const StemShape shape(unit);
  const int64_t channels = unit.in_channels;
  Real* coefficients;
  lay_out(workspace, [&](auto&& take) { take(coefficients, Affine<Real>::size(channels)); });
  const Affine<Real> affine(unit, coefficients);
  const auto* input = static_cast<const typename K::Stored*>(unit.input);
  auto* output = static_cast<typename K::Stored*>(unit.output);
  const Windows *depth = shape.windows, *height = depth + 1, *width = depth + 2;

  const auto line = [&](int64_t image, int64_t d, int64_t h) {
    for (int64_t w = 0; w < width->outputs(); w++) {
      const int64_t to = shape.output_row(image, d, h) + w;
      for (int64_t c = 0; c < channels; c += lanes) {
        const Vector<Real> scale = load(affine.scale + c), shift = load(affine.shift + c);
        Vector<Real> best = broadcast<Real>(-1), winner{};  // ReLU's results are 0 or more
        for (int tap = 0; tap < depth->taps * height->taps * width->taps; tap++) {
          const int64_t z = depth->input(d, tap / (height->taps * width->taps));
          const int64_t y = height->input(h, tap / width->taps % height->taps);
          const int64_t x = width->input(w, tap % width->taps);
          if (z < 0 || z >= depth->side || y < 0 || y >= height->side || x < 0 || x >= width->side) continue;
          const auto* from = input + (shape.input_row(image, z, y) + x) * unit.input_stride + c;
          const Vector<Real> value = relu<Real>(load_first(from, channels - c) * scale + shift);
          const auto better = (value > best) | (value != value);  // NaN is handed on
          best = better ? value : best;
          winner = better ? broadcast(static_cast<Real>(tap)) : winner;
        }
        store_first(output + to * unit.output_stride + c, best, channels - c);
        const auto bytes = __builtin_convertvector(winner, Bytes<Real>);
        std::memcpy(winners + to * channels + c, &bytes, std::min(lanes, channels - c));
      }
    }
  };
  for_each_part(unit.threads, unit.threads, [&](int part) {
    const int64_t lines = shape.output_lines(), rows = height->outputs(), planes = depth->outputs();
    for (int64_t i = share(lines, part, unit.threads); i < share(lines, part + 1, unit.threads); i++) {
      line(i / rows / planes, i / rows % planes, i % rows);
    }
  });
}

// Calls visit(input row, column, gradient of its normalised value) for some lines of the input.
template <class K, class Visit>
void stem_gradients(const Unit& unit, const Affine<typename K::Real>& affine, const uint8_t* winners, int64_t begin,
                    int64_t end, int64_t c, Visit&& visit) {
  using Real = typename K::Real;
  constexpr int64_t lanes = kLanes<Real>;
  const StemShape shape(unit);
  const int64_t channels = unit.in_channels, left = channels - c;
  const auto* input = static_cast<const typename K::Stored*>(unit.input);
  const auto* gradients = static_cast<const typename K::Stored*>(unit.output_gradient);
  const Windows *depth = shape.windows, *height = depth + 1, *width = depth + 2;
  const Vector<Real> scale = load(affine.scale + c), shift = load(affine.shift + c);
  for (int64_t line = begin; line < end; line++) {
    const int64_t y = line % height->side, z = line / height->side % depth->side;
    const int64_t image = line / height->side / depth->side;
    for (int64_t x = 0; x < width->side; x++) {
      const int64_t row = shape.input_row(image, z, y) + x;
      Vector<Real> gradient{};
      for (int64_t d = depth->first(z); d < depth->first(z) + depth->count(z); d++) {
        for (int64_t h = height->first(y); h < height->first(y) + height->count(y); h++) {
          for (int64_t w = width->first(x); w < width->first(x) + width->count(x); w++) {
            const int64_t from = shape.output_row(image, d, h) + w;
            const int tap = (depth->tap(z, d) * height->taps + height->tap(y, h)) * width->taps + width->tap(x, w);
            Bytes<Real> bytes{};
            std::memcpy(&bytes, winners + from * channels + c, std::min(lanes, left));
            const Vector<Real> winner = __builtin_convertvector(bytes, Vector<Real>);
            const Vector<Real> made = load_first(gradients + from * unit.output_gradient_stride + c, left);
            gradient += winner == broadcast(static_cast<Real>(tap)) ? made : Vector<Real>{};
          }
        }
      }
      const Vector<Real> value = load_first(input + row * unit.input_stride + c, left);
      gradient = value * scale + shift <= 0 ? Vector<Real>{} : gradient;
      visit(row, value, gradient);
    }
  }
}

// Gradients of scale and shift, then that of the input, complete, in the data type of the features.
template <class K>
void stem_backward(const Unit& unit, const uint8_t* winners, Workspace& workspace) {
  using Real = typename K::Real;
  constexpr int64_t lanes = kLanes<Real>;
  const StemShape shape(unit);
  const int64_t channels = unit.in_channels, padded = round_up(channels, kChannelStep);
  Real *coefficients, *slope, *offset;
  double* sums;
  lay_out(workspace, [&](auto&& take) {
    take(coefficients, Affine<Real>::size(channels));
    take(slope, padded);
    take(offset, padded);
    take(sums, 2 * unit.threads * padded);
  });
  const Affine<Real> affine(unit, coefficients);
  std::fill(sums, sums + 2 * unit.threads * padded, 0.0);
  const int64_t lines = shape.input_lines();
  for_each_part(unit.threads, unit.threads, [&](int part) {
    for (int64_t line = share(lines, part, unit.threads); line < share(lines, part + 1, unit.threads); line++) {
      for (int64_t c = 0; c < channels; c += lanes) {
        const Vector<Real> mean = load(affine.mean + c);
        Vector<Real> shift_sum{}, scale_sum{};
        stem_gradients<K>(unit, affine, winners, line, line + 1, c,
                          [&](int64_t, Vector<Real> value, Vector<Real> gradient) {
                            shift_sum += gradient;
                            scale_sum += gradient * (value - mean);
                          });
        for (int64_t i = 0; i < lanes && c + i < channels; i++) {
          sums[2 * part * padded + c + i] += shift_sum[i];
          sums[(2 * part + 1) * padded + c + i] += scale_sum[i];
        }
      }
    }
  });
  std::fill_n(slope, padded, Real(0));
  std::fill_n(offset, padded, Real(0));
  for (int64_t c = 0; c < channels; c++) {
    double shift = 0, scale = 0;
    for (int part = 0; part < unit.threads; part++) {
      shift += sums[2 * part * padded + c];
      scale += sums[(2 * part + 1) * padded + c];
    }
    const double inverse = 1 / __builtin_sqrt(static_cast<const Real*>(unit.variance)[c] + unit.epsilon);
    static_cast<Real*>(unit.shift_gradient)[c] = static_cast<Real>(shift);
    static_cast<Real*>(unit.scale_gradient)[c] = static_cast<Real>(scale * inverse);
    if (unit.result_count > 0) {
      const double factor = affine.scale[c] / unit.result_count, bend = factor * scale * inverse * inverse;
      slope[c] = static_cast<Real>(-bend);
      offset[c] = static_cast<Real>(affine.mean[c] * bend - factor * shift);
    }
  }
  auto* input_gradient = static_cast<typename K::Stored*>(unit.input_gradient);
  for_each_part(unit.threads, unit.threads, [&](int part) {
    for (int64_t line = share(lines, part, unit.threads); line < share(lines, part + 1, unit.threads); line++) {
      for (int64_t c = 0; c < channels; c += lanes) {
        const Vector<Real> scale = load(affine.scale + c), bend = load(slope + c), level = load(offset + c);
        stem_gradients<K>(unit, affine, winners, line, line + 1, c,
                          [&](int64_t row, Vector<Real> value, Vector<Real> gradient) {
                            store_first(input_gradient + row * unit.input_gradient_stride + c,
                                        gradient * scale + (value * bend + level), channels - c);
                          });
      }
    }
  });
}

}  // namespace DENSENETS_ISA

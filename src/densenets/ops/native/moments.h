// Mean and variance of columns, without the cancellation of a sum of squares: each tile gives its own mean
// and squared distances from it, and tiles are joined in float64 (Chan et al. 1979).
#pragma once

#include "pack.h"
#include "parallel.h"

namespace DENSENETS_ISA {

struct Moments {
  double* mean;
  double* squares;  // summed squared distances from the mean
  double* count;    // one for all channels

  static size_t size(int64_t channels) { return 2 * round_up(channels, kChannelStep) + 1; }

  Moments(double* memory, int64_t channels)
      : mean(memory), squares(memory + round_up(channels, kChannelStep)),
        count(memory + 2 * round_up(channels, kChannelStep)) {}

  void clear(int64_t channels) { std::fill(mean, mean + size(channels), 0.0); }

  void join(int64_t channel, double other_mean, double other_squares, double other_count) {
    const double total = *count + other_count;
    const double distance = other_mean - mean[channel];
    mean[channel] += distance * (other_count / total);
    squares[channel] += other_squares + distance * distance * (*count * (other_count / total));
  }

  // Adds the first `channels` columns of a tile; its rows hold whole vectors.
  template <class Real>
  void add_tile(const Real* tile, int64_t rows, int64_t stride, int64_t channels) {
    constexpr int64_t lanes = kLanes<Real>;
    for (int64_t c = 0; c < channels; c += lanes) {
      Vector<Real> sum{}, squared{};
      for (int64_t r = 0; r < rows; r++) sum += load(tile + r * stride + c);
      const Vector<Real> center = sum / static_cast<Real>(rows);
      Vector<Real> left{};  // what rounding left in the center
      for (int64_t r = 0; r < rows; r++) {
        const Vector<Real> distance = load(tile + r * stride + c) - center;
        left += distance;
        squared += distance * distance;
      }
      for (int64_t i = 0; i < lanes && c + i < channels; i++) {
        join(c + i, static_cast<double>(center[i]) + static_cast<double>(left[i]) / rows, squared[i],
             static_cast<double>(rows));
      }
    }
    *count += static_cast<double>(rows);
  }

  // Joins the moments of `parts`, one behind the other, and writes the result.
  template <class Real>
  static void finish(double* parts, int count, int64_t channels, Real* mean_out, Real* variance_out) {
    Moments total(parts, channels);
    for (int part = 1; part < count; part++) {
      const Moments other(parts + part * size(channels), channels);
      if (*other.count == 0) continue;
      for (int64_t c = 0; c < channels; c++) total.join(c, other.mean[c], other.squares[c], *other.count);
      *total.count += *other.count;
    }
    for (int64_t c = 0; c < channels; c++) {
      mean_out[c] = static_cast<Real>(total.mean[c]);
      variance_out[c] = static_cast<Real>(total.squares[c] / *total.count);
    }
  }
};

}  // namespace DENSENETS_ISA

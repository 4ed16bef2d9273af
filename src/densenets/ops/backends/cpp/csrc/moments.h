// Mean and variance of columns without the cancellation of a sum of squares: a tile sums distances from its
// own rounded mean, the pivot, and tiles are joined in float64 (Chan et al. 1979).
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

  // Adds sums of distances from the pivot, and of their squares, over `rows` values of some channels.
  template <class Real>
  void add_sums(int64_t channel, int64_t channels, int64_t rows, Vector<Real> pivot, Vector<Real> sum,
                Vector<Real> squared) {
    for (int64_t i = 0; i < kLanes<Real> && channel + i < channels; i++) {
      const double shift = static_cast<double>(sum[i]) / rows;
      const double around_mean = static_cast<double>(squared[i]) - shift * sum[i];
      join(channel + i, static_cast<double>(pivot[i]) + shift, around_mean < 0 ? 0 : around_mean,
           static_cast<double>(rows));
    }
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

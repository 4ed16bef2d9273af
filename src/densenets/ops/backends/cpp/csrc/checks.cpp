// Checks of what a call is given, before anything is computed.
#include "checks.h"

#include <cmath>
#include <cstdio>

namespace densenets {

namespace {

// Below these no size and no address in a kernel is too large for 64 bits.
constexpr int64_t kMostPixels = int64_t{1} << 34;
constexpr int64_t kMostChannels = int64_t{1} << 24;
constexpr int64_t kMostWeights = int64_t{1} << 40;
constexpr int64_t kMostElements = int64_t{1} << 58;  // from the first of a matrix to its last
constexpr int32_t kMostThreads = 1 << 12;
constexpr int64_t kMostLayers = 1 << 20;

void require(bool holds, const char* what, const char* rule) {
  if (holds) return;
  BadArgument bad;
  std::snprintf(bad.reason, sizeof bad.reason, "%s %s", what, rule);
  throw bad;
}

void check_range(int64_t value, int64_t least, int64_t most, const char* what) {
  require(least <= value && value <= most, what, "is out of range");
}

void check_matrix(const void* data, int64_t rows, int64_t columns, int64_t stride, const char* what) {
  require(stride >= columns, what, "has rows that overlap");
  require(rows == 0 || stride <= kMostElements / rows, what, "has rows too far apart");
  require(rows == 0 || data != nullptr, what, "is missing");
}

void check_array(const void* data, const char* what) { require(data != nullptr, what, "is missing"); }

// Batch and sides, which may be 0, and data type and threads.
template <class Images>
void check_images(const Images& images) {
  check_data_type(images.data_type);
  check_threads(images.threads);
  check_range(images.batch, 0, kMostPixels, "batch");
  int64_t pixels = images.batch;
  for (const int64_t side : images.sides) {
    check_range(side, 0, kMostPixels, "side");
    require(side == 0 || pixels <= kMostPixels / side, "batch of these sides", "has too many pixels");
    pixels *= side;
  }
}

void check_taps(const int32_t (&taps)[3]) {
  for (const int32_t side : taps) require(side == 1 || side == 3, "kernel", "must have sides of 1 or 3");
}

// What a unit reads: input, batch normalisation.
void check_input(const Unit& unit) {
  check_images(unit);
  check_taps(unit.taps);
  check_range(unit.in_channels, 1, kMostChannels, "in_channels");
  check_matrix(unit.input, pixels_of(unit), unit.in_channels, unit.input_stride, "input");
  check_array(unit.mean, "mean");
  check_array(unit.variance, "variance");
  check_array(unit.scale, "scale");
  check_array(unit.shift, "shift");
}

void check_product(const Unit& unit) {
  check_input(unit);
  check_range(unit.out_channels, 1, kMostChannels, "out_channels");
  const int64_t taps = int64_t{unit.taps[0]} * unit.taps[1] * unit.taps[2];
  require(unit.in_channels * unit.out_channels <= kMostWeights / taps, "weight", "is too large");
  check_array(unit.weight, "weight");
  check_range(unit.pool, 0, 1, "pool");
  require(!unit.pool || taps == 1, "pooling", "needs a kernel of one tap");
}

// Q of a product.
int64_t products_of(const Unit& unit) {
  int64_t pixels = unit.batch;
  for (const int64_t side : unit.sides) pixels *= unit.pool && side > 1 ? side / 2 : side;
  return pixels;
}

// Q of a stem.
int64_t maxima_of(const Unit& unit) {
  int64_t pixels = unit.batch;
  for (int i = 0; i < 3; i++) pixels *= unit.taps[i] == 1 ? unit.sides[i] : (unit.sides[i] + 1) / 2;
  return pixels;
}

// The gradient of Q x channels, and what corrects it.
void check_output_gradient(const Unit& unit, int64_t rows, int64_t channels) {
  check_matrix(unit.output_gradient, rows, channels, unit.output_gradient_stride, "output_gradient");
  if (!unit.result) return;
  check_matrix(unit.result, rows, channels, unit.result_stride, "result");
  check_array(unit.result_mean, "result_mean");
  check_array(unit.result_sum_1, "result_sum_1");
  check_array(unit.result_sum_2, "result_sum_2");
  require(rows == 0 || (std::isfinite(unit.result_count) && unit.result_count > 0), "result_count", "must be above 0");
}

void check_input_gradient(const Unit& unit) {
  check_matrix(unit.input_gradient, pixels_of(unit), unit.in_channels, unit.input_gradient_stride, "input_gradient");
  check_array(unit.scale_gradient, "scale_gradient");
  check_array(unit.shift_gradient, "shift_gradient");
  require(!unit.sum_1 == !unit.sum_2, "sums", "must be two or none");
}

}  // namespace

void check_data_type(int32_t data_type) { check_range(data_type, kFloat32, kBFloat16, "data_type"); }

void check_threads(int32_t threads) { check_range(threads, 1, kMostThreads, "threads"); }

void check_forward(const Unit& unit) {
  check_product(unit);
  check_matrix(unit.output, products_of(unit), unit.out_channels, unit.output_stride, "output");
  require(!unit.output_mean == !unit.output_variance, "moments", "must be two or none");
}

void check_backward(const Unit& unit) {
  check_product(unit);
  check_output_gradient(unit, products_of(unit), unit.out_channels);
  check_input_gradient(unit);
  check_array(unit.weight_gradient, "weight_gradient");
}

void check_stem_forward(const Unit& unit, const uint8_t* winners) {
  check_input(unit);
  const int64_t rows = maxima_of(unit);
  check_matrix(unit.output, rows, unit.in_channels, unit.output_stride, "output");
  check_matrix(winners, rows, unit.in_channels, unit.in_channels, "winners");
}

void check_stem_backward(const Unit& unit, const uint8_t* winners) {
  check_input(unit);
  const int64_t rows = maxima_of(unit);
  check_output_gradient(unit, rows, unit.in_channels);
  check_matrix(winners, rows, unit.in_channels, unit.in_channels, "winners");
  check_input_gradient(unit);
}

void check_statistics(const Columns& columns) {
  check_threads(columns.threads);
  check_range(columns.rows, 0, kMostPixels, "pixels");
  check_range(columns.channels, 1, kMostChannels, "channels");
  check_matrix(columns.data, columns.rows, columns.channels, columns.stride, "input");
  check_array(columns.mean, "mean");
  check_array(columns.variance, "variance");
}

void check_complete(const Unit& unit, const Columns& columns) {
  check_data_type(unit.data_type);
  check_threads(unit.threads);
  check_range(columns.rows, 0, kMostPixels, "pixels");
  check_range(columns.channels, 1, kMostChannels, "out_channels");
  check_matrix(columns.data, columns.rows, columns.channels, columns.stride, "out");
  check_output_gradient(unit, columns.rows, columns.channels);
}

void check_block(const Block& block) {
  check_images(block);
  check_range(block.units, 1, 2, "units");
  check_range(block.layers, 0, kMostLayers, "layers");
  check_range(block.in_channels, 1, kMostChannels, "in_channels");
  check_range(block.channels, 1, kMostChannels, "channels");
  require(block.parts || block.layers == 0, "parts", "are missing");
  check_matrix(block.features, pixels_of(block), block.channels, block.channels, "features");
  int64_t channels = block.in_channels;
  for (int64_t layer = 0; layer < block.layers; layer++) {
    const BlockUnit &first = block.parts[layer * block.units], &last = block.parts[(layer + 1) * block.units - 1];
    check_range(last.out_channels, 1, kMostChannels, "out_channels");
    channels += last.out_channels;
    require(block.units == 1 || first.out_channels == block.parts[0].out_channels, "bottlenecks", "differ in width");
  }
  require(channels == block.channels, "channels", "are not those of the input and the layers");
  if (block.units == 1 || block.layers == 0) return;
  check_matrix(block.bottlenecks, pixels_of(block), 1, 1, "bottlenecks");
  require(!block.feature_moments == !block.bottleneck_moments, "moments", "must be of features and bottlenecks");
}

void check_block_backward(const Block& block) {
  check_block(block);
  check_matrix(block.gradients, pixels_of(block), block.channels, block.channels, "gradients");
  require(!block.sums || block.feature_moments, "sums", "need moments");
  if (block.units == 1 || block.layers == 0) return;
  check_matrix(block.bottleneck_gradient, pixels_of(block), 1, 1, "bottleneck_gradient");
  require(!block.sums || block.bottleneck_sums, "bottleneck_sums", "are missing");
}

}  // namespace densenets

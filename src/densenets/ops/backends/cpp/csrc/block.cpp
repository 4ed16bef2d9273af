// All layers of a dense block in one call: what the schedule in Python does unit by unit.
#include <algorithm>
#include <cstring>

#include "checks.h"
#include "dispatch.h"

namespace densenets {

namespace {

int64_t bytes_of(int32_t data_type) { return data_type == kFloat64 ? 8 : data_type == kFloat32 ? 4 : 2; }

// An array of the data type, or of its accumulation type, from an element on; null stays null.
void* at(void* array, int64_t element, int64_t bytes) {
  return array ? static_cast<char*>(array) + element * bytes : nullptr;
}

class BlockRun {
 public:
  BlockRun(const DataTypeKernels& kernels, const Block& block, Workspace& workspace)
      : kernels_(kernels), block_(block), workspace_(workspace), bytes_(bytes_of(block.data_type)),
        real_bytes_(real_bytes(block.data_type)), pixels_(pixels_of(block)),
        width_(block.units == 2 && block.layers > 0 ? block.parts[0].out_channels : 0) {}

  void forward() const {
    int64_t channels = block_.in_channels;
    for (int64_t layer = 0; layer < block_.layers; layer++) {
      if (block_.units == 2) make_bottleneck(layer, channels, true);
      Unit last = last_unit(layer, channels);
      write_to(last, features(channels), block_.channels);
      if (block_.feature_moments) {
        last.output_mean = moments(channels);
        last.output_variance = moments(block_.channels + channels);
      }
      unit_forward(kernels_, last, workspace_);
      channels += last.out_channels;
    }
  }

  void backward() const {
    int64_t end = block_.channels;
    for (int64_t layer = block_.layers - 1; layer >= 0; layer--) {
      const int64_t start = end - part(layer, block_.units - 1).out_channels;
      Unit last = last_unit(layer, start);
      correct(last, gradients(start), block_.channels, features(start), block_.channels, moments(start), sums(start),
              sums(block_.channels + start));
      if (block_.units == 1) {
        add_to_features(last);
      } else {
        if (!block_.keep_bottlenecks) make_bottleneck(layer, start, false);
        bottleneck_backward(layer, start, last);
      }
      end = start;
    }
  }

 private:
  const BlockUnit& part(int64_t layer, int64_t unit) const { return block_.parts[layer * block_.units + unit]; }
  void* features(int64_t column) const { return at(block_.features, column, bytes_); }
  void* gradients(int64_t column) const { return at(block_.gradients, column, bytes_); }
  void* moments(int64_t element) const { return at(block_.feature_moments, element, real_bytes_); }
  void* sums(int64_t element) const { return at(block_.sums, element, real_bytes_); }
  void* bottleneck(int64_t layer) const {
    return at(block_.bottlenecks, block_.keep_bottlenecks ? layer * pixels_ * width_ : 0, bytes_);
  }
  void* bottleneck_moments(int64_t layer, int64_t row) const {
    return at(block_.bottleneck_moments, (2 * layer + row) * width_, real_bytes_);
  }

  Unit unit(const BlockUnit& part) const {
    Unit unit = {};
    unit.data_type = block_.data_type;
    unit.threads = block_.threads;
    unit.batch = block_.batch;
    std::copy_n(block_.sides, 3, unit.sides);
    std::copy_n(part.taps, 3, unit.taps);
    unit.out_channels = part.out_channels;
    unit.mean = part.mean;
    unit.variance = part.variance;
    unit.scale = part.scale;
    unit.shift = part.shift;
    unit.epsilon = part.epsilon;
    unit.weight = part.weight;
    unit.dropout_mask = part.dropout_mask;
    unit.dropout_scale = block_.dropout_scale;
    unit.scale_gradient = part.scale_gradient;
    unit.shift_gradient = part.shift_gradient;
    unit.weight_gradient = part.weight_gradient;
    return unit;
  }

  // The unit that reads the first `channels` columns of the buffer.
  Unit feature_unit(const BlockUnit& part, int64_t channels) const {
    Unit unit = this->unit(part);
    unit.in_channels = channels;
    unit.input = block_.features;
    unit.input_stride = block_.channels;
    if (block_.feature_moments) {
      unit.mean = block_.feature_moments;
      unit.variance = moments(block_.channels);
    }
    return unit;
  }

  Unit bottleneck_unit(int64_t layer) const {
    Unit unit = this->unit(part(layer, 1));
    unit.in_channels = unit.input_stride = width_;
    unit.input = bottleneck(layer);
    if (block_.bottleneck_moments) {
      unit.mean = bottleneck_moments(layer, 0);
      unit.variance = bottleneck_moments(layer, 1);
    }
    return unit;
  }

  Unit last_unit(int64_t layer, int64_t channels) const {
    return block_.units == 2 ? bottleneck_unit(layer) : feature_unit(part(layer, 0), channels);
  }

  static void write_to(Unit& unit, void* output, int64_t stride) {
    unit.output = output;
    unit.output_stride = stride;
  }

  void make_bottleneck(int64_t layer, int64_t channels, bool with_moments) const {
    Unit first = feature_unit(part(layer, 0), channels);
    write_to(first, bottleneck(layer), width_);
    if (with_moments) {
      first.output_mean = bottleneck_moments(layer, 0);
      first.output_variance = bottleneck_moments(layer, 1);
    }
    unit_forward(kernels_, first, workspace_);
  }

  // Where the gradient of a unit's result is, and what corrects it in training.
  void correct(Unit& unit, const void* gradient, int64_t gradient_stride, const void* result, int64_t result_stride,
               const void* mean, const void* sum_1, const void* sum_2) const {
    unit.output_gradient = gradient;
    unit.output_gradient_stride = gradient_stride;
    if (!block_.sums) return;
    unit.result = result;
    unit.result_stride = result_stride;
    unit.result_mean = mean;
    unit.result_sum_1 = sum_1;
    unit.result_sum_2 = sum_2;
    unit.result_count = static_cast<double>(pixels_);
  }

  void add_to_features(Unit& unit) const {
    unit.input_gradient = block_.gradients;
    unit.input_gradient_stride = block_.channels;
    unit.accumulate = 1;
    unit.sum_1 = sums(0);
    unit.sum_2 = sums(block_.channels);
    unit_backward(kernels_, unit, workspace_);
  }

  void bottleneck_backward(int64_t layer, int64_t channels, Unit& last) const {
    void* second_sums = block_.sums ? at(block_.bottleneck_sums, width_, real_bytes_) : nullptr;
    last.input_gradient = block_.bottleneck_gradient;
    last.input_gradient_stride = width_;
    if (block_.sums) {
      std::memset(block_.bottleneck_sums, 0, 2 * width_ * real_bytes_);
      last.sum_1 = block_.bottleneck_sums;
      last.sum_2 = second_sums;
    }
    unit_backward(kernels_, last, workspace_);
    Unit first = feature_unit(part(layer, 0), channels);
    correct(first, block_.bottleneck_gradient, width_, bottleneck(layer), width_, bottleneck_moments(layer, 0),
            block_.bottleneck_sums, second_sums);
    add_to_features(first);
  }

  const DataTypeKernels& kernels_;
  const Block& block_;
  Workspace& workspace_;
  const int64_t bytes_, real_bytes_, pixels_;
  const int64_t width_;  // of a bottleneck
};

}  // namespace

void block_forward(const DataTypeKernels& kernels, const Block& block, Workspace& workspace) {
  check_block(block);
  BlockRun(kernels, block, workspace).forward();
}

void block_backward(const DataTypeKernels& kernels, const Block& block, Workspace& workspace) {
  check_block_backward(block);
  BlockRun(kernels, block, workspace).backward();
}

}  // namespace densenets

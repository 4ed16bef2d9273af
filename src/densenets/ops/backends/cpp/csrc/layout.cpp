// What this library was built from.
#include <cstddef>

#include "interface.h"

#if !defined(DENSENETS_FINGERPRINT)
#error "DENSENETS_FINGERPRINT: see setup.py"
#endif

namespace {

#define STRUCT(type) {#type, 0, sizeof(type)}
#define FIELD(type, field) {#type "." #field, offsetof(type, field), sizeof(type::field)}

const Field kFields[] = {
    STRUCT(Unit),
    FIELD(Unit, data_type),
    FIELD(Unit, threads),
    FIELD(Unit, batch),
    FIELD(Unit, sides),
    FIELD(Unit, taps),
    FIELD(Unit, pool),
    FIELD(Unit, in_channels),
    FIELD(Unit, out_channels),
    FIELD(Unit, input),
    FIELD(Unit, input_stride),
    FIELD(Unit, mean),
    FIELD(Unit, variance),
    FIELD(Unit, scale),
    FIELD(Unit, shift),
    FIELD(Unit, epsilon),
    FIELD(Unit, weight),
    FIELD(Unit, dropout_mask),
    FIELD(Unit, dropout_scale),
    FIELD(Unit, output),
    FIELD(Unit, output_stride),
    FIELD(Unit, output_mean),
    FIELD(Unit, output_variance),
    FIELD(Unit, output_gradient),
    FIELD(Unit, output_gradient_stride),
    FIELD(Unit, result),
    FIELD(Unit, result_stride),
    FIELD(Unit, result_mean),
    FIELD(Unit, result_sum_1),
    FIELD(Unit, result_sum_2),
    FIELD(Unit, result_count),
    FIELD(Unit, input_gradient),
    FIELD(Unit, input_gradient_stride),
    FIELD(Unit, accumulate),
    FIELD(Unit, weight_gradient),
    FIELD(Unit, scale_gradient),
    FIELD(Unit, shift_gradient),
    FIELD(Unit, sum_1),
    FIELD(Unit, sum_2),
    STRUCT(BlockUnit),
    FIELD(BlockUnit, taps),
    FIELD(BlockUnit, out_channels),
    FIELD(BlockUnit, epsilon),
    FIELD(BlockUnit, scale),
    FIELD(BlockUnit, shift),
    FIELD(BlockUnit, weight),
    FIELD(BlockUnit, mean),
    FIELD(BlockUnit, variance),
    FIELD(BlockUnit, dropout_mask),
    FIELD(BlockUnit, scale_gradient),
    FIELD(BlockUnit, shift_gradient),
    FIELD(BlockUnit, weight_gradient),
    STRUCT(Block),
    FIELD(Block, data_type),
    FIELD(Block, threads),
    FIELD(Block, batch),
    FIELD(Block, sides),
    FIELD(Block, units),
    FIELD(Block, layers),
    FIELD(Block, in_channels),
    FIELD(Block, channels),
    FIELD(Block, dropout_scale),
    FIELD(Block, parts),
    FIELD(Block, features),
    FIELD(Block, bottlenecks),
    FIELD(Block, keep_bottlenecks),
    FIELD(Block, feature_moments),
    FIELD(Block, bottleneck_moments),
    FIELD(Block, gradients),
    FIELD(Block, sums),
    FIELD(Block, bottleneck_gradient),
    FIELD(Block, bottleneck_sums),
    {nullptr, 0, 0},
};

}  // namespace

extern "C" {

int32_t densenets_interface_version() noexcept { return kInterfaceVersion; }

const Field* densenets_fields() noexcept { return kFields; }

const char* densenets_fingerprint() noexcept { return DENSENETS_FINGERPRINT; }
}

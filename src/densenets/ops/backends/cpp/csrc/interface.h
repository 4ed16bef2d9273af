// The C interface: structs that say what to compute, and a handful of functions.
//
// Functions check what they are given, but for where arrays end, and throw nothing. Whoever changes what they mean
// counts kInterfaceVersion up, here and in interface.py.
//
// A dense block is a chain of BN-ReLU-convolution units. `Unit` is one of them, forward or backward. Feature
// maps are matrices in channels-last form: a row per pixel (batch and sides flattened), a column per channel,
// with a row stride, so that a unit reads the first columns of the block's shared buffer and writes its own
// behind them.
//
// P pixels of the input, Q of the output, C channels read, M channels made.
#pragma once

#include <cstdint>

#pragma GCC visibility push(default)
extern "C" {

enum : int32_t { kInterfaceVersion = 2 };

enum DataType : int32_t { kFloat32 = 0, kFloat64 = 1, kBFloat16 = 2 };

// What came of a call. Where it isn't done, `densenets_failure` says why, and what the call was to write is undefined.
enum Status : int32_t { kDone = 0, kBadArgument = 1, kNoMemory = 2, kFailed = 3 };

// Feature maps and their gradients hold the data type itself; every other `void*` array its accumulation type,
// which is float64 for float64 and float32 otherwise. Null where the comment says "or null".
struct Unit {
  int32_t data_type;
  int32_t threads;
  int64_t batch;
  int64_t sides[3];  // depth, height, width of the input; 1 for a dimension that there is not
  int32_t taps[3];   // 1 or 3: sides of the kernel
  int32_t pool;      // 1: average over 2 x 2 (x 2) before a product with a kernel of one tap
  int64_t in_channels;
  int64_t out_channels;
  const void* input;  // P x C
  int64_t input_stride;
  const void* mean;  // C; of the batch or running
  const void* variance;
  const void* scale;  // C; gamma
  const void* shift;  // C; beta
  double epsilon;
  const void* weight;           // M x C x taps
  const uint8_t* dropout_mask;  // Q x M, or null: 1 where dropout keeps a value
  double dropout_scale;         // what a kept value is multiplied by

  // Forward.
  void* output;  // Q x M
  int64_t output_stride;
  void* output_mean;      // M, or null
  void* output_variance;  // M, or null; divided by Q

  // Backward. The gradient with respect to the output is corrected on the way in, by the two corrections
  // of the batch normalisations that read it: dy - (sum_1 + (y - mean) * sum_2) / count.
  const void* output_gradient;  // Q x M
  int64_t output_gradient_stride;
  const void* result;  // Q x M, or null where there is nothing to correct; what forward wrote
  int64_t result_stride;
  const void* result_mean;   // M
  const void* result_sum_1;  // M
  const void* result_sum_2;  // M
  double result_count;
  void* input_gradient;  // P x C
  int64_t input_gradient_stride;
  int32_t accumulate;     // 1: add to input_gradient; 0: write it
  void* weight_gradient;  // M x C x taps
  void* scale_gradient;   // C
  void* shift_gradient;   // C
  void* sum_1;            // C, or null where statistics are constants; added to
  void* sum_2;            // C
};

// A unit of a dense block: what differs from one to the next.
struct BlockUnit {
  int32_t taps[3];
  int64_t out_channels;
  double epsilon;
  const void* scale;
  const void* shift;
  const void* weight;
  const void* mean;  // running; null where the batch's own are used
  const void* variance;
  const uint8_t* dropout_mask;  // or null
  void* scale_gradient;         // these three in the backward pass alone
  void* shift_gradient;
  void* weight_gradient;
};

// All layers of a dense block, one behind the other. `features` and `gradients` are P x channels; each layer reads
// the first columns and makes the next ones.
struct Block {
  int32_t data_type;
  int32_t threads;
  int64_t batch;
  int64_t sides[3];
  int32_t units;  // of a layer: 1, or 2 with a bottleneck
  int64_t layers;
  int64_t in_channels;
  int64_t channels;
  double dropout_scale;
  const BlockUnit* parts;  // layers x units
  void* features;
  void* bottlenecks;         // layers x P x B, or P x B if they are not kept; null without bottleneck
  int32_t keep_bottlenecks;  // 0: the backward pass makes them again
  void* feature_moments;     // 2 x channels, the input's already there; null in evaluation
  void* bottleneck_moments;  // layers x 2 x B; null in evaluation or without bottleneck

  // Backward.
  void* gradients;            // from that of the block's output to that of its input, which is not corrected
  void* sums;                 // 2 x channels, what the corrections need: added to; null in evaluation
  void* bottleneck_gradient;  // P x B, for each layer in turn
  void* bottleneck_sums;      // 2 x B, the same
};

// What the library was built from, to be compared by whoever loads it: kInterfaceVersion, every struct (its name and
// size) with its fields behind it, up to a null name, and a SHA-256 of the sources.
struct Field {
  const char* name;  // "Unit" or "Unit.threads"
  int64_t offset;
  int64_t size;
};
int32_t densenets_interface_version() noexcept;
const Field* densenets_fields() noexcept;
const char* densenets_fingerprint() noexcept;

// Why this thread's last call failed, but for kNoMemory.
const char* densenets_failure() noexcept;

// Memory that calls compute in is kept for the next ones, and given back by and by where they need less; this gives
// back at once what no call uses. Returns how many bytes.
int64_t densenets_release_memory() noexcept;

// The n-th piece of memory that is taken from now on is refused; 0: none. For tests.
void densenets_refuse_memory(int64_t n) noexcept;

// Hands over the function that runs a team of threads (GOMP_parallel of the OpenMP runtime that the process
// already has), so that there is never a second runtime. Null: threads of our own.
void densenets_use_runtime(void* gomp_parallel) noexcept;

// How many instruction sets this library has and this machine runs; 0 is the portable one.
int32_t densenets_instruction_sets() noexcept;
const char* densenets_instruction_set_name(int32_t index) noexcept;  // null where there is none

// Asks the system for large pages under memory that is going to be written for the first time.
void densenets_advise_huge_pages(void* memory, int64_t bytes) noexcept;

// These return a Status.
int32_t densenets_forward(int32_t instruction_set, const Unit* unit) noexcept;
int32_t densenets_backward(int32_t instruction_set, const Unit* unit) noexcept;

int32_t densenets_block_forward(int32_t instruction_set, const Block* block) noexcept;
int32_t densenets_block_backward(int32_t instruction_set, const Block* block) noexcept;

// Mean and variance (divided by `pixels`) of each column.
int32_t densenets_statistics(int32_t instruction_set, int32_t data_type, int32_t threads, const void* input,
                             int64_t pixels, int64_t channels, int64_t stride, void* mean, void* variance) noexcept;

// The gradient with respect to a unit's result, corrected: out, pixels x out_channels of the data type. Reads
// the fields of the unit that correct the output's gradient.
int32_t densenets_apply_correction(int32_t instruction_set, const Unit* unit, int64_t pixels, void* out,
                                   int64_t stride) noexcept;

// BN-ReLU-max pooling (windows of 3, two apart, one pixel of margin) in the place of the product: `taps` are
// the windows' sides, `output` has C channels, `winners` (as many bytes) say which tap each result came from.
// Backward, `input_gradient` is complete where result_count, the pixels that the
// statistics were taken over, is not 0.
int32_t densenets_stem_forward(int32_t instruction_set, const Unit* unit, uint8_t* winners) noexcept;
int32_t densenets_stem_backward(int32_t instruction_set, const Unit* unit, const uint8_t* winners) noexcept;

// `rate`: multiply-adds per second, times two, of a loop of nothing else.
int32_t densenets_peak(int32_t instruction_set, int32_t data_type, int32_t threads, double seconds,
                       double* rate) noexcept;
}
#pragma GCC visibility pop

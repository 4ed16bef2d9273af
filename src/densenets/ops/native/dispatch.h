// The kernels of every instruction set that this library was built with.
#pragma once

#include "interface.h"

namespace densenets {

// A matrix whose columns are summed up or written.
struct Columns {
  int threads;
  void* data;
  int64_t rows;
  int64_t channels;
  int64_t stride;
  void* mean;
  void* variance;
};

struct DataTypeKernels {
  void (*forward)(const Unit&);
  void (*backward)(const Unit&);
  void (*statistics)(const Columns&);
  void (*complete)(const Unit&, const Columns&);
  void (*stem_forward)(const Unit&, uint8_t* winners);
  void (*stem_backward)(const Unit&, const uint8_t* winners);
  double (*peak)(int threads, double seconds);
};

struct Kernels {
  const char* name;
  DataTypeKernels of[3];  // by DataType
};

// Which unit of a block runs when, on which part of the shared buffer.
void block_forward(const DataTypeKernels& kernels, const Block& block);
void block_backward(const DataTypeKernels& kernels, const Block& block);

extern const Kernels portable_kernels;
#if defined(__x86_64__)
extern const Kernels avx2_kernels;
extern const Kernels avx512_kernels;
extern const Kernels avx512_bf16_kernels;
extern const Kernels amx_kernels;
#endif

}  // namespace densenets

using densenets::Columns;

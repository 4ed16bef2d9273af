// The kernels of every instruction set that this library was built with.
#pragma once

#include "interface.h"
#include "workspace.h"

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

// What one instruction set does with one data type, with arguments that were checked and are not empty. All may throw
// std::bad_alloc, before they compute.
struct DataTypeKernels {
  void (*forward)(const Unit&, Workspace&);
  void (*backward)(const Unit&, Workspace&);
  void (*statistics)(const Columns&, Workspace&);
  void (*correct)(const Unit&, const Columns&, Workspace&);
  void (*stem_forward)(const Unit&, uint8_t* winners, Workspace&);
  void (*stem_backward)(const Unit&, const uint8_t* winners, Workspace&);
  double (*peak)(int threads, double seconds, Workspace&);
};

struct Kernels {
  const char* name;
  DataTypeKernels of[3];  // by DataType; all zeros where those of the instruction set before are the same code
};

// Any unit: its arguments are checked, and images without pixels have a result too.
void unit_forward(const DataTypeKernels& kernels, const Unit& unit, Workspace& workspace);
void unit_backward(const DataTypeKernels& kernels, const Unit& unit, Workspace& workspace);

// Which unit of a block runs when, on which part of the shared buffer.
void block_forward(const DataTypeKernels& kernels, const Block& block, Workspace& workspace);
void block_backward(const DataTypeKernels& kernels, const Block& block, Workspace& workspace);

inline int64_t real_bytes(int32_t data_type) { return data_type == kFloat64 ? 8 : 4; }

// Those that setup.py has built, by their macros.
extern const Kernels portable_kernels;
extern const Kernels avx2_kernels;
extern const Kernels avx512_kernels;
extern const Kernels avx512_bf16_kernels;
extern const Kernels amx_kernels;

}  // namespace densenets

using densenets::Columns;

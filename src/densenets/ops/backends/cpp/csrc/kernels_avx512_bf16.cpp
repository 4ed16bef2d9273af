// The kernels of one instruction set: avx512_bf16.
#define DENSENETS_ISA avx512_bf16
#define DENSENETS_BYTES 64
#include "kernels.h"

namespace densenets {
extern const Kernels avx512_bf16_kernels = avx512_bf16::kernels("avx512_bf16");
}

// The kernels of one instruction set: avx512.
#define DENSENETS_ISA avx512
#define DENSENETS_BYTES 64
#include "kernels.h"

namespace densenets {
extern const Kernels avx512_kernels = avx512::kernels("avx512");
}

// The kernels of one instruction set: avx2.
#define DENSENETS_ISA avx2
#define DENSENETS_BYTES 32
#include "kernels.h"

namespace densenets {
extern const Kernels avx2_kernels = avx2::kernels("avx2");
}

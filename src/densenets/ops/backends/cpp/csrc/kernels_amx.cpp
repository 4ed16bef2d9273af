// The kernels of one instruction set: amx.
#define DENSENETS_ISA amx
#define DENSENETS_BYTES 64
#include "kernels.h"

namespace densenets {
extern const Kernels amx_kernels = amx::kernels("amx");
}

// The kernels of one instruction set: portable.
#define DENSENETS_ISA portable
#define DENSENETS_BYTES 16
#include "kernels.h"

namespace densenets {
extern const Kernels portable_kernels = portable::kernels("portable");
}

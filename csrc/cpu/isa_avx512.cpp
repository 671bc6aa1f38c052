// AVX-512 F, BW, DQ and VL.
#define PYOIP_LANES 16
#define PYOIP_ISA_NAME "avx512"
#include "kernels.inl"

namespace pyoip::cpu {
const Kernels& avx512_kernels() { return kKernels; }
}  // namespace pyoip::cpu

// AVX-512 F, BW, DQ and VL.
#define PYOIP_LANES 16
#define PYOIP_ISA_NAME "avx512"
#define PYOIP_NOISE avx512_noise
#include "kernels.inl"

namespace pyoip::cpu {
const Kernels& avx512_kernels() { return kKernels; }
}  // namespace pyoip::cpu

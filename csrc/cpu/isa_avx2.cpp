// AVX2 and FMA.
#define PYOIP_LANES 8
#define PYOIP_ISA_NAME "avx2"
#define PYOIP_NOISE avx2_noise
#include "kernels.inl"

namespace pyoip::cpu {
const Kernels& avx2_kernels() { return kKernels; }
}  // namespace pyoip::cpu

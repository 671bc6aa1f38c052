// What every processor of the architecture has: SSE2 on x86-64, NEON on aarch64.
#define PYOIP_LANES 4
#if defined(__aarch64__)
#define PYOIP_ISA_NAME "neon"
#else
#define PYOIP_ISA_NAME "baseline"
#endif
#define PYOIP_NOISE baseline_noise
#include "kernels.inl"

namespace pyoip::cpu {
const Kernels& baseline_kernels() { return kKernels; }
}  // namespace pyoip::cpu

// What the kernels take from the chip beyond C++. Without nvcc the host shim of the tests gives it.
#pragma once

#include <cuda_runtime.h>

#ifdef __CUDACC__
// d (16 x 8) += a (16 x 8) * b (8 x 8), spread over a warp. Lane 4 g + t holds
//   a: (g, t), (g + 8, t), (g, t + 4), (g + 8, t + 4)    b: (t, g), (t + 4, g)
//   d: (g, 2 t), (g, 2 t + 1), (g + 8, 2 t), (g + 8, 2 t + 1).
// Of a and b the unit takes sign, exponent and 10 bits; the lower 13 bits are not looked at.
__device__ __forceinline__ void mma_m16n8k8_tf32(float (&d)[4], const unsigned (&a)[4],
                                                 const unsigned (&b)[2]) {
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
#endif

namespace pyoip::cuda {
constexpr unsigned kFullWarp = 0xffffffffu;
}

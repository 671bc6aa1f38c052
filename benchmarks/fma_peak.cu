// The device's multiply-adds a second, as a chain of each thread's own makes them.
#include <cstdio>
__global__ void chains(float* out, float a, float b, int rounds) {
    float x[16];
    for (int i = 0; i < 16; ++i) x[i] = threadIdx.x + i;
    for (int r = 0; r < rounds; ++r)
        for (int k = 0; k < 16; ++k)
#pragma unroll
            for (int i = 0; i < 16; ++i) x[i] = x[i] * a + b;
    float sum = 0;
    for (int i = 0; i < 16; ++i) sum += x[i];
    out[blockIdx.x * blockDim.x + threadIdx.x] = sum;
}
int main() {
    cudaDeviceProp is;
    cudaGetDeviceProperties(&is, 0);
    const int blocks = 8 * is.multiProcessorCount, threads = 256, rounds = 20000;
    float* out;
    cudaMalloc(&out, blocks * threads * sizeof(float));
    cudaEvent_t from, to;
    cudaEventCreate(&from), cudaEventCreate(&to);
    float best = 1e30f;
    for (int i = 0; i < 6; ++i) {
        cudaEventRecord(from);
        chains<<<blocks, threads>>>(out, 0.999f, 0.5f, rounds);
        cudaEventRecord(to), cudaEventSynchronize(to);
        float took;
        cudaEventElapsedTime(&took, from, to);
        if (took < best) best = took;
    }
    if (cudaGetLastError() != cudaSuccess) return 1;
    std::printf("%.6e\n", 2.0 * 256 * rounds * double(blocks) * threads / (best * 1e-3));
}

// One block of threads has one image: a channel's sum of scales grows in shared memory beside the one
// grid of normal values that is being laid over it. Every sum has the CPU's order (../cpu/noise.inl),
// and this file is compiled without contraction, so the images have the CPU's bits. A pixel takes its
// 16 cells from shared memory where they lie; a first pass along the rows would save most of these
// reads for two barriers more, and a million images are milliseconds either way.
#include "starts.hpp"

#include "intrinsics.cuh"

namespace pyoip::cuda {
namespace {

constexpr int kPainters = 128;  // threads of a block

#define PYOIP_NORMAL __device__ __forceinline__
#include "../normal.inl"
#undef PYOIP_NORMAL

// A thread's view of its block.
struct Canvas {
    const StartPlan& plan;
    double* lanes;  // (kLanes)
    float* image;   // (C, H, W)
    float* room;    // a grid, or a plane half blurred
    int thread;

    __device__ __forceinline__ Canvas(const StartPlan& p, unsigned char* memory)
        : plan(p),
          lanes(reinterpret_cast<double*>(memory)),
          image(reinterpret_cast<float*>(memory + kLaneBytes)),
          room(image + std::int64_t(p.channels) * p.height * p.width),
          thread(int(threadIdx.x)) {}

    __device__ __forceinline__ int plane() const { return plan.height * plan.width; }
    __device__ __forceinline__ int pixels() const { return plan.channels * plane(); }
};

// f(i) for i < count: an i belongs to one thread, whatever the loop.
template <class F>
__device__ __forceinline__ void each(const Canvas& c, int count, const F& f) {
    for (int i = c.thread; i < count; i += kPainters) f(i);
}

// A channel's values of a grid, to the room.
__device__ inline void draw_cells(const Canvas& c, const ScalePlan& scale, std::uint64_t number,
                                  int channel) {
    const int size = scale.cells_h * scale.cells_w;
    const std::int64_t first = std::int64_t(channel) * size;
    const Draw draw{c.plan.seed, c.plan.stream, scale.slot, number};
    const auto begin = std::uint32_t(first / kDrawn),
               end = std::uint32_t((first + size + kDrawn - 1) / kDrawn);
    each(c, int(end - begin), [&](int i) {
        const std::uint32_t counter = begin + std::uint32_t(i);
        std::uint32_t bits[kDrawn];
        float values[kDrawn];
        philox(counter, draw, bits);
        normals_of(bits[0], bits[1], bits[2], bits[3], values);
#pragma unroll
        for (int k = 0; k < kDrawn; ++k) {
            const std::int64_t cell = std::int64_t(counter) * kDrawn + k - first;
            if (cell >= 0 && cell < size) c.room[cell] = values[k];
        }
    });
}

// What a grid is at a pixel between its cells, added to `before`.
__device__ inline float upsampled(const Canvas& c, const ScalePlan& scale, const Taps& down,
                                  const Taps& across, float before) {
    float sum = before;
#pragma unroll
    for (int r = 0; r < kTaps; ++r) {
        const float* row = c.room + down.cells[r] * scale.cells_w;
        float along = 0.0f;
#pragma unroll
        for (int k = 0; k < kTaps; ++k) along += row[across.cells[k]] * scale.weight * across.weights[k];
        sum += along * down.weights[r];
    }
    return sum;
}

__device__ inline void add_scale(const Canvas& c, const ScalePlan& scale, float* sum) {
    each(c, c.plane(), [&](int i) {
        sum[i] = scale.down == nullptr ? sum[i] + c.room[i] * scale.weight
                                       : upsampled(c, scale, scale.down[i / c.plan.width],
                                                   scale.across[i % c.plan.width], sum[i]);
    });
}

__device__ __forceinline__ float blurred(float before, float here, float after) {
    return 0.25f * (before + after) + 0.5f * here;
}

// A pass of the 3x3 binomial blur, edges replicated.
__device__ inline void blur(const Canvas& c, float* plane) {
    const int width = c.plan.width, last = c.plane() - width;
    each(c, c.plane(), [&](int i) {
        c.room[i] = blurred(plane[i < width ? i : i - width], plane[i], plane[i < last ? i + width : i]);
    });
    __syncthreads();
    each(c, c.plane(), [&](int i) {
        const int x = i % width;
        plane[i] = blurred(c.room[x > 0 ? i - 1 : i], c.room[i], c.room[x < width - 1 ? i + 1 : i]);
    });
    __syncthreads();
}

__device__ inline void paint_channel(const Canvas& c, std::uint64_t number, int channel) {
    float* sum = c.image + channel * c.plane();
    each(c, c.plane(), [&](int i) { sum[i] = 0.0f; });
    for (int s = 0; s < c.plan.scale_count; ++s) {
        draw_cells(c, c.plan.scales[s], number, channel);
        __syncthreads();
        add_scale(c, c.plan.scales[s], sum);
        __syncthreads();
    }
    for (int pass = 0; pass < c.plan.smoothing; ++pass) blur(c, sum);
}

// Over the pixels, in double; a barrier.
template <class Term>
__device__ __forceinline__ double lane_sum(const Canvas& c, const Term& term) {
    if (c.thread < kLanes) {
        double sum = 0.0;
        for (int i = c.thread; i < c.pixels(); i += kLanes) sum += term(c.image[i]);
        c.lanes[c.thread] = sum;
    }
    __syncthreads();
    const double* l = c.lanes;
    const double all = ((l[0] + l[4]) + (l[2] + l[6])) + ((l[1] + l[5]) + (l[3] + l[7]));
    __syncthreads();
    return all;
}

// Brings the image to the constraint, on its way to device memory.
__device__ inline void write(const Canvas& c, float* out) {
    const StartPlan& p = c.plan;
    const auto mean = float(lane_sum(c, [](float value) { return double(value); }) / double(c.pixels()));
    const double square = lane_sum(c, [=](float value) {
        const auto centred = double(value - mean);
        return centred * centred;
    });
    const double deviation = sqrt(square / double(c.pixels()));
    const auto scale = float(1.0 / (deviation < 1e-30 ? 1e-30 : deviation));
    if (p.constraint == Constraint::standardize)
        return each(c, c.pixels(), [&](int i) { out[i] = (c.image[i] - mean) * scale; });
    const float middle = 0.5f * (p.low + p.high), spread = 0.25f * (p.high - p.low) * scale;
    each(c, c.pixels(), [&](int i) {
        const float value = middle + spread * (c.image[i] - mean);
        out[i] = value < p.low ? p.low : p.high < value ? p.high : value;
    });
}

__global__ void __launch_bounds__(kPainters)
    draw_kernel(const __grid_constant__ StartPlan plan, const std::uint64_t* numbers, float* images,
                unsigned* finished) {
    extern __shared__ __align__(16) unsigned char shared_memory[];
    const Canvas c(plan, shared_memory);
    const std::uint64_t number = numbers[blockIdx.x];
    for (int channel = 0; channel < plan.channels; ++channel) paint_channel(c, number, channel);
    __syncthreads();
    write(c, images + std::int64_t(blockIdx.x) * c.pixels());
    if (c.thread == 0 && finished != nullptr) atomicAdd(finished, 1u);
}

}  // namespace

cudaError_t prepare_draw(std::int64_t shared) {
    return cudaFuncSetAttribute(draw_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(shared));
}

cudaError_t draw(const StartPlan& plan, cudaStream_t stream, const std::uint64_t* numbers, unsigned count,
                 float* images, unsigned* finished) {
    if (count == 0) return cudaSuccess;
    cudaLaunchConfig_t config{};
    config.gridDim = dim3(count);
    config.blockDim = dim3(kPainters);
    config.dynamicSmemBytes = std::size_t(plan.shared_bytes);
    config.stream = stream;
    return cudaLaunchKernelEx(&config, draw_kernel, plan, numbers, images, finished);
}

}  // namespace pyoip::cuda

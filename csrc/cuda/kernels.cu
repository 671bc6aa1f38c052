// The kernels and their launches; see kernels.hpp. NOTES.md counts what bounds them.
#include "kernels.hpp"

#include "ascent.cuh"
#include "maps.cuh"

namespace pyoip::cuda {
namespace {

constexpr int kBlocksAimedAt = 2;  // on a multiprocessor: at most 128 registers a thread

#define PYOIP_KERNEL __global__ void __launch_bounds__(kThreads, kBlocksAimedAt)

// This block's next image, or `count` when there is none or the host asks to end. Nothing of another
// image is left then, and borders are zeros. Begins with a barrier and ends with one.
__device__ __forceinline__ unsigned take_next(const Block& b, const Signals& signals, unsigned count) {
    auto* word = reinterpret_cast<unsigned*>(b.words());
    __syncthreads();
    if (b.thread == 0) *word = *signals.stop != 0 ? count : atomicAdd(signals.next, 1u);
    __syncthreads();
    const unsigned index = *word;
    __syncthreads();
    auto* words = reinterpret_cast<float4*>(b.shared);
    for (int i = b.thread; i < int(b.plan.shared_bytes / 16); i += kThreads)
        words[i] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    __syncthreads();
    return index < count ? index : count;
}

// Counters wrap; a host that reads an older one reads a newer one later.
__device__ __forceinline__ void report(const Block& b, const Signals& signals) {
    if (b.thread == 0) *signals.reported = atomicAdd(signals.finished, 1u) + 1u;
}

// What is asked for each image: all maps' scores, or their activations.
struct MapsQuestion {
    const float* images;
    Objective objective;
    float* scores;       // (count, maps), or none
    float* activations;  // (count, maps, h, w)
};

__device__ __forceinline__ void answer(const Block& b, const MapsQuestion& ask, unsigned index) {
    const LayerPlan& t = b.layer(b.target());
    load_image(b, ask.images, index);
    load_planes(b);
    forward_below(b);
    if (ask.scores != nullptr)
        score_maps(b, ask.objective, ask.scores + std::int64_t(index) * t.maps);
    else
        write_maps(b, ask.activations + std::int64_t(index) * t.maps * t.positions);
}

PYOIP_KERNEL maps_kernel(const __grid_constant__ Plan plan, Precision precision, Signals signals,
                         unsigned count, MapsQuestion ask) {
    extern __shared__ __align__(16) unsigned char shared_memory[];
    Block b(plan, precision, shared_memory);
    for (unsigned index; (index = take_next(b, signals, count)) < count; report(b, signals))
        answer(b, ask, index);
}

// Or whole ascents, or one map's gradient, which is how each step of an ascent begins: a kernel of
// its own would double what has to be compiled.
struct AscentQuestion {
    Ascents ascents;
    AscentSettings settings;
};

PYOIP_KERNEL ascend_kernel(const __grid_constant__ Plan plan, Precision precision, Signals signals,
                           unsigned count, const __grid_constant__ AscentQuestion ask) {
    extern __shared__ __align__(16) unsigned char shared_memory[];
    Block b(plan, precision, shared_memory);
    for (unsigned index; (index = take_next(b, signals, count)) < count; report(b, signals))
        ascend(b, ask.settings, ask.ascents, index, signals.stop);
}

// --- launches ----------------------------------------------------------------------------------

// Where and how a launch runs.
struct Place {
    const Plan& plan;
    Precision precision;
    int blocks;
    cudaStream_t stream;
    const Signals& signals;
};

template <class Question>
cudaError_t launch(const Place& at, unsigned count, const Question& ask,
                   void (*kernel)(Plan, Precision, Signals, unsigned, Question)) {
    if (count == 0) return cudaSuccess;
    cudaLaunchConfig_t config{};
    config.gridDim = dim3(count < unsigned(at.blocks) ? count : unsigned(at.blocks));
    config.blockDim = dim3(kThreads);
    config.dynamicSmemBytes = std::size_t(at.plan.shared_bytes);
    config.stream = at.stream;
    return cudaLaunchKernelEx(&config, kernel, at.plan, at.precision, at.signals, count, ask);
}

// Allows the kernel all that a block can have: another plan may need more than this one.
template <class Function>
cudaError_t allow(Function* kernel, const Plan& plan, int* blocks) {
    int device = 0, most = 0;
    cudaError_t error = cudaGetDevice(&device);
    if (error == cudaSuccess)
        error = cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
    if (error == cudaSuccess)
        error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, most);
    if (error != cudaSuccess) return error;
    return cudaOccupancyMaxActiveBlocksPerMultiprocessor(blocks, kernel, kThreads,
                                                         std::size_t(plan.shared_bytes));
}

}  // namespace

cudaError_t prepare(Kernel kernel, const Plan& plan, int* blocks) {
    switch (kernel) {
        case Kernel::maps: return allow(maps_kernel, plan, blocks);
        case Kernel::ascend: return allow(ascend_kernel, plan, blocks);
    }
    return cudaErrorInvalidValue;
}

cudaError_t score(const Plan& plan, Precision precision, int blocks, cudaStream_t stream,
                  const Signals& signals, const float* images, unsigned count, Objective objective,
                  float* scores) {
    return launch({plan, precision, blocks, stream, signals}, count,
                  MapsQuestion{images, objective, scores, nullptr}, maps_kernel);
}

cudaError_t activations(const Plan& plan, Precision precision, int blocks, cudaStream_t stream,
                        const Signals& signals, const float* images, unsigned count, float* maps) {
    return launch({plan, precision, blocks, stream, signals}, count,
                  MapsQuestion{images, Objective::activation, nullptr, maps}, maps_kernel);
}

cudaError_t gradient(const Plan& plan, Precision precision, int blocks, cudaStream_t stream,
                     const Signals& signals, const float* images, const std::int32_t* targets, unsigned count,
                     Objective objective, float* values, float* gradients) {
    Ascents one{};
    one.starts = images, one.targets = targets, one.values = values, one.gradients = gradients;
    AscentSettings as_given{};
    as_given.objective = objective, as_given.article = true;  // a map that is silent is not woken
    return ascend(plan, precision, blocks, stream, signals, one, count, as_given);
}

cudaError_t ascend(const Plan& plan, Precision precision, int blocks, cudaStream_t stream,
                   const Signals& signals, const Ascents& ascents, unsigned count,
                   const AscentSettings& settings) {
    return launch({plan, precision, blocks, stream, signals}, count, AscentQuestion{ascents, settings},
                  ascend_kernel);
}

}  // namespace pyoip::cuda

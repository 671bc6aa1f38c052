#include "engine.hpp"

#include <optional>
#include <string>

namespace pyoip::cuda {
namespace {

constexpr Kernel kKernels[] = {Kernel::maps, Kernel::ascend};

// There is no larger transformation here that "fast" could mean.
Precision meant(Precision asked) { return asked == Precision::tf32 ? asked : Precision::exact; }

Column read(Where where, const void* from, std::size_t bytes) { return {where, from, nullptr, bytes, -1}; }

Column written(Where where, void* to, std::size_t bytes, int fill = -1) {
    return {where, nullptr, to, bytes, fill};
}

// Of no interest to the host.
Column between(std::size_t bytes) { return {Where::host, nullptr, nullptr, bytes, -1}; }

std::size_t floats(std::int64_t count) { return std::size_t(count) * sizeof(float); }

// The bytes of NaN and of -1.
constexpr int kUnknown = 0xFF;

// The settings' snapshot steps on the device, copied when they are first asked for.
class SnapshotSteps {
public:
    const std::int32_t* on_device(const AscentSettings& settings, cudaStream_t stream) {
        const std::size_t bytes = std::size_t(settings.snapshot_count) * sizeof(std::int32_t);
        if (bytes > 0 && memory_.bytes() == 0) {
            memory_ = DeviceMemory(bytes);
            check(cudaMemcpyAsync(memory_.data(), settings.snapshots, bytes, cudaMemcpyHostToDevice, stream),
                  "cudaMemcpyAsync to the device");
        }
        return reinterpret_cast<const std::int32_t*>(memory_.data());
    }

private:
    DeviceMemory memory_;
};

}  // namespace

NotFitting::NotFitting(std::int64_t bytes, std::int64_t room)
    : std::length_error("an image of this stack takes " + std::to_string(bytes) +
                        " bytes of shared memory, and a block of this device has " + std::to_string(room)),
      needed(bytes),
      available(room) {}

Engine::Engine(const Stack& stack, int device) {
    check_stack(stack);
    check_process();
    device_ = find_device(device);
    const OnDevice current(device_.index);
    const HostPlan host = make_plan(stack);
    plan_ = host.plan;
    if (plan_.shared_bytes > device_.shared_per_block)
        throw NotFitting(plan_.shared_bytes, device_.shared_per_block);
    upload(host);
    prepare_kernels();
    batches_ = std::make_unique<Batches>();
}

// All weights in one block of memory, each array from a multiple of 256 bytes on.
void Engine::upload(const HostPlan& host) {
    constexpr std::size_t kStep = 256 / sizeof(float);
    std::vector<float> all;
    std::vector<std::pair<const float**, std::size_t>> places;
    const auto put = [&](const std::vector<float>& values, const float** pointer) {
        places.emplace_back(pointer, all.size());
        all.insert(all.end(), values.begin(), values.end());
        all.resize((all.size() + kStep - 1) / kStep * kStep);
    };
    for (int l = 0; l < plan_.layer_count; ++l) {
        LayerPlan& layer = plan_.layers[l];
        const HostPlan::Weights& w = host.weights[l];
        put(w.forward, &layer.forward), put(w.backward, &layer.backward);
        put(w.rows, &layer.rows), put(w.bias, &layer.bias);
    }
    weights_ = DeviceMemory(all.size() * sizeof(float));
    check(cudaMemcpy(weights_.data(), all.data(), weights_.bytes(), cudaMemcpyHostToDevice), "cudaMemcpy");
    for (const auto& [pointer, at] : places) *pointer = reinterpret_cast<const float*>(weights_.data()) + at;
}

void Engine::prepare_kernels() {
    for (const Kernel kernel : kKernels) {
        int each = 0;
        check(prepare(kernel, plan_, &each), "the kernels");
        if (each < 1) throw NotFitting(plan_.shared_bytes, device_.shared_per_block);
        blocks_[int(kernel)] = each * device_.multiprocessors;
    }
    check(prepare_draw(device_.shared_per_block), "the kernel of start images");
}

bool Engine::run(const std::vector<Column>& columns, std::int64_t count, const Poll& poll,
                 const Launch& launch) {
    check_process();
    const std::lock_guard lock(mutex_);
    const OnDevice current(device_.index);
    return batches_->run(columns, count, poll, launch);
}

bool Engine::score(Where where, const float* images, std::int64_t count, Objective objective,
                   Precision precision, const Poll& poll, float* scores) {
    const std::vector<Column> columns{read(where, images, floats(plan_.pixels)),
                                      written(where, scores, floats(target().maps))};
    return run(columns, count, poll, [&, p = meant(precision)](const Batch& b) {
        return cuda::score(plan_, p, blocks_[int(Kernel::maps)], stream(), b.signals, b.as<const float>(0),
                           b.count, objective, b.as<float>(1));
    });
}

// With its tables on the device, where they stay until the next: calls come one at a time.
StartPlan Engine::start_plan(const FluctuationSettings& settings) {
    HostStartPlan host = make_start_plan(settings, plan_.channels, plan_.height, plan_.width);
    const std::size_t bytes = host.taps.size() * sizeof(Taps);
    if (taps_.bytes() < bytes) taps_ = DeviceMemory(bytes);
    check(cudaMemcpy(taps_.data(), host.taps.data(), bytes, cudaMemcpyHostToDevice), "cudaMemcpy");
    host.point_at(reinterpret_cast<const Taps*>(taps_.data()));
    return host.plan;
}

bool Engine::start_images(const FluctuationSettings& settings, const std::uint64_t* numbers,
                          std::int64_t count, const Poll& poll, float* images) {
    const std::vector<Column> columns{read(Where::host, numbers, sizeof(std::uint64_t)),
                                      written(Where::host, images, floats(plan_.pixels))};
    std::optional<StartPlan> starts;
    return run(columns, count, poll, [&](const Batch& b) {
        if (!starts) starts = start_plan(settings);
        return draw(*starts, stream(), b.as<const std::uint64_t>(0), b.count, b.as<float>(1),
                    b.signals.finished);
    });
}

bool Engine::score_starts(const FluctuationSettings& settings, const std::uint64_t* numbers,
                          std::int64_t count, Objective objective, Precision precision, const Poll& poll,
                          float* scores) {
    const std::vector<Column> columns{read(Where::host, numbers, sizeof(std::uint64_t)),
                                      between(floats(plan_.pixels)),
                                      written(Where::host, scores, floats(target().maps))};
    std::optional<StartPlan> starts;
    return run(columns, count, poll, [&, p = meant(precision)](const Batch& b) {
        if (!starts) starts = start_plan(settings);
        const cudaError_t error =
            draw(*starts, stream(), b.as<const std::uint64_t>(0), b.count, b.as<float>(1), nullptr);
        return error != cudaSuccess ? error
                                    : cuda::score(plan_, p, blocks_[int(Kernel::maps)], stream(), b.signals,
                                                  b.as<const float>(1), b.count, objective, b.as<float>(2));
    });
}

bool Engine::activations(Where where, const float* images, std::int64_t count, Precision precision,
                         const Poll& poll, float* maps) {
    const std::int64_t size = std::int64_t(target().maps) * target().positions;
    const std::vector<Column> columns{read(where, images, floats(plan_.pixels)),
                                      written(where, maps, floats(size))};
    return run(columns, count, poll, [&, p = meant(precision)](const Batch& b) {
        return cuda::activations(plan_, p, blocks_[int(Kernel::maps)], stream(), b.signals,
                                 b.as<const float>(0), b.count, b.as<float>(1));
    });
}

bool Engine::gradient(Where where, const float* images, const std::int32_t* targets, std::int64_t count,
                      Objective objective, Precision precision, const Poll& poll, float* values,
                      float* gradients) {
    const std::vector<Column> columns{
        read(where, images, floats(plan_.pixels)), read(Where::host, targets, sizeof(std::int32_t)),
        written(where, values, floats(2)), written(where, gradients, floats(plan_.pixels))};
    return run(columns, count, poll, [&, p = meant(precision)](const Batch& b) {
        return cuda::gradient(plan_, p, blocks_[int(Kernel::ascend)], stream(), b.signals,
                              b.as<const float>(0), b.as<const std::int32_t>(1), b.count, objective,
                              b.as<float>(2), b.as<float>(3));
    });
}

bool Engine::ascend(Where where, const Ascents& arrays, std::int64_t count, const AscentSettings& settings,
                    Precision precision, const Poll& poll) {
    const std::int64_t kept = settings.snapshot_count * std::int64_t(plan_.pixels);
    const std::vector<Column> columns{read(where, arrays.starts, floats(plan_.pixels)),
                                      read(Where::host, arrays.targets, sizeof(std::int32_t)),
                                      read(Where::host, arrays.step_sizes, floats(1)),
                                      written(where, arrays.images, floats(plan_.pixels), kUnknown),
                                      written(where, arrays.history, floats(settings.steps + 1), kUnknown),
                                      written(where, arrays.snapshots, floats(kept), kUnknown),
                                      written(where, arrays.activations, floats(1), kUnknown),
                                      written(where, arrays.preactivations, floats(1), kUnknown),
                                      written(where, arrays.steps, sizeof(std::int32_t), 0),
                                      written(where, arrays.woke, sizeof(std::int32_t), kUnknown),
                                      written(where, arrays.stops, 1, int(Stop::interrupted))};
    SnapshotSteps steps;
    return run(columns, count, poll, [&, p = meant(precision)](const Batch& b) {
        Ascents on_device{b.as<const float>(0),   b.as<const std::int32_t>(1),
                          b.as<const float>(2),   b.as<float>(3),
                          b.as<float>(4),         b.as<float>(5),
                          b.as<float>(6),         b.as<float>(7),
                          b.as<std::int32_t>(8),  b.as<std::int32_t>(9),
                          b.as<std::uint8_t>(10), steps.on_device(settings, stream())};
        return cuda::ascend(plan_, p, blocks_[int(Kernel::ascend)], stream(), b.signals, on_device, b.count,
                            settings);
    });
}

}  // namespace pyoip::cuda

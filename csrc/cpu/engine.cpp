#include "engine.hpp"

#include <algorithm>

namespace pyoip::cpu {
namespace {

const Stack& checked(const Stack& stack) {
    check_stack(stack);
    return stack;
}

}  // namespace

Engine::Engine(const Stack& stack, Precision precision)
    : kernels_(choose_kernels()), owned_(checked(stack), kernels_.lanes, precision) {}

// work(memory, index, stop), with a block of memory for each thread.
template <class Work>
bool Engine::each(std::int64_t count, int threads, const Poll& poll, const Work& work) const {
    const int used = int(std::clamp<std::int64_t>(threads, 1, std::max<std::int64_t>(count, 1)));
    std::vector<std::unique_ptr<Memory>> memory(static_cast<std::size_t>(used));
    return parallel_for(count, used, poll, [&](int thread, std::int64_t i, const bool* stop) {
        auto& block = memory[std::size_t(thread)];
        if (!block) block = std::make_unique<Memory>(plan().floats);  // first touched by its own thread
        work(block->data(), i, stop);
    });
}

bool Engine::score(const float* images, std::int64_t count, Objective objective, int threads,
                   const Poll& poll, float* scores) const {
    const std::int64_t maps = plan().layers[plan().layer_count - 1].maps;
    return each(count, threads, poll, [&](float* memory, std::int64_t i, const bool*) {
        kernels_.score(plan(), memory, images + i * plan().pixels, objective, scores + i * maps);
    });
}

bool Engine::activations(const float* images, std::int64_t count, int threads, const Poll& poll,
                         float* maps) const {
    const LayerPlan& target = plan().layers[plan().layer_count - 1];
    const std::int64_t size = std::int64_t(target.maps) * target.positions;
    return each(count, threads, poll, [&](float* memory, std::int64_t i, const bool*) {
        kernels_.activations(plan(), memory, images + i * plan().pixels, maps + i * size);
    });
}

bool Engine::gradient(const float* images, const std::int32_t* targets, std::int64_t count,
                      Objective objective, int threads, const Poll& poll, float* values,
                      float* gradients) const {
    return each(count, threads, poll, [&](float* memory, std::int64_t i, const bool*) {
        const std::int64_t at = i * plan().pixels;
        kernels_.gradient(plan(), memory, images + at, targets[i], objective, values + 2 * i, gradients + at);
    });
}

bool Engine::ascend(const AscentTask* tasks, std::int64_t count, const AscentSettings& settings, int threads,
                    const Poll& poll) const {
    if (count == 1 && threads > 1 && plan().layer_count > 1) return ascend_alone(*tasks, settings, poll);
    return each(count, threads, poll, [&](float* memory, std::int64_t i, const bool* stop) {
        kernels_.ascend(plan(), memory, settings, tasks[i], stop, nullptr);
    });
}

// One image, shared by two threads.
bool Engine::ascend_alone(const AscentTask& task, const AscentSettings& settings, const Poll& poll) const {
    const Memory memory(plan().floats);
    TeamState team{};
    std::thread second([&] { kernels_.assist(plan(), memory.data(), &team); });
    bool begun = false, whole = false;
    std::exception_ptr failure;
    try {
        whole = parallel_for(1, 1, poll, [&](int, std::int64_t, const bool* stop) {
            begun = true;
            kernels_.ascend(plan(), memory.data(), settings, task, stop, &team);
        });
    } catch (...) {
        failure = std::current_exception();
    }
    if (!begun) kernels_.dismiss(&team);  // cancelled before the ascent could do it
    second.join();
    if (failure) std::rethrow_exception(failure);
    return whole;
}

}  // namespace pyoip::cpu

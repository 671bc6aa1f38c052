// The CPU engine: one image at a time per thread, the whole loop inside; a single image is
// shared by two threads.
#pragma once

#include <cstdint>

#include "../parallel.hpp"
#include "kernels.hpp"

namespace pyoip::cpu {

class Engine {
public:
    // Throws std::invalid_argument for a stack outside the core's limits or PYOIP_CPU_ISA
    // naming a missing instruction set.
    explicit Engine(const Stack& stack, Precision precision = Precision::exact);

    const Plan& plan() const { return owned_.plan(); }
    const char* isa() const { return kernels_.name; }

    // images (count, C, H, W); every call returns false when the poll cancelled it.
    bool score(const float* images, std::int64_t count, Objective objective, int threads, const Poll& poll,
               float* scores) const;  // (count, maps)
    bool activations(const float* images, std::int64_t count, int threads, const Poll& poll,
                     float* maps) const;  // (count, maps, h, w)
    bool gradient(const float* images, const std::int32_t* targets, std::int64_t count, Objective objective,
                  int threads, const Poll& poll, float* values, float* gradients) const;
    // tasks (count). Of a cancelled call, tasks in flight end as Stop::interrupted with their
    // best so far; later ones are left untouched.
    bool ascend(const AscentTask* tasks, std::int64_t count, const AscentSettings& settings, int threads,
                const Poll& poll) const;

private:
    bool ascend_alone(const AscentTask& task, const AscentSettings& settings, const Poll& poll) const;

    const Kernels& kernels_;
    OwnedPlan owned_;

    template <class Work>
    bool each(std::int64_t count, int threads, const Poll& poll, const Work& work) const;
};

}  // namespace pyoip::cpu

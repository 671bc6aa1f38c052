// What each instruction set offers: functions over one image, written once in the .inl
// files beside this one and compiled per instruction set by isa_*.cpp.
#pragma once

#include "noise.hpp"
#include "plan.hpp"

namespace pyoip::cpu {

constexpr int kPeakSums = 12;  // of multiply_adds below

// Where the threads that share one image meet; all zeros at the start.
struct TeamState {
    int round, arrived;
    bool finished;  // there will be no other evaluation
    bool flat;      // this one has no gradient
    bool again;     // its gradient must be made once more
    int waits;      // of the first thread that were so long that it gave way
};

struct Kernels {
    const char* name;
    int lanes;  // floats in a vector
    const Noise& (*noise)();

    // `memory` is Plan::floats long, zeroed once and then reused for any number of calls.
    void (*score)(const Plan&, float* memory, const float* image, Objective, float* scores);
    void (*activations)(const Plan&, float* memory, const float* image, float* maps);
    // value (2): mean activation and preactivation; gradient (C, H, W) of the objective.
    void (*gradient)(const Plan&, float* memory, const float* image, int map, Objective, float* value,
                     float* gradient);
    void (*ascend)(const Plan&, float* memory, const AscentSettings&, const AscentTask&, const bool* stop,
                   TeamState* team);
    // A second thread's part in `ascend` over the same memory with a team; two layers or more.
    void (*assist)(const Plan&, float* memory, TeamState* team);
    void (*dismiss)(TeamState* team);  // ends an `assist` for which no `ascend` came
    // rounds * kPeakSums multiply-adds of whole vectors, for measuring the processor's peak.
    float (*multiply_adds)(std::int64_t rounds, float a, float b);
};

const Kernels& baseline_kernels();
const Kernels& avx2_kernels();  // where the build has them, see CMakeLists.txt
const Kernels& avx512_kernels();

// The best set of kernels that this processor runs, or the one named by PYOIP_CPU_ISA.
// Throws std::invalid_argument naming what is missing.
const Kernels& choose_kernels();
// The same for start images; the best where PYOIP_CPU_ISA names none that there is.
const Noise& choose_noise();

// All that this build holds and this processor runs, best first.
std::vector<const Kernels*> usable_kernels();

}  // namespace pyoip::cpu

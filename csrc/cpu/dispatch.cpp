#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernels.hpp"

namespace pyoip::cpu {

std::vector<const Kernels*> usable_kernels() {
    std::vector<const Kernels*> usable;
#if defined(PYOIP_AVX512)
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        usable.push_back(&avx512_kernels());
#endif
#if defined(PYOIP_AVX2)
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) usable.push_back(&avx2_kernels());
#endif
    usable.push_back(&baseline_kernels());
    return usable;
}

// A wish that cannot be met is refused where an engine is made: start images are the same by any.
const Noise& choose_noise() {
    const std::vector<const Kernels*> usable = usable_kernels();
    const char* wanted = std::getenv("PYOIP_CPU_ISA");
    for (const Kernels* kernels : usable)
        if (wanted != nullptr && std::string(wanted) == kernels->name) return kernels->noise();
    return usable.front()->noise();
}

const Kernels& choose_kernels() {
    const std::vector<const Kernels*> usable = usable_kernels();
    const char* wanted = std::getenv("PYOIP_CPU_ISA");
    if (wanted == nullptr || *wanted == '\0') return *usable.front();
    std::string names;
    for (const Kernels* kernels : usable) {
        if (std::string(wanted) == kernels->name) return *kernels;
        names += std::string(names.empty() ? "" : ", ") + kernels->name;
    }
    throw std::invalid_argument("PYOIP_CPU_ISA='" + std::string(wanted) +
                                "': must be an instruction set that this build holds and this processor "
                                "runs: " +
                                names);
}

}  // namespace pyoip::cpu

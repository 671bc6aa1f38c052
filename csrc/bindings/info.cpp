#include <pybind11/stl.h>

#include <atomic>
#include <chrono>

#include "../cpu/kernels.hpp"
#include "../stack.hpp"
#include "bindings.hpp"

namespace pyoip::bindings {
namespace {

// Floating-point operations a second (a multiply-add is two) on all threads together, over
// at least `seconds`.
double peak_flops(int threads, double seconds) {
    const cpu::Kernels& kernels = cpu::choose_kernels();
    constexpr std::int64_t rounds = 20000;
    std::atomic<double> total{0.0};
    const py::gil_scoped_release release;
    parallel_for(threads, threads, Poll{}, [&](int, std::int64_t, const bool*) {
        using Clock = std::chrono::steady_clock;
        const auto began = Clock::now();
        std::int64_t done = 0;
        double passed = 0.0;
        volatile float sink = 0.0f;
        while (passed < seconds) {
            sink = kernels.multiply_adds(rounds, 0.5f, 0.5f);
            done += rounds;
            passed = std::chrono::duration<double>(Clock::now() - began).count();
        }
        (void)sink;
        total += 2.0 * double(done) * cpu::kPeakSums * kernels.lanes / passed;
    });
    return total;
}

}  // namespace

void register_info(py::module_& m) {
    m.def("info", [] {
        py::dict info;
        info["version"] = PYOIP_VERSION;
        info["compiler"] = PYOIP_COMPILER;
        py::list usable;
        for (const cpu::Kernels* kernels : cpu::usable_kernels()) usable.append(kernels->name);
        info["instruction_sets"] = usable;
        info["instruction_set"] = cpu::choose_kernels().name;
        py::list activations;
        for (const char* name : kActivationNames) activations.append(name);
        info["activations"] = activations;
        return info;
    });
    m.def("peak_flops", &peak_flops, py::arg("threads"), py::arg("seconds"));
}

}  // namespace pyoip::bindings

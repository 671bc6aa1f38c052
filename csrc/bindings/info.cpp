#include <pybind11/stl.h>

#include "../cpu/kernels.hpp"
#include "bindings.hpp"

namespace pyoip::bindings {

Constraint constraint_from(const std::string& name) {
    if (name == "standardize") return Constraint::standardize;
    if (name == "clip") return Constraint::clip;
    throw std::invalid_argument("constraint='" + name + "': must be 'standardize' or 'clip'");
}

void register_info(py::module_& m) {
    m.def("info", [] {
        py::dict info;
        info["version"] = PYOIP_VERSION;
        info["compiler"] = PYOIP_COMPILER;
        py::list usable;
        for (const cpu::Kernels* kernels : cpu::usable_kernels()) usable.append(kernels->name);
        info["instruction_sets"] = usable;
        info["instruction_set"] = cpu::choose_kernels().name;
        return info;
    });
}

}  // namespace pyoip::bindings

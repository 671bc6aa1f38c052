// The concepts of the module _cpu.
#pragma once

#include "shared.hpp"

namespace pyoip::bindings {

void register_info(py::module_& m);
void register_fluctuations(py::module_& m);
void register_engine(py::module_& m);

}  // namespace pyoip::bindings

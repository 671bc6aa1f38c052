// The concepts of the module _cuda; arrays.hpp has one more.
#pragma once

#include "../shared.hpp"

namespace pyoip::bindings {

void register_info(py::module_& m);
void register_engine(py::module_& m);

}  // namespace pyoip::bindings

// The extension module pyoip._cpu: arrays in, arrays out, the GIL released in between.
#include <pybind11/pybind11.h>

#include "bindings.hpp"

PYBIND11_MODULE(_cpu, m) {
    m.doc() = "The CPU engine and the generator of start images.";
    pyoip::bindings::register_info(m);
    pyoip::bindings::register_fluctuations(m);
    pyoip::bindings::register_engine(m);
}

// The extension module pyoip._cuda: arrays in host memory or on a device in, the same out, the GIL
// released in between. Nothing of CUDA runs when it is imported.
#include <pybind11/pybind11.h>

#include "arrays.hpp"
#include "bindings.hpp"

PYBIND11_MODULE(_cuda, m) {
    using namespace pyoip;
    m.doc() = "The CUDA engine.";
    bindings::py::register_local_exception<cuda::CudaError>(m, "CudaError", PyExc_RuntimeError);
    bindings::py::register_local_exception<cuda::NotFitting>(m, "NotFitting", PyExc_ValueError);
    bindings::register_info(m);
    bindings::register_arrays(m);
    bindings::register_engine(m);
}

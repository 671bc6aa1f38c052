#include "../fluctuations.hpp"

#include <pybind11/stl.h>

#include "arguments.hpp"
#include "bindings.hpp"

namespace pyoip::bindings {
namespace {

using Room = py::array_t<float, py::array::c_style>;

void images(Room& out, const Numbers& indices, const py::dict& fluctuations, int threads,
            py::object progress) {
    const std::vector<py::ssize_t> shape = shape_of(out);
    const FluctuationSettings settings = fluctuations_from(fluctuations);
    const py::ssize_t count = indices.size();
    if (shape.size() != 5 || shape[0] != py::ssize_t(settings.mixes.size()) || shape[1] != count)
        throw py::value_error("out: must be (mixes, count, C, H, W)");
    Watch watch(std::move(progress));
    const std::uint64_t* index = indices.data();
    float* data = out.mutable_data();
    {
        const py::gil_scoped_release release;
        start_images(settings, int(shape[2]), int(shape[3]), int(shape[4]), index, count, data, threads,
                     watch.poll());
    }
    watch.rethrow_all();
}

Floats normals(std::uint64_t seed, std::uint32_t stream, std::uint32_t slot, std::uint64_t index,
               py::ssize_t count) {
    Floats out(count);
    normal_values(seed, stream, slot, index, out.mutable_data(), count);
    return out;
}

}  // namespace

void register_fluctuations(py::module_& m) {
    m.def("start_images", &images, py::arg("out").noconvert(), py::arg("indices"), py::arg("fluctuations"),
          py::arg("threads"), py::arg("progress"), "Draws into out, float32 (mixes, count, C, H, W).");
    m.def("normal_values", &normals, py::arg("seed"), py::arg("stream"), py::arg("slot"), py::arg("index"),
          py::arg("count"), "float32 standard normal values (count,) of one grid.");
}

}  // namespace pyoip::bindings

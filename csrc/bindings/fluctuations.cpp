#include "../fluctuations.hpp"

#include <pybind11/stl.h>

#include "arguments.hpp"
#include "bindings.hpp"

namespace pyoip::bindings {
namespace {

using Shape = std::tuple<int, int, int>;

Floats images(const Numbers& indices, const Shape& shape, const py::dict& fluctuations, int threads,
              py::object progress) {
    const auto [channels, height, width] = shape;
    const FluctuationSettings settings = fluctuations_from(fluctuations);
    const py::ssize_t count = indices.size();
    Floats out({py::ssize_t(settings.mixes.size()), count, py::ssize_t(channels), py::ssize_t(height),
                py::ssize_t(width)});
    Watch watch(std::move(progress));
    const std::uint64_t* index = indices.data();
    float* data = out.mutable_data();
    {
        const py::gil_scoped_release release;
        start_images(settings, channels, height, width, index, count, data, threads, watch.poll());
    }
    watch.rethrow_all();
    return out;
}

Floats normals(std::uint64_t seed, std::uint32_t stream, std::uint32_t slot, std::uint64_t index,
               py::ssize_t count) {
    Floats out(count);
    normal_values(seed, stream, slot, index, out.mutable_data(), count);
    return out;
}

}  // namespace

void register_fluctuations(py::module_& m) {
    m.def("start_images", &images, py::arg("indices"), py::arg("shape"), py::arg("fluctuations"),
          py::arg("threads"), py::arg("progress"), "float32 images (mixes, count, C, H, W).");
    m.def("normal_values", &normals, py::arg("seed"), py::arg("stream"), py::arg("slot"), py::arg("index"),
          py::arg("count"), "float32 standard normal values (count,) of one grid.");
}

}  // namespace pyoip::bindings

#include <pybind11/stl.h>

#include "../../cuda/device.hpp"
#include "bindings.hpp"

namespace pyoip::bindings {
namespace {

py::object text_or_none(const std::string& text) { return text.empty() ? py::none() : py::cast(text); }

py::dict as_dict(const cuda::Device& device) {
    py::dict d;
    d["index"] = device.index, d["name"] = device.name;
    d["capability"] = std::to_string(device.major) + "." + std::to_string(device.minor);
    d["multiprocessors"] = device.multiprocessors;
    d["shared_memory"] = device.shared_per_block, d["memory"] = device.memory;
    d["reason"] = text_or_none(device.reason);
    return d;
}

py::dict info() {
    const cuda::Machine machine = cuda::machine();
    py::list devices;
    for (const cuda::Device& device : machine.devices) devices.append(as_dict(device));
    py::dict d;
    d["version"] = PYOIP_VERSION, d["compiler"] = PYOIP_COMPILER;
    d["toolkit"] = cuda::version_name(machine.runtime);
    d["architectures"] = PYOIP_CUDA_ARCHITECTURES;
    d["driver"] = text_or_none(machine.driver == 0 ? "" : cuda::version_name(machine.driver));
    d["devices"] = devices, d["reason"] = text_or_none(machine.reason);
    return d;
}

}  // namespace

void register_info(py::module_& m) { m.def("info", &info); }

}  // namespace pyoip::bindings

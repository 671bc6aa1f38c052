#include <pybind11/stl.h>

#include "../arguments.hpp"
#include "../outcome.hpp"
#include "arrays.hpp"
#include "bindings.hpp"

namespace pyoip::bindings {
namespace {

using cuda::Engine;

std::unique_ptr<Engine> make_engine(const std::tuple<int, int, int>& shape,
                                    const std::vector<py::dict>& layers, int device) {
    const Stack stack = stack_from(shape, layers);
    const py::gil_scoped_release release;  // the first use of a device takes a while
    return std::make_unique<Engine>(stack, device);
}

py::ssize_t count_of(const Engine& engine, const Images& images) {
    const cuda::Plan& p = engine.plan();
    return checked_count(images.shape(), p.channels, p.height, p.width);
}

py::object score(Engine& engine, const py::object& given, const std::string& objective,
                 const std::string& precision, py::object progress) {
    const Images images(given, engine);
    const py::ssize_t count = count_of(engine, images);
    const Result out = make_floats(images, engine, {count, engine.target().maps});
    const Objective kind = objective_from(objective);
    const Precision exactness = precision_from(precision);
    Watch watch(std::move(progress));
    run(watch, [&] {
        engine.score(images.where(), images.data(), count, kind, exactness, watch.poll(), out.floats());
    });
    return out.array;
}

Floats start_images(Engine& engine, const Numbers& indices, const py::dict& fluctuations,
                    py::object progress) {
    const FluctuationSettings s = fluctuations_from(fluctuations);
    const cuda::Plan& p = engine.plan();
    Floats out(Shape{indices.size(), p.channels, p.height, p.width});
    float* data = out.mutable_data();
    Watch watch(std::move(progress));
    run(watch, [&] { engine.start_images(s, indices.data(), indices.size(), watch.poll(), data); });
    return out;
}

Floats score_starts(Engine& engine, const Numbers& indices, const py::dict& fluctuations,
                    const std::string& objective, const std::string& precision, py::object progress) {
    const FluctuationSettings s = fluctuations_from(fluctuations);
    const Objective kind = objective_from(objective);
    const Precision exactness = precision_from(precision);
    Floats out(Shape{indices.size(), engine.target().maps});
    float* data = out.mutable_data();
    Watch watch(std::move(progress));
    run(watch,
        [&] { engine.score_starts(s, indices.data(), indices.size(), kind, exactness, watch.poll(), data); });
    return out;
}

py::object activations(Engine& engine, const py::object& given, const std::string& precision,
                       py::object progress) {
    const Images images(given, engine);
    const py::ssize_t count = count_of(engine, images);
    const cuda::LayerPlan& target = engine.target();
    const Result out = make_floats(images, engine, {count, target.maps, target.out_height, target.out_width});
    const Precision exactness = precision_from(precision);
    Watch watch(std::move(progress));
    run(watch, [&] {
        engine.activations(images.where(), images.data(), count, exactness, watch.poll(), out.floats());
    });
    return out.array;
}

py::tuple gradient(Engine& engine, const py::object& given, const Targets& targets,
                   const std::string& objective, const std::string& precision, py::object progress) {
    const Images images(given, engine);
    const py::ssize_t count = count_of(engine, images);
    check_targets(targets, count, engine.target().maps);
    const Result values = make_floats(images, engine, {count, 2});
    const Result gradients = make_floats(images, engine, images.shape());
    const Objective kind = objective_from(objective);
    const Precision exactness = precision_from(precision);
    Watch watch(std::move(progress));
    run(watch, [&] {
        engine.gradient(images.where(), images.data(), targets.data(), count, kind, exactness, watch.poll(),
                        values.floats(), gradients.floats());
    });
    return py::make_tuple(values.array, gradients.array);
}

// Outcomes in host memory, where they are all NaN until they are known.
struct HostOutcome {
    Outcome made;
    cuda::Ascents arrays;

    HostOutcome(const Images& starts, const Engine&, const AscentSettings& settings)
        : made(starts.shape(), settings) {
        arrays.images = made.images.mutable_data(), arrays.history = made.history.mutable_data();
        arrays.snapshots = made.snapshots.mutable_data();
        arrays.activations = made.activations.mutable_data();
        arrays.preactivations = made.preactivations.mutable_data();
        arrays.steps = made.steps.mutable_data(), arrays.woke = made.woke.mutable_data();
        arrays.stops = made.stops.mutable_data();
    }

    py::dict as_dict(bool interrupted) const { return made.as_dict(interrupted); }
};

// The same on the device; the engine fills them.
struct DeviceOutcome {
    py::dict made;
    cuda::Ascents arrays;

    DeviceOutcome(const Images& starts, const Engine& engine, const AscentSettings& settings) {
        const Shape& s = starts.shape();
        const auto make = [&]<class T>(const char* name, T*& pointer, const Shape& shape) {
            const Result result = make_on_device<T>(engine, shape);
            made[name] = result.array, pointer = static_cast<T*>(result.data);
        };
        make("images", arrays.images, s);
        make("history", arrays.history, {s[0], settings.steps + 1});
        make("snapshots", arrays.snapshots, {s[0], settings.snapshot_count, s[1], s[2], s[3]});
        make("activations", arrays.activations, {s[0]});
        make("preactivations", arrays.preactivations, {s[0]});
        make("steps", arrays.steps, {s[0]});
        make("woke", arrays.woke, {s[0]});
        make("stops", arrays.stops, {s[0]});
    }

    py::dict as_dict(bool interrupted) {
        made["interrupted"] = interrupted;
        return made;
    }
};

struct AscentCall {
    const Images& starts;
    const Targets& targets;
    const Floats& step_sizes;
    const AscentSettings& settings;
    Precision precision;
};

template <class Kept>
py::dict ascend_into(Engine& engine, const AscentCall& call, py::object progress) {
    Kept outcome(call.starts, engine, call.settings);
    outcome.arrays.starts = call.starts.data();
    outcome.arrays.targets = call.targets.data(), outcome.arrays.step_sizes = call.step_sizes.data();
    Watch watch(std::move(progress));
    {
        const py::gil_scoped_release release;
        engine.ascend(call.starts.where(), outcome.arrays, call.starts.count(), call.settings, call.precision,
                      watch.poll());
    }
    watch.rethrow();
    return outcome.as_dict(watch.interrupted());
}

py::dict ascend(Engine& engine, const py::object& given, const Targets& targets, const Floats& step_sizes,
                const py::dict& settings, const std::string& precision, py::object progress) {
    const Images starts(given, engine);
    const py::ssize_t count = count_of(engine, starts);
    check_targets(targets, count, engine.target().maps);
    check_step_sizes(step_sizes, count);
    const auto snapshots = settings["snapshots"].cast<std::vector<std::int32_t>>();
    const AscentSettings s = settings_from(settings, snapshots);
    const AscentCall call{starts, targets, step_sizes, s, precision_from(precision)};
    return starts.where() == cuda::Where::host
               ? ascend_into<HostOutcome>(engine, call, std::move(progress))
               : ascend_into<DeviceOutcome>(engine, call, std::move(progress));
}

}  // namespace

void register_engine(py::module_& m) {
    py::class_<Engine>(m, "Engine", py::module_local(),
                       "One stack on a CUDA device; see pyoip/engines/cuda.py.")
        .def(py::init(&make_engine), py::arg("shape"), py::arg("layers"), py::arg("device"))
        .def_property_readonly("device", [](const Engine& e) { return e.device().index; })
        .def_property_readonly("shared_bytes", [](const Engine& e) { return e.plan().shared_bytes; })
        .def_property_readonly("smallest_batch", &Engine::smallest_batch)
        .def("score", &score, py::arg("images"), py::arg("objective"), py::arg("precision"),
             py::arg("progress"))
        .def("start_images", &start_images, py::arg("indices"), py::arg("fluctuations"), py::arg("progress"))
        .def("score_starts", &score_starts, py::arg("indices"), py::arg("fluctuations"), py::arg("objective"),
             py::arg("precision"), py::arg("progress"))
        .def("activations", &activations, py::arg("images"), py::arg("precision"), py::arg("progress"))
        .def("gradient", &gradient, py::arg("images"), py::arg("targets"), py::arg("objective"),
             py::arg("precision"), py::arg("progress"))
        .def("ascend", &ascend, py::arg("starts"), py::arg("targets"), py::arg("step_sizes"),
             py::arg("settings"), py::arg("precision"), py::arg("progress"));
}

}  // namespace pyoip::bindings

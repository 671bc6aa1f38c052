#include "../cpu/engine.hpp"

#include <pybind11/stl.h>

#include <algorithm>

#include "arguments.hpp"
#include "bindings.hpp"
#include "outcome.hpp"

namespace pyoip::bindings {
namespace {

using cpu::Engine;

std::unique_ptr<Engine> make_engine(const std::tuple<int, int, int>& shape,
                                    const std::vector<py::dict>& layers, const std::string& precision) {
    return std::make_unique<Engine>(stack_from(shape, layers), precision_from(precision));
}

const cpu::LayerPlan& target_of(const Engine& engine) {
    return engine.plan().layers[engine.plan().layer_count - 1];
}

py::ssize_t count_of(const Engine& engine, const Floats& images) {
    const cpu::Plan& p = engine.plan();
    return checked_count(shape_of(images), p.channels, p.height, p.width);
}

Floats score(const Engine& engine, const Floats& images, const std::string& objective, int threads,
             py::object progress) {
    const py::ssize_t count = count_of(engine, images);
    Floats out({count, py::ssize_t(target_of(engine).maps)});
    Watch watch(std::move(progress));
    const Objective kind = objective_from(objective);
    float* to = out.mutable_data();
    run(watch, [&] { engine.score(images.data(), count, kind, threads, watch.poll(), to); });
    return out;
}

Floats activations(const Engine& engine, const Floats& images, int threads, py::object progress) {
    const py::ssize_t count = count_of(engine, images);
    const cpu::LayerPlan& target = target_of(engine);
    Floats out(
        {count, py::ssize_t(target.maps), py::ssize_t(target.out_height), py::ssize_t(target.out_width)});
    Watch watch(std::move(progress));
    float* to = out.mutable_data();
    run(watch, [&] { engine.activations(images.data(), count, threads, watch.poll(), to); });
    return out;
}

py::tuple gradient(const Engine& engine, const Floats& images, const Targets& targets,
                   const std::string& objective, int threads, py::object progress) {
    const py::ssize_t count = count_of(engine, images);
    check_targets(targets, count, target_of(engine).maps);
    Floats values({count, py::ssize_t(2)});
    Floats gradients(shape_of(images));
    Watch watch(std::move(progress));
    const Objective kind = objective_from(objective);
    float *value = values.mutable_data(), *g = gradients.mutable_data();
    run(watch, [&] {
        engine.gradient(images.data(), targets.data(), count, kind, threads, watch.poll(), value, g);
    });
    return py::make_tuple(values, gradients);
}

std::vector<AscentTask> tasks_of(Outcome& out, const Floats& starts, const Targets& targets,
                                 const Floats& sizes) {
    const py::ssize_t count = starts.shape(0), pixels = starts.size() / std::max<py::ssize_t>(count, 1);
    const py::ssize_t points = out.history.shape(1), kept = out.snapshots.shape(1) * pixels;
    std::vector<AscentTask> all(static_cast<std::size_t>(count));
    for (py::ssize_t i = 0; i < count; ++i)
        all[std::size_t(i)] = {starts.data() + i * pixels,
                               targets.data()[i],
                               sizes.data()[i],
                               out.images.mutable_data() + i * pixels,
                               out.history.mutable_data() + i * points,
                               out.snapshots.mutable_data() + i * kept,
                               out.activations.mutable_data() + i,
                               out.preactivations.mutable_data() + i,
                               out.steps.mutable_data() + i,
                               out.woke.mutable_data() + i,
                               reinterpret_cast<Stop*>(out.stops.mutable_data() + i)};
    return all;
}

py::dict ascend(const Engine& engine, const Floats& starts, const Targets& targets, const Floats& step_sizes,
                const py::dict& settings, int threads, py::object progress) {
    const py::ssize_t count = count_of(engine, starts);
    check_targets(targets, count, target_of(engine).maps);
    check_step_sizes(step_sizes, count);
    const auto snapshots = settings["snapshots"].cast<std::vector<std::int32_t>>();
    const AscentSettings s = settings_from(settings, snapshots);
    Outcome outcome(shape_of(starts), s);
    const std::vector<AscentTask> tasks = tasks_of(outcome, starts, targets, step_sizes);
    Watch watch(std::move(progress));
    {
        const py::gil_scoped_release release;
        engine.ascend(tasks.data(), count, s, threads, watch.poll());
    }
    watch.rethrow();
    return outcome.as_dict(watch.interrupted());
}

}  // namespace

void register_engine(py::module_& m) {
    py::class_<Engine>(m, "Engine", "One stack on this processor; see pyoip/engines/cpu.py.")
        .def(py::init(&make_engine), py::arg("shape"), py::arg("layers"), py::arg("precision"))
        .def_property_readonly("isa", &Engine::isa)
        .def_property_readonly("bytes_per_thread", [](const Engine& e) { return e.plan().floats * 4; })
        .def("score", &score, py::arg("images"), py::arg("objective"), py::arg("threads"),
             py::arg("progress"))
        .def("activations", &activations, py::arg("images"), py::arg("threads"), py::arg("progress"))
        .def("gradient", &gradient, py::arg("images"), py::arg("targets"), py::arg("objective"),
             py::arg("threads"), py::arg("progress"))
        .def("ascend", &ascend, py::arg("starts"), py::arg("targets"), py::arg("step_sizes"),
             py::arg("settings"), py::arg("threads"), py::arg("progress"));
}

}  // namespace pyoip::bindings

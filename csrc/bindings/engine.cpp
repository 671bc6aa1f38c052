#include "../cpu/engine.hpp"

#include <pybind11/stl.h>

#include <algorithm>
#include <limits>

#include "bindings.hpp"

namespace pyoip::bindings {
namespace {

using cpu::Engine;
using Targets = py::array_t<std::int32_t, py::array::c_style | py::array::forcecast>;
using Pair = std::pair<int, int>;

std::invalid_argument unknown(const std::string& name) {
    return std::invalid_argument("'" + name + "' is not a kind that the core knows");
}

template <class Kind>
Kind one_of(const std::string& name, std::initializer_list<std::pair<const char*, Kind>> kinds) {
    for (const auto& [known, kind] : kinds)
        if (name == known) return kind;
    throw unknown(name);
}

Activation activation_from(const std::string& name) {
    const auto known = std::find(std::begin(kActivationNames), std::end(kActivationNames), name);
    if (known == std::end(kActivationNames)) throw unknown(name);
    return Activation(known - std::begin(kActivationNames));
}

Objective objective_from(const std::string& name) {
    return one_of<Objective>(
        name, {{"activation", Objective::activation}, {"preactivation", Objective::preactivation}});
}

std::vector<float> copied(const py::handle& values) {
    const auto array = py::cast<Floats>(values);
    return {array.data(), array.data() + array.size()};
}

// One layer from the mapping that pyoip/engines/cpu.py makes of a stack.ConvLayer.
ConvLayer layer_from(const py::dict& d) {
    const auto pair = [&](const char* key) { return d[key].cast<Pair>(); };
    ConvLayer layer;
    std::tie(layer.in_channels, layer.in_height, layer.in_width) =
        d["input_shape"].cast<std::tuple<int, int, int>>();
    std::tie(layer.maps, layer.out_height, layer.out_width) =
        d["output_shape"].cast<std::tuple<int, int, int>>();
    std::tie(layer.kernel_h, layer.kernel_w) = pair("kernel");
    std::tie(layer.stride_h, layer.stride_w) = pair("stride");
    std::tie(layer.pad_top, layer.pad_left) = pair("pad");
    layer.activation = activation_from(d["activation"].cast<std::string>());
    layer.slope = d["slope"].cast<float>();
    layer.pool = one_of<Pool>(d["pool"].cast<std::string>(),
                              {{"none", Pool::none}, {"max", Pool::max}, {"average", Pool::average}});
    std::tie(layer.pool_h, layer.pool_w) = pair("pool_kernel");
    std::tie(layer.pool_stride_h, layer.pool_stride_w) = pair("pool_stride");
    std::tie(layer.pool_top, layer.pool_left) = pair("pool_pad");
    std::tie(layer.pooled_height, layer.pooled_width) = pair("pooled");
    layer.weights = copied(d["weights"]);
    layer.bias = copied(d["bias"]);
    return layer;
}

std::unique_ptr<Engine> make_engine(const std::tuple<int, int, int>& shape,
                                    const std::vector<py::dict>& layers, const std::string& precision) {
    Stack stack;
    std::tie(stack.channels, stack.height, stack.width) = shape;
    for (const py::dict& layer : layers) stack.layers.push_back(layer_from(layer));
    const auto kind = one_of<Precision>(precision, {{"exact", Precision::exact}, {"fast", Precision::fast}});
    return std::make_unique<Engine>(stack, kind);
}

py::ssize_t checked_count(const Engine& engine, const Floats& images) {
    const cpu::Plan& p = engine.plan();
    if (images.ndim() != 4 || images.shape(1) != p.channels || images.shape(2) != p.height ||
        images.shape(3) != p.width)
        throw std::invalid_argument("images must have the shape (count, " + std::to_string(p.channels) +
                                    ", " + std::to_string(p.height) + ", " + std::to_string(p.width) + ")");
    return images.shape(0);
}

void check_targets(const Engine& engine, const Targets& targets, py::ssize_t count) {
    const int maps = engine.plan().layers[engine.plan().layer_count - 1].maps;
    if (targets.ndim() != 1 || targets.size() != count)
        throw std::invalid_argument("targets must hold one map for each of the " + std::to_string(count) +
                                    " images");
    for (py::ssize_t i = 0; i < count; ++i)
        if (targets.at(i) < 0 || targets.at(i) >= maps)
            throw std::invalid_argument("target " + std::to_string(targets.at(i)) +
                                        ": must be a map in 0 ... " + std::to_string(maps - 1));
}

// Runs `call` without the GIL and raises what the watch caught.
template <class Call>
void run(Watch& watch, const Call& call) {
    {
        const py::gil_scoped_release release;
        call();
    }
    watch.rethrow_all();
}

Floats score(const Engine& engine, const Floats& images, const std::string& objective, int threads,
             py::object progress) {
    const py::ssize_t count = checked_count(engine, images);
    Floats out({count, py::ssize_t(engine.plan().layers[engine.plan().layer_count - 1].maps)});
    Watch watch(std::move(progress));
    const Objective kind = objective_from(objective);
    float* to = out.mutable_data();
    run(watch, [&] { engine.score(images.data(), count, kind, threads, watch.poll(), to); });
    return out;
}

Floats activations(const Engine& engine, const Floats& images, int threads, py::object progress) {
    const py::ssize_t count = checked_count(engine, images);
    const cpu::LayerPlan& target = engine.plan().layers[engine.plan().layer_count - 1];
    Floats out(
        {count, py::ssize_t(target.maps), py::ssize_t(target.out_height), py::ssize_t(target.out_width)});
    Watch watch(std::move(progress));
    float* to = out.mutable_data();
    run(watch, [&] { engine.activations(images.data(), count, threads, watch.poll(), to); });
    return out;
}

py::tuple gradient(const Engine& engine, const Floats& images, const Targets& targets,
                   const std::string& objective, int threads, py::object progress) {
    const py::ssize_t count = checked_count(engine, images);
    check_targets(engine, targets, count);
    Floats values({count, py::ssize_t(2)});
    Floats gradients({count, images.shape(1), images.shape(2), images.shape(3)});
    Watch watch(std::move(progress));
    const Objective kind = objective_from(objective);
    float *value = values.mutable_data(), *g = gradients.mutable_data();
    run(watch, [&] {
        engine.gradient(images.data(), targets.data(), count, kind, threads, watch.poll(), value, g);
    });
    return py::make_tuple(values, gradients);
}

// Arrays for the outcome of every ascent; those that are never begun stay "interrupted".
struct Outcome {
    Floats images, history, snapshots, activations, preactivations;
    py::array_t<std::int32_t> steps, woke;
    py::array_t<std::uint8_t> stops;

    Outcome(const Floats& starts, py::ssize_t snapshot_count, py::ssize_t step_count)
        : images({starts.shape(0), starts.shape(1), starts.shape(2), starts.shape(3)}),
          history({starts.shape(0), step_count + 1}),
          snapshots({starts.shape(0), snapshot_count, starts.shape(1), starts.shape(2), starts.shape(3)}),
          activations(starts.shape(0)),
          preactivations(starts.shape(0)),
          steps(starts.shape(0)),
          woke(starts.shape(0)),
          stops(starts.shape(0)) {
        constexpr float unknown = std::numeric_limits<float>::quiet_NaN();
        for (Floats* array : {&images, &history, &snapshots, &activations, &preactivations})
            std::fill_n(array->mutable_data(), array->size(), unknown);
        std::fill_n(steps.mutable_data(), steps.size(), 0);
        std::fill_n(woke.mutable_data(), woke.size(), -1);
        std::fill_n(stops.mutable_data(), stops.size(), std::uint8_t(Stop::interrupted));
    }

    std::vector<AscentTask> tasks(const Floats& starts, const Targets& targets, const Floats& sizes) {
        const py::ssize_t count = starts.shape(0), pixels = starts.size() / std::max<py::ssize_t>(count, 1);
        const py::ssize_t points = history.shape(1), kept = snapshots.shape(1) * pixels;
        std::vector<AscentTask> all(static_cast<std::size_t>(count));
        for (py::ssize_t i = 0; i < count; ++i)
            all[std::size_t(i)] = {starts.data() + i * pixels,
                                   targets.data()[i],
                                   sizes.data()[i],
                                   images.mutable_data() + i * pixels,
                                   history.mutable_data() + i * points,
                                   snapshots.mutable_data() + i * kept,
                                   activations.mutable_data() + i,
                                   preactivations.mutable_data() + i,
                                   steps.mutable_data() + i,
                                   woke.mutable_data() + i,
                                   reinterpret_cast<Stop*>(stops.mutable_data() + i)};
        return all;
    }

    py::dict as_dict(bool interrupted) const {
        py::dict d;
        d["images"] = images, d["history"] = history, d["snapshots"] = snapshots;
        d["activations"] = activations, d["preactivations"] = preactivations;
        d["steps"] = steps, d["woke"] = woke, d["stops"] = stops;
        d["interrupted"] = interrupted;
        return d;
    }
};

AscentSettings settings_from(const py::dict& d, const std::vector<std::int32_t>& snapshots) {
    AscentSettings s;
    s.objective = objective_from(d["objective"].cast<std::string>());
    s.constraint = constraint_from(d["constraint"].cast<std::string>());
    s.low = d["low"].cast<float>(), s.high = d["high"].cast<float>();
    s.steps = d["steps"].cast<int>();
    s.momentum = d["momentum"].cast<float>();
    s.patience = d["patience"].cast<int>();
    s.tolerance = d["tolerance"].cast<float>();
    s.smooth = d["smooth"].cast<int>();
    s.article = d["article"].cast<bool>();
    s.snapshot_count = int(snapshots.size());
    s.snapshots = snapshots.data();
    return s;
}

py::dict ascend(const Engine& engine, const Floats& starts, const Targets& targets, const Floats& step_sizes,
                const py::dict& settings, int threads, py::object progress) {
    const py::ssize_t count = checked_count(engine, starts);
    check_targets(engine, targets, count);
    if (step_sizes.ndim() != 1 || step_sizes.size() != count)
        throw std::invalid_argument("step_sizes must hold one for each of the " + std::to_string(count) +
                                    " images");
    const auto snapshots = settings["snapshots"].cast<std::vector<std::int32_t>>();
    const AscentSettings s = settings_from(settings, snapshots);
    Outcome outcome(starts, py::ssize_t(snapshots.size()), s.steps);
    const std::vector<AscentTask> tasks = outcome.tasks(starts, targets, step_sizes);
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

#include "arguments.hpp"

#include <pybind11/stl.h>

#include <algorithm>
#include <stdexcept>

namespace pyoip::bindings {
namespace {

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

std::vector<float> copied(const py::handle& values) {
    const auto array = py::cast<Floats>(values);
    return {array.data(), array.data() + array.size()};
}

// One layer from the mapping that pyoip/engines/core.py makes of a stack.ConvLayer.
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

}  // namespace

Objective objective_from(const std::string& name) {
    return one_of<Objective>(
        name, {{"activation", Objective::activation}, {"preactivation", Objective::preactivation}});
}

Constraint constraint_from(const std::string& name) {
    if (name == "standardize") return Constraint::standardize;
    if (name == "clip") return Constraint::clip;
    throw std::invalid_argument("constraint='" + name + "': must be 'standardize' or 'clip'");
}

Precision precision_from(const std::string& name) {
    return one_of<Precision>(
        name, {{"exact", Precision::exact}, {"fast", Precision::fast}, {"tf32", Precision::tf32}});
}

Stack stack_from(const std::tuple<int, int, int>& shape, const std::vector<py::dict>& layers) {
    Stack stack;
    std::tie(stack.channels, stack.height, stack.width) = shape;
    for (const py::dict& layer : layers) stack.layers.push_back(layer_from(layer));
    return stack;
}

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

std::vector<py::ssize_t> shape_of(const py::array& array) {
    return {array.shape(), array.shape() + array.ndim()};
}

FluctuationSettings fluctuations_from(const py::dict& d) {
    using Grid = std::tuple<int, int>;
    using Weighted = std::tuple<std::vector<float>, int>;
    FluctuationSettings s;
    s.seed = d["seed"].cast<std::uint64_t>();
    s.stream = d["stream"].cast<std::uint32_t>();
    for (const auto& [cells_h, cells_w] : d["scales"].cast<std::vector<Grid>>())
        s.scales.push_back({cells_h, cells_w});
    for (const auto& [weights, smoothing] : d["mixes"].cast<std::vector<Weighted>>())
        s.mixes.push_back({weights, smoothing});
    s.constraint = constraint_from(d["constraint"].cast<std::string>());
    s.low = d["low"].cast<float>(), s.high = d["high"].cast<float>();
    return s;
}

py::ssize_t checked_count(const std::vector<py::ssize_t>& shape, int channels, int height, int width) {
    if (shape.size() != 4 || shape[1] != channels || shape[2] != height || shape[3] != width)
        throw std::invalid_argument("images must have the shape (count, " + std::to_string(channels) + ", " +
                                    std::to_string(height) + ", " + std::to_string(width) + ")");
    return shape[0];
}

void check_targets(const Targets& targets, py::ssize_t count, int maps) {
    if (targets.ndim() != 1 || targets.size() != count)
        throw std::invalid_argument("targets must hold one map for each of the " + std::to_string(count) +
                                    " images");
    for (py::ssize_t i = 0; i < count; ++i)
        if (targets.at(i) < 0 || targets.at(i) >= maps)
            throw std::invalid_argument("target " + std::to_string(targets.at(i)) +
                                        ": must be a map in 0 ... " + std::to_string(maps - 1));
}

void check_step_sizes(const Floats& step_sizes, py::ssize_t count) {
    if (step_sizes.ndim() != 1 || step_sizes.size() != count)
        throw std::invalid_argument("step_sizes must hold one for each of the " + std::to_string(count) +
                                    " images");
}

}  // namespace pyoip::bindings

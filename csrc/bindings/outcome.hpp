#pragma once

#include <algorithm>
#include <limits>
#include <vector>

#include "../stack.hpp"
#include "shared.hpp"

namespace pyoip::bindings {

// Arrays for the outcome of every ascent; those that are never begun stay "interrupted".
struct Outcome {
    Floats images, history, snapshots, activations, preactivations;
    py::array_t<std::int32_t> steps, woke;
    py::array_t<std::uint8_t> stops;

    // starts: the shape of the start images.
    Outcome(const std::vector<py::ssize_t>& starts, const AscentSettings& settings)
        : images(starts),
          history({starts[0], py::ssize_t(settings.steps) + 1}),
          snapshots({starts[0], py::ssize_t(settings.snapshot_count), starts[1], starts[2], starts[3]}),
          activations(starts[0]),
          preactivations(starts[0]),
          steps(starts[0]),
          woke(starts[0]),
          stops(starts[0]) {
        constexpr float unknown = std::numeric_limits<float>::quiet_NaN();
        for (Floats* array : {&images, &history, &snapshots, &activations, &preactivations})
            std::fill_n(array->mutable_data(), array->size(), unknown);
        std::fill_n(steps.mutable_data(), steps.size(), 0);
        std::fill_n(woke.mutable_data(), woke.size(), -1);
        std::fill_n(stops.mutable_data(), stops.size(), std::uint8_t(Stop::interrupted));
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

}  // namespace pyoip::bindings

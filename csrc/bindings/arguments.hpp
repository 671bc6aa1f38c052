// What Python says in mappings, names and arrays, as the plain structs of the core.
#pragma once

#include <string>
#include <tuple>
#include <vector>

#include "../fluctuations.hpp"
#include "../stack.hpp"
#include "shared.hpp"

namespace pyoip::bindings {

Objective objective_from(const std::string& name);
Constraint constraint_from(const std::string& name);
Precision precision_from(const std::string& name);

// From the mappings that pyoip/engines/core.py makes.
Stack stack_from(const std::tuple<int, int, int>& shape, const std::vector<py::dict>& layers);
AscentSettings settings_from(const py::dict& settings, const std::vector<std::int32_t>& snapshots);

// From the mapping that pyoip/fluctuations.py makes.
FluctuationSettings fluctuations_from(const py::dict& fluctuations);

// Number of images; throws unless they are (count, channels, height, width).
py::ssize_t checked_count(const std::vector<py::ssize_t>& shape, int channels, int height, int width);
void check_targets(const Targets& targets, py::ssize_t count, int maps);
void check_step_sizes(const Floats& step_sizes, py::ssize_t count);

std::vector<py::ssize_t> shape_of(const py::array& array);

}  // namespace pyoip::bindings

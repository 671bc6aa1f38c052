// What the extension modules have in common: arrays, and a long call that stays responsive.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <exception>
#include <utility>

#include "../parallel.hpp"

namespace pyoip::bindings {

namespace py = pybind11;

using Floats = py::array_t<float, py::array::c_style | py::array::forcecast>;
using Targets = py::array_t<std::int32_t, py::array::c_style | py::array::forcecast>;
using Numbers = py::array_t<std::uint64_t, py::array::c_style | py::array::forcecast>;  // of start images

// Keeps Python responsive during a long call: takes signals and reports progress from the
// calling thread. Ctrl-C and errors of the progress callable cancel the call.
class Watch {
public:
    explicit Watch(py::object progress) : progress_(std::move(progress)) {}

    Poll poll() {
        return [this](std::int64_t done, std::int64_t total) { return check(done, total); };
    }

    bool interrupted() const { return interrupted_; }

    // Raises what the progress callable raised.
    void rethrow() const {
        if (error_) std::rethrow_exception(error_);
    }

    // Also raises KeyboardInterrupt, for calls with nothing worth keeping.
    void rethrow_all() const {
        rethrow();
        if (!interrupted_) return;
        PyErr_SetNone(PyExc_KeyboardInterrupt);
        throw py::error_already_set();
    }

private:
    py::object progress_;
    bool interrupted_ = false;
    std::exception_ptr error_;

    bool check(std::int64_t done, std::int64_t total) {
        const py::gil_scoped_acquire gil;
        try {
            if (PyErr_CheckSignals() != 0) throw py::error_already_set();
            if (!progress_.is_none()) progress_(done, total);
            return false;
        } catch (const py::error_already_set& error) {
            if (error.matches(PyExc_KeyboardInterrupt))
                interrupted_ = true;
            else
                error_ = std::current_exception();
            return true;
        }
    }
};

// Runs `call` without the GIL and raises what the watch caught.
template <class Call>
void run(Watch& watch, const Call& call) {
    {
        const py::gil_scoped_release release;
        call();
    }
    watch.rethrow_all();
}

}  // namespace pyoip::bindings

// Images as they are given, in host memory or on the device, and results beside them.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "../../cuda/engine.hpp"
#include "../shared.hpp"
#include "dlpack.hpp"

namespace pyoip::bindings {

using Shape = std::vector<py::ssize_t>;

// A result on the device: float32, int32 or uint8, in C order, lent to others by DLPack.
class DeviceArray {
public:
    DeviceArray(int device, dlpack::Number number, Shape shape);

    const Shape& shape() const { return shape_; }
    std::string dtype() const;
    void* data() const { return memory_->data(); }
    dlpack::Device device() const { return {dlpack::kCuda, device_}; }
    py::capsule lend() const;

private:
    int device_;
    dlpack::Number number_;
    Shape shape_;
    std::shared_ptr<cuda::DeviceMemory> memory_;  // outlives this where it is lent
};

void register_arrays(py::module_& m);

// Images that a call reads: borrowed on the device where they lie there, else a host array.
class Images {
public:
    // Throws py::type_error or std::invalid_argument for an array on a device that is not the
    // engine's, of other numbers or in another order.
    Images(const py::object& given, const cuda::Engine& engine);

    cuda::Where where() const { return where_; }
    const Shape& shape() const { return shape_; }
    const float* data() const { return data_; }
    py::ssize_t count() const { return shape_[0]; }

private:
    cuda::Where where_;
    Shape shape_;
    const float* data_;
    py::object host_;
    std::shared_ptr<void> borrowed_;  // given back when it goes

    void borrow(const py::object& given, const cuda::Engine& engine);
};

// A new array for results, where the images are.
struct Result {
    py::object array;
    void* data;

    float* floats() const { return static_cast<float*>(data); }
};

Result make_floats(const Images& beside, const cuda::Engine& engine, const Shape& shape);
// T: float, std::int32_t or std::uint8_t.
template <class T>
Result make_on_device(const cuda::Engine& engine, const Shape& shape);

}  // namespace pyoip::bindings

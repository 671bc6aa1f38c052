#include "arrays.hpp"

#include <pybind11/stl.h>

#include <algorithm>
#include <numeric>
#include <stdexcept>
#include <type_traits>

namespace pyoip::bindings {
namespace {

std::size_t elements(const Shape& shape) {
    return std::accumulate(shape.begin(), shape.end(), std::size_t(1),
                           [](std::size_t n, py::ssize_t side) { return n * std::size_t(side); });
}

// --- lending -----------------------------------------------------------------------------------

// What a consumer holds: the tensor and a share in the memory.
struct Lent {
    dlpack::Managed managed{};
    std::vector<std::int64_t> shape, strides;
    std::shared_ptr<cuda::DeviceMemory> memory;
};

void drop(dlpack::Managed* managed) { delete static_cast<Lent*>(managed->context); }

// Of a capsule that nobody took.
void drop_capsule(PyObject* capsule) {
    if (!PyCapsule_IsValid(capsule, "dltensor")) return;
    drop(static_cast<dlpack::Managed*>(PyCapsule_GetPointer(capsule, "dltensor")));
}

std::vector<std::int64_t> dense_strides(const std::vector<std::int64_t>& shape) {
    std::vector<std::int64_t> strides(shape.size(), 1);
    for (std::size_t i = shape.size(); i-- > 1;) strides[i - 1] = strides[i] * shape[i];
    return strides;
}

// --- borrowing ---------------------------------------------------------------------------------

bool lies_on_cuda(const py::object& given) {
    if (!py::hasattr(given, "__dlpack_device__") || !py::hasattr(given, "__dlpack__")) return false;
    const auto device = given.attr("__dlpack_device__")().cast<std::pair<int, int>>();
    return device.first == dlpack::kCuda;
}

// The tensor of a capsule, and its memory until the last copy of the pointer goes.
template <class Held>
std::shared_ptr<dlpack::Tensor> taken(const py::object& capsule, const char* name, const char* used) {
    auto* held = static_cast<Held*>(PyCapsule_GetPointer(capsule.ptr(), name));
    if (held == nullptr || PyCapsule_SetName(capsule.ptr(), used) != 0) throw py::error_already_set();
    return {&held->tensor, [held](dlpack::Tensor*) {
                if (held->deleter) held->deleter(held);
            }};
}

std::shared_ptr<dlpack::Tensor> tensor_of(const py::object& capsule) {
    if (PyCapsule_IsValid(capsule.ptr(), "dltensor_versioned")) {
        const auto* held =
            static_cast<dlpack::Versioned*>(PyCapsule_GetPointer(capsule.ptr(), "dltensor_versioned"));
        if (held->major != 1)
            throw std::invalid_argument("images of DLPack " + std::to_string(held->major) + ": must be 1");
        return taken<dlpack::Versioned>(capsule, "dltensor_versioned", "used_dltensor_versioned");
    }
    if (PyCapsule_IsValid(capsule.ptr(), "dltensor"))
        return taken<dlpack::Managed>(capsule, "dltensor", "used_dltensor");
    throw py::type_error("images: __dlpack__ must give a capsule 'dltensor' or 'dltensor_versioned'");
}

bool is_dense(const dlpack::Tensor& t) {
    if (t.strides == nullptr) return true;
    std::int64_t step = 1;
    for (int i = t.dimensions; i-- > 0;) {
        if (t.shape[i] > 1 && t.strides[i] != step) return false;
        step *= std::max<std::int64_t>(t.shape[i], 1);
    }
    return true;
}

void check_device(const dlpack::Device& d, int index) {
    if (d.kind != dlpack::kCuda || d.index != index)
        throw std::invalid_argument("images on device " + std::to_string(d.index) + " of DLPack's kind " +
                                    std::to_string(d.kind) + ": must be on the engine's CUDA device " +
                                    std::to_string(index));
}

void check_tensor(const dlpack::Tensor& t, int index) {
    check_device(t.device, index);
    if (t.number.kind != dlpack::kFloat || t.number.bits != 32 || t.number.lanes != 1)
        throw std::invalid_argument("images on a CUDA device must be float32");
    if (!is_dense(t)) throw std::invalid_argument("images on a CUDA device must be contiguous, in C order");
}

template <class T>
constexpr dlpack::Number number_of() {
    return {std::is_floating_point_v<T> ? dlpack::kFloat
            : std::is_signed_v<T>       ? dlpack::kInt
                                        : dlpack::kUnsigned,
            8 * sizeof(T), 1};
}

}  // namespace

DeviceArray::DeviceArray(int device, dlpack::Number number, Shape shape)
    : device_(device),
      number_(number),
      shape_(std::move(shape)),
      memory_(std::make_shared<cuda::DeviceMemory>(
          std::max<std::size_t>(elements(shape_) * number.bits / 8, 1))) {}

std::string DeviceArray::dtype() const {
    const char* kinds[] = {"int", "uint", "float"};
    return kinds[number_.kind] + std::to_string(number_.bits);
}

py::capsule DeviceArray::lend() const {
    auto lent = std::make_unique<Lent>();
    lent->shape.assign(shape_.begin(), shape_.end());
    lent->strides = dense_strides(lent->shape);
    lent->memory = memory_;
    dlpack::Tensor& t = lent->managed.tensor;
    t.data = data(), t.device = device(), t.number = number_;
    t.dimensions = std::int32_t(shape_.size());
    t.shape = lent->shape.data(), t.strides = lent->strides.data();
    lent->managed.context = lent.get(), lent->managed.deleter = drop;
    const py::capsule capsule(&lent->managed, "dltensor", drop_capsule);
    static_cast<void>(lent.release());  // the capsule's now
    return capsule;
}

void register_arrays(py::module_& m) {
    py::class_<DeviceArray>(m, "DeviceArray", py::module_local(),
                            "An array on a CUDA device, for any library that takes DLPack.")
        .def_property_readonly("shape", [](const DeviceArray& a) { return py::tuple(py::cast(a.shape())); })
        .def_property_readonly("dtype", &DeviceArray::dtype)
        .def("__len__", [](const DeviceArray& a) { return a.shape()[0]; })
        // It is whole before anyone gets it, so no stream has to wait.
        .def("__dlpack__", [](const DeviceArray& a, const py::kwargs&) { return a.lend(); })
        .def("__dlpack_device__",
             [](const DeviceArray& a) { return py::make_tuple(a.device().kind, a.device().index); });
}

Images::Images(const py::object& given, const cuda::Engine& engine)
    : where_(lies_on_cuda(given) ? cuda::Where::device : cuda::Where::host) {
    if (where_ == cuda::Where::device) {
        borrow(given, engine);
        return;
    }
    const auto array = py::cast<Floats>(given);
    shape_.assign(array.shape(), array.shape() + array.ndim());
    data_ = array.data();
    host_ = array;
}

void Images::borrow(const py::object& given, const cuda::Engine& engine) {
    const auto device = given.attr("__dlpack_device__")().cast<std::pair<int, int>>();
    check_device({device.first, device.second}, engine.device().index);
    const auto stream = reinterpret_cast<std::uintptr_t>(engine.stream());
    const py::object capsule = given.attr("__dlpack__")(py::arg("stream") = stream);
    const std::shared_ptr<dlpack::Tensor> tensor = tensor_of(capsule);
    check_tensor(*tensor, engine.device().index);
    shape_.assign(tensor->shape, tensor->shape + tensor->dimensions);
    data_ = reinterpret_cast<const float*>(static_cast<std::byte*>(tensor->data) + tensor->byte_offset);
    borrowed_ = tensor;
}

Result make_floats(const Images& beside, const cuda::Engine& engine, const Shape& shape) {
    if (beside.where() == cuda::Where::device) return make_on_device<float>(engine, shape);
    Floats array(shape);
    return {array, array.mutable_data()};
}

template <class T>
Result make_on_device(const cuda::Engine& engine, const Shape& shape) {
    const int device = engine.device().index;
    const cuda::OnDevice current(device);
    auto made = std::make_unique<DeviceArray>(device, number_of<T>(), shape);
    void* data = made->data();
    return {py::cast(std::move(made)), data};
}

template Result make_on_device<float>(const cuda::Engine&, const Shape&);
template Result make_on_device<std::int32_t>(const cuda::Engine&, const Shape&);
template Result make_on_device<std::uint8_t>(const cuda::Engine&, const Shape&);

}  // namespace pyoip::bindings

// The structs of DLPack, by which array libraries lend each other memory; its ABI 1.0 and that
// before it.
#pragma once

#include <cstdint>

namespace pyoip::bindings::dlpack {

constexpr std::int32_t kCuda = 2;                            // kind of device
constexpr std::uint8_t kInt = 0, kUnsigned = 1, kFloat = 2;  // kind of number

struct Device {
    std::int32_t kind, index;
};

struct Number {
    std::uint8_t kind, bits;
    std::uint16_t lanes;
};

struct Tensor {
    void* data;
    Device device;
    std::int32_t dimensions;
    Number number;
    std::int64_t *shape, *strides;  // in elements; strides may be null: C order
    std::uint64_t byte_offset;
};

struct Managed {  // in a capsule "dltensor"
    Tensor tensor;
    void* context;
    void (*deleter)(Managed*);
};

struct Versioned {  // in a capsule "dltensor_versioned"
    std::uint32_t major, minor;
    void* context;
    void (*deleter)(Versioned*);
    std::uint64_t flags;
    Tensor tensor;
};

}  // namespace pyoip::bindings::dlpack

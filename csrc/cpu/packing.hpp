// The weights of a plan in the orders that the kernels read them in (plan.hpp).
#pragma once

#include "../rounding.hpp"
#include "plan.hpp"

namespace pyoip::cpu {

inline int tile_side(Method method) { return method == Method::winograd5 ? 5 : 2; }
inline int points(Method method) { return (tile_side(method) + 2) * (tile_side(method) + 2); }

// Where a window begins, in floats from the start of a layer's padded input.
inline int window_offset(const LayerPlan& p, int y, int x) { return (y * p.padded_w + x) * p.in_padded; }

// Each call fills in what it packs; a layer's sizes must be known.
class Packer {
public:
    Packer(Blocks& blocks, int lanes) : blocks_(blocks), lanes_(lanes) {}

    void pack_weights(const ConvLayer& s, LayerPlan& p);        // forward
    void pack_rows(const ConvLayer& s, LayerPlan& p);           // backward, and the target's map
    void pack_patches(const ConvLayer& s, LayerPlan& p);        // layer 1 below the target
    void pack_grid(const ConvLayer& s, LayerPlan& p);           // the same where nothing routes
    void pack_target_planes(const ConvLayer& s, LayerPlan& p);  // layer 1 as the target

private:
    Blocks& blocks_;
    const int lanes_;

    template <class T>
    T* keep(std::int64_t count) {
        return blocks_.keep<T>(count);
    }
    template <class Value>
    const float* pack_blocks(const LayerPlan& p, int vectors, std::int64_t items, const Value& value);
    void pack_planes(const ConvLayer& s, LayerPlan& p);
    void pack_direct(const ConvLayer& s, LayerPlan& p);
    template <int M>
    const float* pack_transformed(const ConvLayer& s, const LayerPlan& p);
};

}  // namespace pyoip::cpu

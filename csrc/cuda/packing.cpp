// Fragments. A matrix product m16n8k8 takes from lane 4 g + t the elements (k, column) = (t, g) and
// (t + 4, g) of a tile of 8 columns. They lie in the order in which a warp reads them: for each
// group of column tiles, for each step of 8 along k, for each pair of tiles of the group, for each
// lane, the two elements of the first tile and the two of the second: 16 bytes a lane, 512 in a row.
// (With one tile in a group it is 8 bytes.) Behind the last step there is one more of zeros, for the
// step that is fetched ahead.
#include "packing.hpp"

#include <algorithm>

#include "../rounding.hpp"

namespace pyoip::cuda {
namespace {

// element(k, column) for k in 0 … 8 steps - 1 and column in 0 … 8 group groups - 1.
template <class Element>
std::vector<float> fragments(int groups, int group, int steps, const Element& element) {
    const int pairs = std::max(group / 2, 1), wide = std::min(group, 2);
    std::vector<float> packed;
    packed.reserve(std::size_t(groups * steps + 1) * std::size_t(group) * 64);
    for (int set = 0; set < groups; ++set)
        for (int step = 0; step < steps; ++step)
            for (int pair = 0; pair < pairs; ++pair)
                for (int lane = 0; lane < 32; ++lane)
                    for (int tile = 0; tile < wide; ++tile)
                        for (int half = 0; half < 2; ++half)
                            packed.push_back(
                                element(step * kDepth + half * 4 + lane % 4,
                                        ((set * pairs + pair) * wide + tile) * kTileColumns + lane / 4));
    packed.resize(packed.size() + std::size_t(group) * 64, 0.0f);
    return packed;
}

float weight(const ConvLayer& s, int map, int channel, int tap) {
    if (map >= s.maps || channel >= s.in_channels) return 0.0f;
    const int taps = s.kernel_h * s.kernel_w;
    return s
        .weights[(std::size_t(map) * std::size_t(s.in_channels) + std::size_t(channel)) * std::size_t(taps) +
                 std::size_t(tap)];
}

// Steps go along the channels, tap by tap; columns are maps.
std::vector<float> pack_forward(const ConvLayer& s, const LayerPlan& p) {
    return fragments(p.groups, p.group, p.taps * p.in_depth / kDepth,
                     [&](int k, int column) { return weight(s, column, k % p.in_depth, k / p.in_depth); });
}

// Steps go along the maps, tap by tap; columns are the input's channels.
std::vector<float> pack_backward(const ConvLayer& s, const LayerPlan& p) {
    return fragments(p.back_groups, p.back_group, p.taps * p.maps_depth / kDepth, [&](int k, int column) {
        return weight(s, k % p.maps_depth, column, k / p.maps_depth);
    });
}

// Steps go along the places of a cell, eight maps by eight maps; columns are the pixels of a patch.
std::vector<float> pack_patches(const ConvLayer& s, const LayerPlan& p) {
    const int across = s.pool == Pool::max ? s.pool_w : 1;
    const int steps = p.maps_depth / kDepth * p.places;
    return fragments(p.back_groups, p.back_group, steps, [&](int k, int column) {
        const int step = k / kDepth, place = step % p.places;
        const int map = step / p.places * kDepth + k % kDepth;
        const int channel = column / (p.patch_h * p.patch_w), pixel = column % (p.patch_h * p.patch_w);
        const int y = pixel / p.patch_w - place / across * s.stride_h;
        const int x = pixel % p.patch_w - place % across * s.stride_w;
        const bool inside = y >= 0 && y < s.kernel_h && x >= 0 && x < s.kernel_w;
        return inside ? weight(s, map, channel, y * s.kernel_w + x) : 0.0f;
    });
}

}  // namespace

int choose_group(int tiles, int most) {
    for (const int group : {4, 2})
        if (group <= most && round_up(tiles, group) * 4 <= tiles * 5) return group;
    return 1;
}

HostPlan::Weights pack(const ConvLayer& s, const LayerPlan& p, bool first, bool target) {
    HostPlan::Weights w;
    w.bias.assign(std::size_t(p.groups * p.group * kTileColumns), 0.0f);
    std::copy(s.bias.begin(), s.bias.end(), w.bias.begin());
    if (first) {
        w.rows = s.weights;
        for (int k = 0; k < s.in_channels * p.taps; ++k)
            for (int map = 0; map < s.maps; ++map)
                w.forward.push_back(weight(s, map, k / p.taps, k % p.taps));
        if (!target) w.backward = pack_patches(s, p);
        return w;
    }
    w.forward = pack_forward(s, p);
    for (int map = 0; map < s.maps; ++map)
        for (int tap = 0; tap < p.taps; ++tap)
            for (int c = 0; c < p.in_depth; ++c) w.rows.push_back(weight(s, map, c, tap));
    if (!target) w.backward = pack_backward(s, p);
    return w;
}

}  // namespace pyoip::cuda

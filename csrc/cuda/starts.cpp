#include "starts.hpp"

#include <algorithm>

namespace pyoip::cuda {

HostStartPlan make_start_plan(const FluctuationSettings& settings, int channels, int height, int width) {
    HostStartPlan host;
    StartPlan& p = host.plan;
    const Mix& mix = settings.mixes.front();
    p.seed = settings.seed, p.stream = settings.stream;
    p.channels = channels, p.height = height, p.width = width;
    p.smoothing = mix.smoothing;
    p.constraint = settings.constraint, p.low = settings.low, p.high = settings.high;
    std::int64_t room = mix.smoothing > 0 ? std::int64_t(height) * width : 0;
    for (std::uint32_t slot = 0; slot < settings.scales.size(); ++slot) {
        const Cells& cells = settings.scales[slot];
        if (mix.weights[slot] == 0.0f) continue;
        p.scales[p.scale_count++] = {slot, cells.height, cells.width, mix.weights[slot], nullptr, nullptr};
        room = std::max(room, std::int64_t(cells.height) * cells.width);
        for (const auto& side : {bicubic(cells.height, height), bicubic(cells.width, width)})
            host.taps.insert(host.taps.end(), side.begin(), side.end());
    }
    p.shared_bytes =
        kLaneBytes + (std::int64_t(channels) * height * width + room) * std::int64_t(sizeof(float));
    return host;
}

void HostStartPlan::point_at(const Taps* taps_on_device) {
    for (int i = 0; i < plan.scale_count; ++i) {
        ScalePlan& scale = plan.scales[i];
        const Taps* down = taps_on_device + std::int64_t(i) * (plan.height + plan.width);
        if (scale.cells_h == plan.height && scale.cells_w == plan.width) continue;
        scale.down = down, scale.across = down + plan.height;
    }
}

}  // namespace pyoip::cuda

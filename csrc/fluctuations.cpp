// Mixes in ascending order of their weights are the branches of a tree: what two of them have in
// common in the first scales is summed once, and where they differ in their smoothing alone the
// less smoothed one is blurred on. Each mix sees the operations that it would see alone.
#include "fluctuations.hpp"

#include <algorithm>
#include <numeric>

#include "cpu/kernels.hpp"
#include "cpu/noise.hpp"
#include "grids.hpp"

namespace pyoip {
namespace {

using cpu::kRun;
using cpu::Noise;

std::size_t at(std::int64_t index) { return static_cast<std::size_t>(index); }

int rounded_up(int size) { return (size + kRun - 1) / kRun * kRun; }

// A scale, ready to be laid over planes of `height` x `width`.
struct Upsampling {
    Cells cells;
    bool plain;                            // a cell is a pixel
    std::vector<std::vector<float>> kept;  // weights of the runs
    std::vector<cpu::Run> runs;            // of cells.width
    std::vector<Taps> taps;                // of height

    Upsampling(Cells grid, int height, int width)
        : cells(grid), plain(grid.height == height && grid.width == width) {
        if (plain) return;
        taps = bicubic(cells.height, height);
        kept.resize(at(cells.width)), runs.resize(at(cells.width));
        const std::vector<Taps> across = bicubic(cells.width, width);
        for (int x = 0; x < width; ++x)
            for (int tap = 0; tap < kTaps; ++tap)
                give(across[at(x)].cells[tap], x, across[at(x)].weights[tap]);
        for (std::size_t c = 0; c < runs.size(); ++c) {
            kept[c].resize(at(rounded_up(int(kept[c].size()))), 0.0f);
            runs[c].length = int(kept[c].size()), runs[c].weights = kept[c].data();
        }
    }

    std::int64_t size() const { return std::int64_t(cells.height) * cells.width; }

private:
    // Pixels come in ascending order.
    void give(int cell, int x, float weight) {
        if (weight == 0.0f) return;
        std::vector<float>& weights = kept[at(cell)];
        if (weights.empty()) runs[at(cell)].first = x / kRun * kRun;
        weights.resize(at(x - runs[at(cell)].first + 1), 0.0f);
        weights.back() = weight;
    }
};

// Everything about a call of `start_images` that is the same for all images.
struct Prepared {
    const FluctuationSettings& settings;
    const Noise& noise;
    int channels, height, width;
    std::vector<Upsampling> scales;
    std::vector<std::size_t> order;  // of the mixes
    std::vector<float> nothing;      // a plane of zeros

    Prepared(const FluctuationSettings& given, int channels_, int height_, int width_)
        : settings(given),
          noise(cpu::choose_noise()),
          channels(channels_),
          height(height_),
          width(width_),
          order(given.mixes.size()),
          nothing(at(plane()), 0.0f) {
        for (const Cells& cells : given.scales) scales.emplace_back(cells, height, width);
        std::iota(order.begin(), order.end(), std::size_t(0));
        std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
            const Mix &one = given.mixes[a], &other = given.mixes[b];
            return one.weights != other.weights ? one.weights < other.weights
                                                : one.smoothing < other.smoothing;
        });
    }

    std::int64_t plane() const { return std::int64_t(height) * width; }
    int stride() const { return rounded_up(width); }
    bool weighs(std::size_t slot) const {
        return std::any_of(settings.mixes.begin(), settings.mixes.end(),
                           [=](const Mix& mix) { return mix.weights[slot] != 0.0f; });
    }
};

// A thread's part: one image at a time, in all mixes.
class Painter {
public:
    explicit Painter(const Prepared& prepared) : p_(prepared), slots_(prepared.scales.size()) {
        for (std::size_t slot = 0; slot < slots_.size(); ++slot) {
            const Upsampling& scale = p_.scales[slot];
            if (!p_.weighs(slot)) continue;
            slots_[slot].values.resize(at(p_.channels * scale.size()));
            slots_[slot].sum.resize(at(p_.plane()));
            if (!scale.plain) slots_[slot].rows.resize(at(std::int64_t(scale.cells.height) * p_.stride()));
        }
        blurred_.resize(at(p_.plane()));
        scratch_.resize(at(p_.plane() + 2));
    }

    // Image `index` of the pool in mix m to images + m * apart.
    void paint(std::uint64_t index, float* images, std::int64_t apart) {
        draw(index);
        for (int c = 0; c < p_.channels; ++c) paint_channel(c, images + c * p_.plane(), apart);
        for (std::size_t mix = 0; mix < p_.order.size(); ++mix)
            constrain(images + std::int64_t(mix) * apart, p_.channels * p_.plane());
    }

private:
    struct Slot {
        std::vector<float> values;  // of all channels; empty where no mix gives the scale a weight
        std::vector<float> rows;    // of one channel, upsampled along the rows and weighed
        float weight = 0.0f;        // by which; 0 where they are none yet
        std::vector<float> sum;     // of one channel and all scales up to this
    };

    const Prepared& p_;
    std::vector<Slot> slots_;
    std::vector<float> blurred_, scratch_;

    void draw(std::uint64_t index) {
        for (std::uint32_t slot = 0; slot < slots_.size(); ++slot) {
            std::vector<float>& values = slots_[slot].values;
            p_.noise.normal_values({p_.settings.seed, p_.settings.stream, slot, index}, values.data(),
                                   std::int64_t(values.size()));
        }
    }

    void paint_channel(int channel, float* images, std::int64_t apart) {
        for (Slot& slot : slots_) slot.weight = 0.0f;
        const Mix* last = nullptr;
        const float* plane = nullptr;
        for (const std::size_t number : p_.order) {
            const Mix& mix = p_.settings.mixes[number];
            const bool again = last != nullptr && last->weights == mix.weights;
            if (!again) plane = sum(channel, mix, last);
            plane = smooth(plane, mix.smoothing - (again ? last->smoothing : 0));
            std::copy_n(plane, p_.plane(), images + std::int64_t(number) * apart);
            last = &mix;
        }
    }

    // The sum of a mix, where the sums of mix `last` are at hand.
    const float* sum(int channel, const Mix& mix, const Mix* last) {
        const float* before = p_.nothing.data();
        bool shared = last != nullptr;
        for (std::size_t slot = 0; slot < slots_.size(); ++slot) {
            const float weight = mix.weights[slot];
            shared = shared && last->weights[slot] == weight;
            if (weight == 0.0f) continue;
            if (!shared) add(slot, channel, weight, before);
            before = slots_[slot].sum.data();
        }
        return before;
    }

    void add(std::size_t number, int channel, float weight, const float* before) {
        const Upsampling& scale = p_.scales[number];
        Slot& slot = slots_[number];
        const float* cells = slot.values.data() + channel * scale.size();
        if (scale.plain) return p_.noise.add_scaled(before, cells, weight, p_.plane(), slot.sum.data());
        if (slot.weight != weight)
            p_.noise.widen(cells, weight, scale.cells.height, scale.cells.width, scale.runs.data(),
                           p_.stride(), slot.rows.data());
        slot.weight = weight;
        p_.noise.add_upsampled(before, slot.rows.data(), scale.taps.data(), p_.stride(), p_.height, p_.width,
                               slot.sum.data());
    }

    const float* smooth(const float* plane, int passes) {
        for (; passes > 0; --passes) {
            p_.noise.blur(plane, p_.height, p_.width, scratch_.data(), blurred_.data());
            plane = blurred_.data();
        }
        return plane;
    }

    void constrain(float* image, std::int64_t count) const {
        if (p_.settings.constraint == Constraint::standardize) return p_.noise.standardize(image, count);
        p_.noise.clip(image, count, p_.settings.low, p_.settings.high);
    }
};

}  // namespace

void normal_values(std::uint64_t seed, std::uint32_t stream, std::uint32_t slot, std::uint64_t index,
                   float* out, std::int64_t count) {
    cpu::choose_noise().normal_values({seed, stream, slot, index}, out, count);
}

bool start_images(const FluctuationSettings& settings, int channels, int height, int width,
                  const std::uint64_t* indices, std::int64_t count, float* images, int threads,
                  const Poll& poll) {
    threads = int(std::clamp<std::int64_t>(count, 1, threads));
    const Prepared prepared(settings, channels, height, width);
    std::vector<Painter> painters(at(threads), Painter(prepared));
    const std::int64_t pixels = channels * prepared.plane();
    return parallel_for(count, threads, poll, [&](int thread, std::int64_t i, const bool*) {
        painters[at(thread)].paint(indices[i], images + i * pixels, count * pixels);
    });
}

}  // namespace pyoip

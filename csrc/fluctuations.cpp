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
    std::vector<cpu::Run> runs;            // of width, in runs
    std::vector<Taps> taps;                // of height

    Upsampling(Cells grid, int height, int width)
        : cells(grid), plain(grid.height == height && grid.width == width) {
        if (plain) return;
        taps = bicubic(cells.height, height);
        const std::vector<Taps> across = bicubic(cells.width, width);
        for (int x = 0; x < width; x += kRun) add_run(across, x);
    }

    std::int64_t size() const { return std::int64_t(cells.height) * cells.width; }

private:
    // The run of pixels from x on: its cells are neighbours.
    void add_run(const std::vector<Taps>& across, int x) {
        const int first = across[at(x)].cells[0], end = std::min(x + kRun, int(across.size()));
        std::vector<float>& weights = kept.emplace_back();
        for (int y = x; y < end; ++y)
            for (int tap = 0; tap < kTaps; ++tap) {
                const auto& [taken, weighed] = across[at(y)];
                if (weighed[tap] == 0.0f) continue;
                const std::size_t place = at((taken[tap] - first) * kRun);
                if (place >= weights.size()) weights.resize(place + kRun, 0.0f);
                weights[place + at(y - x)] = weighed[tap];
            }
        runs.push_back({first, int(weights.size()) / kRun, weights.data()});
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
            slots_[slot].room.resize(at(p_.plane()));
            if (!scale.plain) slots_[slot].rows.resize(at(std::int64_t(scale.cells.height) * p_.stride()));
        }
        scratch_.resize(at(p_.plane() + 2));
    }

    // Image `index` of the pool in mix m to images + m * apart.
    void paint(std::uint64_t index, float* images, std::int64_t apart) {
        draw(index);
        for (int c = 0; c < p_.channels; ++c) paint_channel(c, images + c * p_.plane(), apart);
        constrain(images, apart);
    }

private:
    struct Slot {
        std::vector<float> values;   // of all channels; empty where no mix gives the scale a weight
        std::vector<float> rows;     // of one channel, upsampled along the rows and weighed
        float weight = 0.0f;         // by which; 0 where they are none yet
        std::vector<float> room;     // for the sum, where it is not laid in an image
        const float* sum = nullptr;  // of one channel and all scales up to this
    };

    const Prepared& p_;
    std::vector<Slot> slots_;
    std::vector<float> scratch_;

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
        const float* before = nullptr;  // its image
        for (std::size_t place = 0; place < p_.order.size(); ++place) {
            const Mix& mix = p_.settings.mixes[p_.order[place]];
            float* image = images + std::int64_t(p_.order[place]) * apart;
            if (place + 1 < p_.order.size()) fetch(images + std::int64_t(p_.order[place + 1]) * apart);
            if (last != nullptr && last->weights == mix.weights) {
                smooth(before, mix.smoothing - last->smoothing, image);
            } else {
                smooth(sum(channel, mix, last, image), mix.smoothing, image);
            }
            last = &mix, before = image;
        }
    }

    // Images are far apart: the first of the next one is called for while this one is computed.
    void fetch(const float* image) const {
        constexpr int line = 64 / sizeof(float);
        const std::int64_t most = std::min<std::int64_t>(p_.plane(), 64 * line);
        for (std::int64_t i = 0; i < most; i += line) __builtin_prefetch(image + i, 1);
    }

    // The sum of a mix, where the sums of mix `last` are at hand. What is to be smoothed has no
    // place in the image: sums of later mixes may build on it.
    const float* sum(int channel, const Mix& mix, const Mix* last, float* image) {
        const float* before = p_.nothing.data();
        bool shared = last != nullptr;
        const std::size_t end = weighed(mix);
        for (std::size_t slot = 0; slot < end; ++slot) {
            const float weight = mix.weights[slot];
            shared = shared && last->weights[slot] == weight;
            if (weight == 0.0f) continue;
            if (!shared) {
                float* room = slots_[slot].room.data();
                add(slot, channel, weight, before, slot + 1 == end && mix.smoothing == 0 ? image : room);
            }
            before = slots_[slot].sum;
        }
        return before;
    }

    // The slot behind the last one that has a weight.
    static std::size_t weighed(const Mix& mix) {
        std::size_t end = mix.weights.size();
        while (end > 0 && mix.weights[end - 1] == 0.0f) --end;
        return end;
    }

    void add(std::size_t number, int channel, float weight, const float* before, float* out) {
        const Upsampling& scale = p_.scales[number];
        Slot& slot = slots_[number];
        slot.sum = out;
        const float* cells = slot.values.data() + channel * scale.size();
        if (scale.plain) return p_.noise.add_scaled(before, cells, weight, p_.plane(), out);
        if (slot.weight != weight)
            p_.noise.widen(cells, weight, scale.cells.height, scale.cells.width, scale.runs.data(),
                           p_.stride(), slot.rows.data());
        slot.weight = weight;
        p_.noise.add_upsampled(before, slot.rows.data(), scale.taps.data(), p_.stride(), p_.height, p_.width,
                               out);
    }

    void smooth(const float* plane, int passes, float* image) {
        if (passes == 0 && plane != image) std::copy_n(plane, p_.plane(), image);
        for (; passes > 0; --passes, plane = image)
            p_.noise.blur(plane, p_.height, p_.width, scratch_.data(), image);
    }

    void constrain(float* images, std::int64_t apart) const {
        const auto number = std::int64_t(p_.order.size());
        const std::int64_t count = p_.channels * p_.plane();
        if (p_.settings.constraint == Constraint::standardize)
            return p_.noise.standardize(images, apart, number, count);
        p_.noise.clip(images, apart, number, count, p_.settings.low, p_.settings.high);
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

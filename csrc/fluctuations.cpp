// Mixes in ascending order of their weights are the branches of a tree: what two of them have in
// common in the first scales is summed once, and where they differ in their smoothing alone the
// less smoothed one is blurred on. Each mix sees the operations that it would see alone.
#include "fluctuations.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "cpu/kernels.hpp"
#include "cpu/noise.hpp"

namespace pyoip {
namespace {

using cpu::kRun;
using cpu::kTaps;
using cpu::Noise;

std::size_t at(std::int64_t index) { return static_cast<std::size_t>(index); }

// How much a cell gives to a run of neighbouring pixels; to all others it gives nothing.
struct Spread {
    int first = 0;
    std::vector<float> weights;
};

// Spreads of `cells` over `size` pixels: Keys' cubic convolution (a = -1/2), pixel centres
// aligned, edges replicated.
std::vector<Spread> bicubic(int cells, int size) {
    std::vector<Spread> spreads(at(cells));
    for (int x = 0; x < size; ++x) {
        const double place = (x + 0.5) * cells / size - 0.5;
        const int left = int(std::floor(place));
        for (int tap = left - 1; tap <= left + 2; ++tap) {
            const double d = std::abs(place - tap);
            const double w = d < 1.0   ? (1.5 * d - 2.5) * d * d + 1.0
                             : d < 2.0 ? ((-0.5 * d + 2.5) * d - 4.0) * d + 2.0
                                       : 0.0;
            Spread& spread = spreads[at(std::clamp(tap, 0, cells - 1))];
            if (spread.weights.empty()) spread.first = x;
            spread.weights.resize(at(x - spread.first + 1), 0.0f);
            spread.weights.back() += float(w);
        }
    }
    return spreads;
}

int rounded_up(int size) { return (size + kRun - 1) / kRun * kRun; }

// A scale, ready to be laid over planes of `height` x `width`.
struct Upsampling {
    Cells cells;
    bool plain;                            // a cell is a pixel
    std::vector<std::vector<float>> kept;  // weights of the runs
    std::vector<cpu::Run> runs;            // of cells.width
    std::vector<cpu::Taps> taps;           // of height

    Upsampling(Cells grid, int height, int width)
        : cells(grid), plain(grid.height == height && grid.width == width) {
        if (plain) return;
        for (Spread& spread : bicubic(cells.width, width)) run_of(spread);
        taps.resize(at(height), cpu::Taps{});
        std::vector<int> found(at(height), 0);
        const std::vector<Spread> down = bicubic(cells.height, height);
        for (int r = 0; r < cells.height; ++r) {
            int y = down[at(r)].first;
            for (const float w : down[at(r)].weights) {
                const int tap = found[at(y)]++;
                taps[at(y)].rows[tap] = r;
                taps[at(y++)].weights[tap] = w;
            }
        }
    }

    std::int64_t size() const { return std::int64_t(cells.height) * cells.width; }

private:
    void run_of(Spread& spread) {
        const int first = spread.first / kRun * kRun;
        spread.weights.insert(spread.weights.begin(), at(spread.first - first), 0.0f);
        spread.weights.resize(at(rounded_up(int(spread.weights.size()))), 0.0f);
        kept.push_back(std::move(spread.weights));
        runs.push_back({first, int(kept.back().size()), kept.back().data()});
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
